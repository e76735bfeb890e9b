"""Training data that does not run out: mixtures drawn anew each time a row is used, by a generator of (seed, epoch, row).

Two levels. `Augmentation.redraw` changes the row (noise file, offset, SNR): what it gives is a row like any other, so that it can be
scored and cached. `Augmentation.pair` makes its waves, with what no row can say: speed, a second noise, an equaliser, a level, a room.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import fft

from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing

TRIES = 8  # draws of a noise before the row's own is taken: some clips hold long pauses
EARLY_S = 0.05  # of a room's response: what the ear takes for the speech itself, and the target keeps
_POINTS_HZ = np.array([0, 125, 250, 500, 1000, 2000, 4000, 8000])  # of the equaliser


@dataclass(frozen=True)
class Augmentation:
    """What is drawn anew, each independently. Ready-made pairs (rows with `noisy`) get speed, equaliser and level alone.

    Attributes:
        snr_db: lowest and highest SNR, drawn evenly; None for the row's own.
        noise: whether another noise file of the training set, and a random offset, is drawn.
        second_noise: share of the mixtures that get a second noise, 0 to 10 dB below the first.
        speed: slowest and fastest, as a factor; speech is resampled, so its pitch moves along.
        equaliser_db: standard deviation of a smooth random response, of speech and noise each their own.
        level_db: lowest and highest gain of the whole mixture and of its clean speech.
        rooms: folder of impulse responses (data/rooms.py), or None.
        room: share of the mixtures that stand in a room, where there are any.
    """

    snr_db: tuple | None = (-10.0, 20.0)
    noise: bool = True
    second_noise: float = 0.3
    speed: tuple = (0.9, 1.1)
    equaliser_db: float = 3.0
    level_db: tuple = (-10.0, 6.0)
    rooms: str | None = None
    room: float = 0.5

    @classmethod
    def checked(cls, settings):
        """From a JSON object or a preset's table; of None, None: no augmentation.

        Raises:
            UserError: an unknown setting, or a value that one cannot take; a folder of rooms without a response.
        """
        if settings is None:
            return None
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        if unknown := sorted(set(settings) - set(known)):
            raise UserError(f"augment has no {', '.join(unknown)}; it takes {', '.join(known)}")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        for name, value in values.items():
            expected, valid = _VALID[name]
            if not valid(value):
                raise UserError(f"augment: {name} is {settings[name]!r}; expected {expected} (its default: {known[name]!r})")
        made = cls(**values)
        if made.rooms is not None and not made.responses():
            raise UserError(f"augment: rooms {made.rooms!r} holds no .wav; make some with data/rooms.py")
        return made

    def responses(self):
        """Paths of the rooms' impulse responses, sorted."""
        return sorted(map(str, Path(self.rooms).glob("*.wav"))) if self.rooms is not None else []

    def redraw(self, row, noises, rng):
        """The row with another noise, offset and SNR, as `mixing.pair` mixes it.

        Args:
            row: manifest row; one of a ready-made pair comes back as it is.
            noises: paths of noise files to draw from.
            rng: numpy Generator.

        Returns:
            A row whose `gain` gives its new `snr_db` over the whole utterance.
        """
        if row.noisy is not None or (self.snr_db is None and not self.noise):
            return row
        clean, drawn = audio.read_cached(row.clean), row
        for _ in range(TRIES if self.noise else 0):
            path = noises[int(rng.integers(len(noises)))]
            offset = int(rng.integers(len(audio.read_cached(path))))
            if np.any(mixing.noise_segment(audio.read_cached(path), offset, row.samples)):
                drawn = dataclasses.replace(row, noise=path, offset=offset, noise_type=Path(path).parent.name)
                break
        snr_db = row.snr_db if self.snr_db is None else float(rng.uniform(*self.snr_db))
        segment = mixing.noise_segment(audio.read_cached(drawn.noise), drawn.offset, row.samples)
        if snr_db is None or not np.any(clean) or not np.any(segment):
            return row
        return dataclasses.replace(drawn, snr_db=snr_db, gain=mixing.gain_for_snr(clean, segment, snr_db))

    def pair(self, row, noises, rng):
        """The `(noisy, clean)` waves of a row, float32 of one length, with what is drawn on waves.

        Args:
            row: manifest row, redrawn and cut. At another speed the piece is read longer or shorter, so that its length stays.
            noises: paths of noise files to draw a second one from.
            rng: numpy Generator.
        """
        factor = float(rng.uniform(*self.speed))
        samples = row.length  # None: whole utterances get longer and shorter
        if samples is not None:
            read = min(round(samples * factor), row.samples)
            samples = samples if read == round(samples * factor) else None
            row = dataclasses.replace(row, start=min(row.start, row.samples - read), length=read)
        noisy, clean = mixing.pair(row)
        noise = noisy - clean
        if row.noisy is None and rng.random() < self.second_noise and np.any(noise):
            other = _piece(audio.read_cached(noises[int(rng.integers(len(noises)))]), len(noise), rng)
            if np.any(other):
                noise = mixing.mix(noise, other, float(rng.uniform(0, 10)))
        clean, noise = (_at_speed(wave, factor, samples) for wave in (clean, noise))
        if self.equaliser_db:
            clean, noise = (equalise(wave, self.equaliser_db * rng.standard_normal(len(_POINTS_HZ))) for wave in (clean, noise))
        rooms = self.responses() if row.noisy is None else []
        spoken = clean
        if rooms and rng.random() < self.room:
            spoken, clean = in_room(clean, audio.read_cached(rooms[int(rng.integers(len(rooms)))]))
        gain = np.float32(10 ** (rng.uniform(*self.level_db) / 20))
        return gain * (spoken + noise), gain * clean


def noise_files(rows):
    """Paths of the noise files of rows, sorted: what an augmentation draws from."""
    return sorted(manifest.distinct(rows, "noise"))


def equalise(wave, gains_db):
    """A wave through a smooth response that has `gains_db` at `_POINTS_HZ`, without delay and without change of energy."""
    if not np.any(wave):
        return wave
    size = fft.next_fast_len(len(wave), real=True)
    hz = np.linspace(0, audio.SAMPLE_RATE / 2, size // 2 + 1)
    response = np.exp(np.interp(np.log(hz + 60), np.log(_POINTS_HZ + 60), gains_db) * (np.log(10) / 20)).astype(np.float32)
    shaped = fft.irfft(fft.rfft(wave, size) * response, size)[:len(wave)]
    return shaped * np.float32(np.sqrt(np.vdot(wave, wave) / max(np.vdot(shaped, shaped), 1e-20)))


def in_room(wave, response):
    """Speech in a room: (all that arrives, its first 50 ms), both aligned with the wave and scaled to the direct path's level.

    Args:
        wave: float32 `(samples,)`.
        response: impulse response at 16 kHz; its largest sample is the direct path.
    """
    from scipy.signal import fftconvolve

    direct = int(np.argmax(np.abs(response)))
    response = response / response[direct]
    early = response[:direct + round(EARLY_S * audio.SAMPLE_RATE)]
    return tuple(fftconvolve(wave, part)[direct:direct + len(wave)].astype(np.float32) for part in (response, early))


def _piece(noise, samples, rng):
    return mixing.noise_segment(noise, int(rng.integers(len(noise))), samples)


def _at_speed(wave, factor, samples):
    """A wave played `factor` times as fast; cut or padded to `samples` where that is given (rounding)."""
    if factor == 1:
        return wave
    wave = audio.resample(wave, round(16_000 * factor), 16_000)
    return wave if samples is None else np.pad(wave[:samples], (0, max(samples - len(wave), 0)))


def _is_number(value, low=-np.inf, high=np.inf):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _is_range(value, low, high):
    return isinstance(value, tuple) and len(value) == 2 and all(_is_number(each, low, high) for each in value) and value[0] <= value[1]


_VALID = {
    "snr_db": ("[lowest, highest] from -100 to 100 dB, or null", lambda value: value is None or _is_range(value, -100, 100)),
    "noise": ("true or false", lambda value: isinstance(value, bool)),
    "second_noise": ("a share from 0 to 1", lambda value: _is_number(value, 0, 1)),
    "speed": ("[slowest, fastest] from 0.5 to 2", lambda value: _is_range(value, 0.5, 2)),
    "equaliser_db": ("a number from 0 to 40", lambda value: _is_number(value, 0, 40)),
    "level_db": ("[lowest, highest] from -60 to 60 dB", lambda value: _is_range(value, -60, 60)),
    "rooms": ("a folder, or null", lambda value: value is None or (isinstance(value, str) and value != "")),
    "room": ("a share from 0 to 1", lambda value: _is_number(value, 0, 1)),
}
