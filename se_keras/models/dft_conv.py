"""Convolution with large kernels by the discrete Fourier transform of tiles: two to three times faster on a CPU.

Quality-Net spends nearly all its time in its 9x9 and 11x11 convolutions. An 11x11 kernel costs 121 multiplications for each
input channel of each output value. In the Fourier domain it costs about 2.1 x 4 / 2 real ones (a tile of 32 x 32 gives 22 x 22
outputs; a complex product is four real ones; half the spectrum of a real signal is enough), and the transforms of 40 + 50
channels little beside them, since each channel is transformed once and used 50 or 40 times. This is the overlap-save method in
two dimensions, its transforms written as matrix products (n = 32 is too small for an FFT to pay), so that everything is a matrix
product and differentiates as such on every backend. Float32 rounding: about 1e-6 of the largest output.
"""

import functools

import keras
import numpy as np
from keras import ops

from se_keras.backend import on_cpu
from se_keras.models.layers import register

TILE = 32  # samples a side; 24 and 48 are slower (11x11, 40 -> 50 channels)
SMALLEST_KERNEL = 9  # below it the direct convolution is as fast


@functools.lru_cache
def _matrices(n, size):
    """The transforms as real matrices, for tiles of n and kernels of `size`; real and imaginary parts stacked."""
    half, keep = n // 2 + 1, slice(size - 1, None)  # the first size - 1 outputs of a tile are wrapped round: not kept
    angle = 2 * np.pi * np.outer(np.arange(n), np.arange(n)) / n
    cos, sin = np.cos(angle), np.sin(angle)
    real_forward = np.concatenate([cos[:half], -sin[:half]])  # (2 half, n): real -> half spectrum
    forward = np.block([[cos, sin], [-sin, cos]])  # (2 n, 2 n): complex -> complex
    forward_kernel = np.block([[cos[:, :size], sin[:, :size]], [-sin[:, :size], cos[:, :size]]])
    inverse = np.block([[cos[keep], -sin[keep]], [sin[keep], cos[keep]]]) / n
    weight = np.where((np.arange(half) == 0) | (np.arange(half) == n // 2), 1.0, 2.0)  # the other half: complex conjugates
    real_inverse = np.concatenate([cos[keep, :half] * weight, -sin[keep, :half] * weight], axis=1) / n
    per_bin = [np.broadcast_to(matrix, (half, *matrix.shape)) for matrix in (forward, forward_kernel, inverse)]
    return [np.ascontiguousarray(matrix, np.float32) for matrix in (real_forward, real_forward[:, :size], *per_bin, real_inverse)]


def _tile(x, axis, count, step, overlap):
    """Cut `axis`, of length count * step + overlap, into `count` tiles of step + overlap that overlap: axis -> (count, step + overlap)."""
    shape = ops.shape(x)
    split = (*shape[:axis], count, step, *shape[axis + 1:])
    own = ops.reshape(_cut(x, axis, 0, count * step), split)
    padding = [[0, 0]] * len(shape)
    padding[axis] = [0, step - overlap]
    following = ops.reshape(ops.pad(_cut(x, axis, step, (count - 1) * step + overlap), padding), split)
    return ops.concatenate([own, _cut(following, axis + 1, 0, overlap)], axis=axis + 1)


def _cut(x, axis, start, length):
    """x[..., start:start + length, ...] along `axis`; `ops.slice`, whose gradient is a padding, where that of x[...] is slow."""
    starts, lengths = [0] * len(x.shape), list(ops.shape(x))
    starts[axis], lengths[axis] = start, length
    return ops.slice(x, starts, lengths)


def dft_convolution(x, kernel, n=TILE):
    """The 'valid' convolution (cross-correlation, as in every deep-learning library) of stride 1.

    Args:
        x: float32 `(batch, rows, columns, channels)`; rows and columns at least the kernel's size.
        kernel: float32 `(size, size, channels, filters)`, square.
        n: side of a tile; at least 2 * size - 2.

    Returns:
        float32 `(batch, rows - size + 1, columns - size + 1, filters)`.
    """
    size, _, channels, filters = kernel.shape
    step, half = n - size + 1, n // 2 + 1
    if step < size - 1:
        raise ValueError(f"a tile of {n} is too small for a kernel of {size}; it takes at least {2 * size - 2}")
    real_forward, real_forward_kernel, forward, forward_kernel, inverse, real_inverse = _matrices(n, size)
    batch, rows, columns = ops.shape(x)[0], ops.shape(x)[1], x.shape[2]
    down, across = (rows - size) // step + 1, (columns - size) // step + 1  # tiles
    x = ops.pad(x, [[0, 0], [0, down * step + size - 1 - rows], [0, across * step + size - 1 - columns], [0, 0]])
    x = _tile(_tile(x, 2, across, step, size - 1), 1, down, step, size - 1)  # (batch, down, n, across, n, channels)

    x = ops.matmul(real_forward, ops.reshape(x, (-1, n, channels)))  # columns of each tile, to half a spectrum
    x = ops.transpose(ops.reshape(x, (batch, down, n, across, 2, half, channels)), (5, 4, 2, 0, 1, 3, 6))
    x = ops.matmul(forward, ops.reshape(x, (half, 2 * n, -1)))  # rows
    x = ops.reshape(x, (half, 2, n, -1, channels))  # (half, 2, n, tiles, channels)

    flipped = ops.transpose(ops.flip(kernel, axis=(0, 1)), (1, 0, 2, 3))
    k = ops.reshape(ops.matmul(real_forward_kernel, ops.reshape(flipped, (size, -1))), (2, half, size, channels * filters))
    k = ops.matmul(forward_kernel, ops.reshape(ops.transpose(k, (1, 0, 2, 3)), (half, 2 * size, channels * filters)))
    k = ops.reshape(k, (half, 2, n, channels, filters))

    (x_real, x_imaginary), (k_real, k_imaginary) = ops.unstack(x, axis=1), ops.unstack(k, axis=1)
    real = ops.matmul(x_real, k_real) - ops.matmul(x_imaginary, k_imaginary)  # a complex product at each of half * n frequencies
    imaginary = ops.matmul(x_real, k_imaginary) + ops.matmul(x_imaginary, k_real)
    y = ops.reshape(ops.concatenate([real, imaginary], axis=1), (half, 2 * n, -1))

    y = ops.reshape(ops.matmul(inverse, y), (half, 2, step, batch, down, across, filters))
    y = ops.reshape(ops.transpose(y, (3, 4, 2, 5, 1, 0, 6)), (-1, 2 * half, filters))
    y = ops.reshape(ops.matmul(real_inverse, y), (batch, down * step, across * step, filters))
    return _cut(_cut(y, 1, 0, rows - size + 1), 2, 0, columns - size + 1)


@register
class LargeKernelConv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D of stride 1, with the same weights, that goes by `dft_convolution` where this is faster.

    That is: in float32, on a CPU, with square kernels of at least `SMALLEST_KERNEL` that fit a tile twice. Elsewhere it is Conv2D.
    """

    def call(self, inputs):
        if not self._dft_is_faster():
            return super().call(inputs)
        size = self.kernel_size[0]
        if self.padding == "same":
            before = (size - 1) // 2
            inputs = ops.pad(inputs, [[0, 0], [before, size - 1 - before], [before, size - 1 - before], [0, 0]])
        outputs = dft_convolution(inputs, ops.convert_to_tensor(self.kernel))
        if self.use_bias:
            outputs = outputs + self.bias
        return outputs if self.activation is None else self.activation(outputs)

    def _dft_is_faster(self):
        return (self.compute_dtype == "float32" and SMALLEST_KERNEL <= self.kernel_size[0] == self.kernel_size[1] <= TILE // 2 + 1
                and self.strides == self.dilation_rate == (1, 1) and self.groups == 1 and self.data_format == "channels_last"
                and self.padding in ("valid", "same") and on_cpu())
