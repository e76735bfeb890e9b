"""The tiny DCCRN and TF-GridNet of this folder, forward only, in NumPy: slow, plain, and independent of the project's networks.

Weights `w` are those of the PyTorch code, by name. Each is checked by `make.py` against what PyTorch gave.
"""

import librosa
import numpy as np
import scipy.special


def dccrn(x, w):
    """DCCRN with a mask of mode E (seorim0/DCCRN-with-various-loss-functions): wave `(1, samples)` -> its arrays by name."""
    window = np.pad(np.hanning(401)[:400], (0, 112))  # periodic Hann on the first 400 samples of a frame
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(x[0], (300, 300 + 112)), 512)[::100]
    spectrum = np.fft.rfft(frames * window).T  # (257, frames)
    h = np.stack([spectrum.real, spectrum.imag])[:, 1:]
    skips = []
    for n in range(3):
        name = f"encoder.{n}."

        def convolve(half, part, name=name):
            padded = np.pad(half, ((0, 0), (2, 2), (1, 0)))
            return conv2d(padded, *parameters(w, f"{name}0.{part}_conv"), stride=(2, 1))

        h = prelu(batch_norm(complex_product(convolve, h), w, f"{name}1"), w[f"{name}2.weight"])
        skips.append(h)
    channels, bins, steps = h.shape
    real, imag = (half.reshape(-1, steps).T for half in np.split(h, 2))
    for n in range(2):
        parts = {(part, source): lstm(given, w, f"enhance.{n}.{part}_lstm.", "")
                 for part in ("real", "imag") for source, given in (("r", real), ("i", imag))}
        real, imag = parts["real", "r"] - parts["imag", "i"], parts["real", "i"] + parts["imag", "r"]
    real, imag = (half @ w[f"enhance.1.{part}_trans.weight"].T + w[f"enhance.1.{part}_trans.bias"]
                  for half, part in ((real, "r"), (imag, "i")))
    h = np.concatenate([half.T.reshape(channels // 2, bins, steps) for half in (real, imag)])
    for n in range(3):
        name = f"decoder.{n}."
        h = np.concatenate([half for pair in zip(np.split(h, 2), np.split(skips.pop(), 2), strict=True) for half in pair])

        def convolve(half, part, name=name):
            made = conv_transpose2d(half, *parameters(w, f"{name}0.{part}_conv"), stride=(2, 1))
            return made[:, 2:2 + 2 * half.shape[1], 1:]  # padding 2 and output padding 1; the first frame is dropped

        h = complex_product(convolve, h)
        if n < 2:
            h = prelu(batch_norm(h, w, f"{name}1"), w[f"{name}2.weight"])
    mask_real, mask_imag = np.pad(h, ((0, 0), (1, 0), (0, 0)))
    size = np.sqrt(mask_real ** 2 + mask_imag ** 2)
    turn = np.arctan2(mask_imag / (size + 1e-8), mask_real / (size + 1e-8))
    made = np.sqrt(np.abs(spectrum) ** 2 + 1e-8) * np.tanh(size) * np.exp(1j * (np.angle(spectrum) + turn))
    basis = np.fft.rfft(np.eye(400, 512)).T  # least-squares inverse of the real and imaginary rows on a window's samples
    inverse = np.linalg.pinv(np.concatenate([basis.real, basis.imag]))
    waves = (inverse @ np.concatenate([made.real, made.imag])).T * window[:400]
    total = np.zeros((2, 400 + 100 * (steps - 1)))
    for t, wave in enumerate(waves):
        total[:, 100 * t:100 * t + 400] += [wave, window[:400] ** 2]
    y = np.clip(total[0] / (total[1] + 1e-8), -1, 1)[300:-300]
    return {"mask_real": mask_real[None], "mask_imag": mask_imag[None], "real": made.real[None], "imag": made.imag[None], "y": y[None],
            "stft": np.concatenate([spectrum.real, spectrum.imag])[None]}


def tf_gridnet(x, w):
    """TF-GridNet with a phase encoder and a complex mapping (Acceleration123/Speech-Enhancement): wave `(1, samples)` -> {"y": wave}."""
    window = np.sqrt(np.hanning(513)[:512])
    spectrum = librosa.stft(x[0].astype(np.float64), n_fft=512, hop_length=256, window=window, pad_mode="reflect").T

    def convolve(half, part):
        return conv2d(np.pad(half, ((0, 0), (1, 1), (0, 0))), *parameters(w, f"phase_encoder.conv_{part}"))

    real, imag = np.split(complex_product(convolve, np.stack([spectrum.real, spectrum.imag])), 2)
    h = conv2d(np.pad(np.sqrt(np.hypot(real, imag)), ((0, 0), (1, 1), (0, 0))), *parameters(w, "conv"))
    h = normalize(h, (0, 1, 2)) * w["gln.weight"][:, None, None] + w["gln.bias"][:, None, None]
    for n in range(2):
        h = gridnet_block(h, {name.split(".", 2)[2]: array for name, array in w.items() if name.startswith(f"tf_grid_blks.{n}.")})
    real, imag = conv_transpose2d(h, *parameters(w, "de_conv"))[:, 1:-1]
    wave = librosa.istft((real + 1j * imag).T, hop_length=256, window=window)
    return {"y": np.pad(wave, (0, x.shape[1] - len(wave)))[None]}


def gridnet_block(x, w):
    """One GridNet block on `(channels, frames, bins)`."""
    for way, axes in (("intra", (1, 2, 0)), ("inter", (2, 1, 0))):  # sequences along bins in each frame, then along frames in each bin
        h = normalize(x, 0) * w[f"{way}_norm.gamma"][0] + w[f"{way}_norm.beta"][0]
        kernel, bias = w[f"{way}_linear.weight"], w[f"{way}_linear.bias"]
        sequences = np.lib.stride_tricks.sliding_window_view(h.transpose(axes), kernel.shape[-1], axis=1)  # (n, steps, channels, 4)
        made = np.zeros(h.transpose(axes).shape)
        for number, sequence in enumerate(sequences.reshape(*sequences.shape[:2], -1)):
            both = np.concatenate([lstm(sequence, w, f"{way}_rnn."), lstm(sequence[::-1], w, f"{way}_rnn.", "_reverse")[::-1]], axis=-1)
            for k in range(kernel.shape[-1]):  # transposed convolution
                made[number, k:k + len(both)] += both @ kernel[:, :, k]
        x = x + (made + bias).transpose(np.argsort(axes))
    heads = len({name.split(".")[0] for name in w if name.startswith("attn_conv_Q")})
    context = []
    for head in range(heads):
        q, k, v = (project(x, w, f"attn_conv_{kind}_{head}") for kind in "QKV")
        rows = [part.transpose(1, 0, 2).reshape(part.shape[1], -1) for part in (q, k, v)]
        attention = scipy.special.softmax(rows[0] @ rows[1].T / np.sqrt(rows[0].shape[1]), axis=-1)
        context.append((attention @ rows[2]).reshape(v.shape[1], v.shape[0], -1).transpose(1, 0, 2))
    return x + project(np.concatenate(context), w, "attn_concat_proj")


def project(x, w, name):
    """A convolution of one cell, PReLU, layer normalisation over channels and bins."""
    h = prelu(conv2d(x, *parameters(w, f"{name}.0")), w[f"{name}.1.weight"])
    return normalize(h, (0, 2)) * w[f"{name}.2.gamma"][0] + w[f"{name}.2.beta"][0]


def parameters(w, name):
    return w[f"{name}.weight"], w[f"{name}.bias"]


def conv2d(x, kernel, bias, stride=(1, 1)):
    """`(in, height, width)` by `(out, in, kh, kw)`, nothing padded."""
    cells = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(1, 2))[:, ::stride[0], ::stride[1]]
    return np.einsum("iyxhw,oihw->oyx", cells, kernel) + bias[:, None, None]


def conv_transpose2d(x, kernel, bias, stride=(1, 1)):
    """`(in, height, width)` by `(in, out, kh, kw)`, nothing cut off; one row more for each step that a stride leaves."""
    (_, height, width), (_, outputs, kh, kw) = x.shape, kernel.shape
    made = np.zeros((outputs, stride[0] * height + kh - 1, stride[1] * width + kw - 1))
    for i in range(kh):
        for j in range(kw):
            rows, columns = slice(i, i + stride[0] * height, stride[0]), slice(j, j + stride[1] * width, stride[1])
            made[:, rows, columns] += np.einsum("ihw,io->ohw", x, kernel[:, :, i, j])
    return made + bias[:, None, None]


def complex_product(convolve, h):
    """(Cr + i Ci) (r + i i) of two real convolutions, biases within; channels are all the real ones, then all the imaginary ones."""
    r, i = np.split(h, 2)
    return np.concatenate([convolve(r, "real") - convolve(i, "imag"), convolve(r, "imag") + convolve(i, "real")])


def batch_norm(h, w, name):
    weight, bias, mean, variance = (w[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var"))
    return (h - mean) / np.sqrt(variance + 1e-5) * weight + bias


def normalize(h, axes):
    return (h - h.mean(axes, keepdims=True)) / np.sqrt(h.var(axes, keepdims=True) + 1e-5)


def prelu(h, slope):
    return np.where(h > 0, h, slope * h)


def lstm(x, w, name, way=""):
    """`(steps, features)` -> `(steps, units)`; gates in PyTorch's order."""
    inputs = x @ w[f"{name}weight_ih_l0{way}"].T + w[f"{name}bias_ih_l0{way}"] + w[f"{name}bias_hh_l0{way}"]
    recurrent = w[f"{name}weight_hh_l0{way}"].T
    h = c = np.zeros(len(recurrent))
    made = []
    for step in inputs:
        i, f, g, o = np.split(step + h @ recurrent, 4)
        c = scipy.special.expit(f) * c + scipy.special.expit(i) * np.tanh(g)
        h = scipy.special.expit(o) * np.tanh(c)
        made.append(h)
    return np.array(made)
