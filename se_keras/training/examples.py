"""Three validation utterances that a training is heard and seen by in TensorBoard."""

import numpy as np

from se_keras.scoring import evaluation
from se_keras.signals import mixing
from se_keras.signals.audio import SAMPLE_RATE
from se_keras.signals.stft import Stft, magnitude, stft

PLACES = ("low_snr", "middle_snr", "high_snr")
LONGEST_S = 5.0  # of each: 160 kB of 16 bits
MOST_TIMES = 20  # that the enhanced ones are kept in a training: with their picture about 1 MB each time
PICTURED, RANGE_DB, GAP = Stft(512, 128, "hann"), 60, 8  # of a spectrogram; pixels between two


class Examples:
    """Utterances of a low, a middle and a high SNR, the same ones at every call.

    Args:
        rows: validation rows, of which `evaluation.subset` chooses three: from the sixth, the half and five sixths of the way up the SNRs.
        enhancer: anything with `enhance(waves) -> waves`; as it is when it is asked.
    """

    def __init__(self, rows, enhancer):
        self.enhancer = enhancer
        chosen = sorted(evaluation.subset(rows, len(PLACES)), key=lambda row: row.snr_db or 0.0)
        samples = int(LONGEST_S * SAMPLE_RATE)
        self._pairs = {place: [wave[:samples] for wave in mixing.pair(row)] for place, row in zip(PLACES, chosen, strict=False)}
        self._gains = {place: min(1.0, 0.9 / max(np.abs(pair).max(), 1e-9)) for place, pair in self._pairs.items()}
        self.about = {place: row.id if row.snr_db is None else f"{row.id}, {row.snr_db:g} dB"
                      for place, row in zip(PLACES, chosen, strict=False)}

    def given(self):
        """{"noisy", "clean": {place: float32 `(samples,)`}}; of one utterance all versions have one gain, with which these do not clip."""
        return {kind: {place: self._gains[place] * pair[number] for place, pair in self._pairs.items()}
                for number, kind in enumerate(("noisy", "clean"))}

    def enhanced(self):
        """{"enhanced": {place: float32 `(samples,)`}}."""
        waves = self.enhancer.enhance([noisy for noisy, _ in self._pairs.values()])
        return {"enhanced": {place: self._gains[place] * wave for place, wave in zip(self._pairs, waves, strict=True)}}

    @staticmethod
    def picture(waves):
        """Spectrograms of {place: wave}, one below the other, uint8 `(rows, columns, 3)`: a pixel a frame of 8 ms and a bin of 31 Hz.

        Of each the loudest bin is the brightest, and what is `RANGE_DB` below it is black. With axes, by `report.figures`, it would take
        as long as many a training's updates between two validations.
        """
        from matplotlib import colormaps  # here: only a training asks for it

        levels = [magnitude(stft(wave, PICTURED)).T[::-1] for wave in waves.values()]  # (bins, frames), the highest bin first
        picture = np.full((sum(len(level) + GAP for level in levels) - GAP, max(level.shape[1] for level in levels), 3), 255, np.uint8)
        top = 0
        for level in levels:
            level_db = 20 * np.log10(np.maximum(level / (level.max() or 1.0), 10 ** (-RANGE_DB / 20)))
            picture[top:top + len(level), :level.shape[1]] = colormaps["magma"](1 + level_db / RANGE_DB, bytes=True)[..., :3]
            top += len(level) + GAP
        return picture
