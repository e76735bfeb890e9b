/* Enhance a pipe of raw audio by the step form of an exported enhancer, through the C API of ONNX Runtime.
 *
 *   cc -O2 -o enhance enhance.c -I ONNXRUNTIME/include -L ONNXRUNTIME/lib -lonnxruntime -lm
 *   arecord -t raw -f S16_LE -r 16000 | ./enhance lstm-ears-step.onnx | aplay -t raw -f S16_LE -r 16000
 *
 * Mono, 16 bits, 16 kHz, in the byte order of the machine. As many samples come out as went in.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <onnxruntime_c_api.h>

enum { MOST = 64, RANK = 8 }; /* inputs of a model; dimensions of an input */

static const OrtApi *ort;
static OrtAllocator *allocator;

static void check(OrtStatus *status) {
    if (status == NULL) return;
    fprintf(stderr, "error: %s\n", ort->GetErrorMessage(status));
    exit(1);
}

static float *samples(OrtValue *tensor) {
    void *data;
    check(ort->GetTensorMutableData(tensor, &data));
    return data;
}

/* A tensor of zeros, of the shape of an input. */
static OrtValue *zeros(const OrtSession *session, size_t input, size_t *size) {
    OrtTypeInfo *type;
    const OrtTensorTypeAndShapeInfo *info;
    OrtValue *tensor;
    int64_t shape[RANK];
    size_t rank;
    check(ort->SessionGetInputTypeInfo(session, input, &type));
    check(ort->CastTypeInfoToTensorInfo(type, &info));
    check(ort->GetDimensionsCount(info, &rank));
    if (rank > RANK) rank = RANK;
    check(ort->GetDimensions(info, shape, rank));
    *size = 1;
    for (size_t axis = 0; axis < rank; axis++) {
        if (shape[axis] < 1) {
            fprintf(stderr, "error: the model takes blocks of any length; give one in the step form\n");
            exit(2);
        }
        *size *= (size_t)shape[axis];
    }
    check(ort->CreateTensorAsOrtValue(allocator, shape, rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &tensor));
    memset(samples(tensor), 0, *size * sizeof(float));
    return tensor;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: enhance MODEL-step.onnx < noisy.raw > enhanced.raw\n");
        return 2;
    }
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (ort == NULL) {
        fprintf(stderr, "error: the library is older than the header that this was compiled with\n");
        return 1;
    }
    OrtEnv *env;
    OrtSessionOptions *options;
    OrtSession *session;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "enhance", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    check(ort->CreateSession(env, argv[1], options, &session));
    check(ort->GetAllocatorWithDefaultOptions(&allocator));

    /* Inputs are the block and the states; outputs are what is enhanced and, as next_NAME, the states after it. */
    size_t count, block = 0, place = 0, size;
    char *inputs[MOST], *outputs[MOST];
    OrtValue *given[MOST], *gives[MOST];
    check(ort->SessionGetInputCount(session, &count));
    for (size_t n = 0; n < count && n < MOST; n++) {
        check(ort->SessionGetInputName(session, n, allocator, &inputs[n]));
        given[n] = zeros(session, n, &size);
        gives[n] = zeros(session, n, &size);
        outputs[n] = malloc(strlen(inputs[n]) + sizeof("next_enhanced"));
        sprintf(outputs[n], "next_%s", inputs[n]);
        if (strcmp(inputs[n], "block") == 0) {
            strcpy(outputs[n], "enhanced");
            place = n;
            block = size;
        }
    }
    if (block == 0 || count > MOST) {
        fprintf(stderr, "error: %s has no input named block; give a model in the step form\n", argv[1]);
        return 2;
    }

    int16_t *pcm = malloc(block * sizeof(int16_t));
    size_t received = 0, returned = 0, arrived;
    int first = 1; /* what comes out is one block late: the first lies before the recording, zeros bring out the last */
    while ((arrived = fread(pcm, sizeof(int16_t), block, stdin)) > 0 || returned < received) {
        received += arrived;
        for (size_t n = 0; n < block; n++) samples(given[place])[n] = n < arrived ? pcm[n] / 32768.0f : 0.0f;
        check(ort->Run(session, NULL, (const char *const *)inputs, (const OrtValue *const *)given, count,
                       (const char *const *)outputs, count, gives));
        size_t ready = first ? 0 : received - returned < block ? received - returned : block;
        for (size_t n = 0; n < ready; n++)
            pcm[n] = (int16_t)lrintf(fmaxf(-32768.0f, fminf(32767.0f, 32768.0f * samples(gives[place])[n])));
        fwrite(pcm, sizeof(int16_t), ready, stdout);
        fflush(stdout);
        for (size_t n = 0; n < count; n++) { /* the states after this block are those before the next one */
            OrtValue *swapped = given[n];
            given[n] = gives[n];
            gives[n] = swapped;
        }
        returned += ready;
        first = 0;
    }
    return 0; /* the system frees what is left */
}
