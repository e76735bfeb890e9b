"""Makes noisy.wav and clean.wav, a mixture of the generated demo corpus (CC0), so that a clone has something to enhance at once.

    python data/prepare.py demo && python data/examples/make.py
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from se_keras.mixtures import manifest  # noqa: E402  (the path above lets the script run from anywhere)
from se_keras.signals import audio, mixing  # noqa: E402

SECONDS = 4


def main(data=HERE.parent / "demo"):
    """The first test mixture at the SNR in the middle, cut to `SECONDS`; both files with one gain that keeps them from clipping."""
    rows = manifest.read(Path(data) / "test.jsonl")
    levels = sorted({row.snr_db for row in rows})
    row = next(row for row in rows if row.snr_db == levels[len(levels) // 2])
    waves = [wave[:SECONDS * audio.SAMPLE_RATE] for wave in mixing.pair(row)]
    gain = min(1.0, 0.9 / max(abs(wave).max() for wave in waves))
    for name, wave in zip(("noisy", "clean"), waves, strict=True):
        audio.write(HERE / f"{name}.wav", gain * wave)
    print(f"{row.id}: {row.noise_type} at {row.snr_db:g} dB, {len(waves[0]) / audio.SAMPLE_RATE:.1f} s")


if __name__ == "__main__":
    main()
