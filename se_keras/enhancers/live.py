"""Speech enhanced while it comes in, block by block, by a causal network."""

import numpy as np
import scipy.fft

from se_keras.errors import UserError
from se_keras.signals import blocks
from se_keras.signals.audio import SAMPLE_RATE
from se_keras.signals.stft import Stft, framed_window, magnitude


class StreamingEnhancer:
    """A causal enhancer as a stream: blocks of any size in, and out what is finished; together the same as of the whole recording.

    Args:
        enhancer: a `MaskEnhancer` whose network is `models.lstm`'s.

    Attributes:
        config: its STFT.
        latency_s: algorithmic latency in seconds: a sample is finished when the last window that holds it is full.

    Raises:
        UserError: the network needs what comes later, or the STFT mirrors or cuts the end of a recording.
    """

    def __init__(self, enhancer):
        from se_keras.models import lstm

        network = getattr(enhancer, "network", None)  # wiener has none, nor has a file of export.py
        if network is None or not lstm.streams(network):
            raise UserError(f"{enhancer.name} hears the whole recording before its first output, so it cannot stream; the causal network "
                            "is lstm (lstm-ears; of exported files, its step). Any other enhances in buffers, half a second late: "
                            "--look-ahead 0.25, in Python BufferedEnhancer")
        self.config = enhancer.config
        plain = Stft(self.config.n_fft, self.config.hop_length, self.config.window)
        if self.config != plain:
            raise UserError(f"{enhancer.name}: streaming takes centred frames in zeros, {plain}; this enhancer has {self.config}")
        self.latency_s = self.config.n_fft / SAMPLE_RATE
        step = lstm.step(enhancer.network)
        self._initial = [np.zeros(state.shape, np.float32) for state in step.inputs[1:]]
        self._step = _compiled(step)
        self.framed_window = framed_window(self.config)
        self.reset()

    def reset(self):
        """Begin a new recording."""
        self._states = self._initial
        self._input = np.zeros(self.config.padding, np.float32)  # from the first sample of the next frame on
        self._sum = np.zeros((2, 0), np.float32)  # overlap-added frames and squared windows, from the next sample to come out on
        self._skip = self.config.padding  # samples before the recording's first
        self._received = self._returned = self._frames = 0

    def process(self, block):
        """The next samples of a recording.

        Args:
            block: float32 `(samples,)` at 16 kHz, any number of them, in [-1, 1].

        Returns:
            float32 `(samples,)`: what is finished with them and has not been returned before; at most `latency_s` and a hop lie between
            what came in and what came out.

        Raises:
            UserError: it is not one row of finite numbers.
        """
        block = blocks.checked(block)
        self._received += len(block)
        return self._advance(block)

    def flush(self):
        """The end of the recording: all samples that are still to come, float32 `(samples,)`. The next `process` begins a new one."""
        missing = self.config.frames(self._received) - self._frames
        end = np.zeros(missing * self.config.hop_length + self.config.n_fft, np.float32)
        left, known = self._received - self._returned, self._frames + missing
        rest = np.concatenate([self._advance(end, known), self._finished(self._sum.shape[1])])[:left] if self._received else end[:0]
        self.reset()
        return rest

    def _advance(self, samples, last=None):
        n_fft, hop = self.config.n_fft, self.config.hop_length
        self._input = np.concatenate([self._input, samples])
        finished = [np.zeros(0, np.float32)]
        while len(self._input) >= n_fft and self._frames != last:
            self._overlap_add(self._enhanced(self._input[:n_fft]))
            self._input = self._input[hop:]
            self._frames += 1
            finished.append(self._finished(hop))
        return np.concatenate(finished)

    def _enhanced(self, frame):
        """A frame of `n_fft` samples, enhanced and windowed."""
        spectrum = scipy.fft.rfft(frame * self.framed_window).astype(np.complex64)
        size = magnitude(spectrum[:, None].view(np.float32))
        mask, *self._states = self._step([size[None, None], *self._states])
        return scipy.fft.irfft(spectrum * mask[0, 0], self.config.n_fft).astype(np.float32) * self.framed_window

    def _overlap_add(self, frame):
        self._sum = np.pad(self._sum, [(0, 0), (0, len(frame) - self._sum.shape[1])])
        self._sum += np.stack([frame, self.framed_window ** 2])

    def _finished(self, samples):
        """Samples that no further frame changes, without those before the recording."""
        (wave, weight), self._sum = self._sum[:, :samples], self._sum[:, samples:]
        skipped, self._skip = min(self._skip, len(wave)), max(self._skip - len(wave), 0)
        wave = wave[skipped:] / weight[skipped:]
        self._returned += len(wave)
        return wave


def _compiled(step):
    """The step as a function of a list of arrays to NumPy arrays: called layer by layer it would cost several milliseconds a frame."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        run = tf.function(step, input_signature=[[tf.TensorSpec(each.shape, tf.float32) for each in step.inputs]])
    elif backend == "jax":
        import jax

        weights = [each.value for each in step.trainable_variables], [each.value for each in step.non_trainable_variables]
        run = jax.jit(lambda given: step.stateless_call(*weights, given)[0])
    else:
        run = step
    return lambda given: [keras.ops.convert_to_numpy(each) for each in run(given)]
