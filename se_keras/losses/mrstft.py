"""Multi-resolution STFT loss (Yamamoto, Song and Kim 2020, "Parallel WaveGAN"), one value an utterance."""

from keras import ops

from se_keras.signals.stft import Stft, stft_ops

RESOLUTIONS = tuple(Stft(n_fft, hop_length, "hann", win_length) for n_fft, hop_length, win_length in  # its Table 1
                    ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)))
_FLOOR = 1e-7  # of a power, as there: a finite logarithm and gradient at silence


def mrstft(clean, enhanced, own):
    """Spectral convergence and distance of log magnitudes, averaged over three resolutions (equations 4 to 6).

    |C - E|_F / |C|_F + mean |log C - log E|, each over an utterance's own frames.

    Args:
        clean, enhanced: float32 `(batch, samples)`, zero beyond an utterance's own samples.
        own: mask of an utterance's own samples, bool `(batch, samples)`.

    Returns:
        float32 `(batch,)`, >= 0.
    """
    samples = ops.sum(ops.cast(own, "int32"), axis=1)
    total = 0.0
    for config in RESOLUTIONS:
        c, e = (ops.sqrt(ops.sum(ops.square(stft_ops(wave, config)), axis=-1) + _FLOOR) for wave in (clean, enhanced))
        frames = ops.expand_dims(config.frames(samples), -1)
        valid = ops.expand_dims(ops.cast(ops.arange(ops.shape(c)[1]) < frames, "float32"), -1)
        distance, reference = (ops.sqrt(ops.sum(ops.square(x) * valid, axis=(1, 2)) + _FLOOR) for x in (c - e, c))
        of_logs = ops.mean(ops.abs(ops.log(c) - ops.log(e)) * valid, axis=2)
        total = total + distance / reference + ops.sum(of_logs, axis=1) / ops.maximum(ops.sum(valid, axis=(1, 2)), 1.0)
    return total / len(RESOLUTIONS)
