"""Speech enhanced while it comes in by an enhancer that needs context on both sides: block by block, each within a buffer."""

import numpy as np

from se_keras.errors import UserError
from se_keras.signals import blocks
from se_keras.signals.audio import SAMPLE_RATE

LONGEST_S = 60  # of past, block or look-ahead: all are enhanced anew for each block


class BufferedEnhancer:
    """Any system as a stream: blocks of any size in, and out what is finished; as many samples out as in.

    Each block is enhanced with what came before it and a little of what comes after it, as if these were all of the recording, and
    the context is thrown away. A bidirectional network so gives nearly what it gives of the whole file, half a second late. The
    context costs: a second of audio takes (past + block + look-ahead) / block times the computing that it takes in a file.

    Args:
        system: anything with `name` and `enhance(waves) -> waves`, float32 `(samples,)` at 16 kHz.
        block_s: seconds that are finished at a time, above 0.
        past_s: seconds before a block that are heard with it, from 0.
        look_ahead_s: seconds behind a block that are heard with it, from 0.
        fade_s: seconds at the start of a block that are faded in over what the buffer before made of them, which had less look-ahead; no
            more than `look_ahead_s` is taken. A short one hides the joint, a long one costs quality.

    Attributes:
        block: samples in a block, which it is best fed by.
        lag: samples that are missing after `process` at most, where it is fed whole blocks.
        latency_s: algorithmic latency in seconds, block and look-ahead: the first sample of a block waits for the last of its look-ahead.
            The STFT adds nothing: its last frames are filled up with zeros, and lie in the look-ahead.

    Raises:
        UserError: another length in seconds.
    """

    def __init__(self, system, *, block_s=0.25, past_s=4.0, look_ahead_s=0.25, fade_s=0.016):
        sizes = {"block_s": block_s, "past_s": past_s, "look_ahead_s": look_ahead_s, "fade_s": fade_s}
        if not all(0 <= size <= LONGEST_S for size in sizes.values()) or round(block_s * SAMPLE_RATE) < 1:
            raise UserError(f"a buffer of {', '.join(f'{name} {size:g}' for name, size in sizes.items())}: 0 to {LONGEST_S} seconds are "
                            "expected, and a block of a sample or more")
        self.system = system
        self.block, self._past, self._look_ahead, self._fade = (round(size * SAMPLE_RATE) for size in sizes.values())
        self._fade = min(self._fade, self._look_ahead)
        self.latency_s = (self.block + self._look_ahead) / SAMPLE_RATE
        self.lag = -(-self._look_ahead // self.block) * self.block
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, self._past + self.block + self._look_ahead).astype(np.float32)
        for samples in {self.block + self._look_ahead, len(noise)}:  # compiled for any length before the first block waits for it
            system.enhance([noise[:samples]])
        self.reset()

    def reset(self):
        """Begin a new recording."""
        self._buffer = np.zeros(0, np.float32)  # the past of the next block, and all that has come since
        self._before = 0  # samples of it that are past
        self._tail = np.zeros(0, np.float32)  # what the buffer before made of the next block's start

    def process(self, block):
        """The next samples of a recording.

        Args:
            block: float32 `(samples,)` at 16 kHz, any number of them, in [-1, 1].

        Returns:
            float32 `(samples,)`: the blocks that are finished with them. Fewer samples than `latency_s` has lie between what came in and
            what came out.

        Raises:
            UserError: it is not one row of finite numbers, or the system gave what is none.
        """
        self._buffer = np.concatenate([self._buffer, blocks.checked(block)])
        finished = [np.zeros(0, np.float32)]
        while len(self._buffer) >= (needed := self._before + self.block + self._look_ahead):
            finished.append(self._enhanced(self._buffer[:needed])[:self.block])
            end = self._before + self.block
            self._before = min(end, self._past)
            self._buffer = self._buffer[end - self._before:]
        return np.concatenate(finished)

    def flush(self):
        """The end of the recording: all samples that are still to come, float32 `(samples,)`. The next `process` begins a new one."""
        rest = self._enhanced(self._buffer) if len(self._buffer) > self._before else np.zeros(0, np.float32)
        self.reset()
        return rest

    def _enhanced(self, buffer):
        """What is new of a buffer, enhanced: without its past, its start faded in over the tail, from which the next tail is taken."""
        enhanced, = blocks.enhanced(self.system, [buffer])
        wave = np.asarray(enhanced[self._before:], np.float32)
        tail, self._tail = self._tail, wave[self.block:self.block + self._fade]
        return blocks.faded(tail, wave)
