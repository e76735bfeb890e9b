"""Simulated room impulse responses -> DIR/0000.wav, 0001.wav ..., for `train.py enhancer --augment '{"rooms": "DIR"}'`."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

# Run as a script, Python looks for se_keras in data/ only.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from tqdm import tqdm

from se_keras import cli, files
from se_keras.errors import UserError
from se_keras.signals import audio

DESCRIPTION = """Impulse responses of simulated rooms -> DIR/0000.wav, 0001.wav ...: 16 kHz, float, the direct path the largest sample, 1.

  pip install -r requirements-extras.txt
  python data/rooms.py --count 500 --out data/rooms
  python train.py enhancer --data data/mine --augment '{"rooms": "data/rooms"}' --out runs/mse

Shoebox rooms of random size and reverberation time; speaker and microphone stand anywhere in them. The same seed gives the same
samples; a larger --count adds to them."""
LOWEST_M, HIGHEST_M = (3.0, 3.0, 2.4), (10.0, 8.0, 4.0)  # length, width, height
RT60_S = (0.15, 0.7)
FROM_WALLS_M = 0.5  # of speaker and microphone, and between them
SOUND_M_S = 343.0
PLACES = 100  # tried in a room before another one is drawn


@dataclass(frozen=True)
class Room:
    """A shoebox room.

    Attributes:
        size_m: length, width and height, float64 `(3,)`.
        rt60_s: reverberation time by Sabine's formula. What a response of it measures may be a third less, or half as much again.
        absorption: of energy, of each wall.
        order: reflections followed.
    """

    size_m: np.ndarray
    rt60_s: float
    absorption: float
    order: int


def main(argv=None):
    parser = cli.parser(DESCRIPTION)
    parser.add_argument("--count", type=cli.positive_int, default=500, metavar="N", help="rooms")
    parser.add_argument("--seed", type=cli.from_zero_int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the responses")
    args = parser.parse_args(argv)
    if importlib.util.find_spec("pyroomacoustics") is None:
        raise UserError("rooms need the package pyroomacoustics, an extra: pip install -r requirements-extras.txt")
    names = [f"{number:04d}.wav" for number in range(args.count)]
    if others := sorted({path.name for path in args.out.glob("*.wav")} - set(names)):
        raise UserError(f"{args.out}: holds {others[0]}, which is none of the {args.count} to be made; name another folder")
    files.check_writable(args.out, need_mb=50 + args.count * 0.1)
    for number, name in enumerate(tqdm(names, desc="rooms", unit="room", disable=None)):
        response, _ = respond(np.random.default_rng([args.seed, number]))
        audio.write(args.out / name, response, subtype="FLOAT")
    print(f"{args.count} rooms are ready in {args.out}: train.py enhancer --augment '{{\"rooms\": \"{args.out}\"}}'")


def respond(rng):
    """The response of a room and of places in it, drawn until the direct path is the largest sample.

    Args:
        rng: numpy Generator.

    Returns:
        (float32 `(samples,)`, `Room`).
    """
    while True:
        room = draw(rng)
        for _ in range(PLACES):
            places = draw_places(room, rng)
            if places is not None and (response := simulate(room, *places)) is not None:
                return response, room


def draw(rng):
    """A random `Room` whose walls can absorb enough for its reverberation time."""
    import pyroomacoustics

    while True:
        size_m, rt60_s = rng.uniform(LOWEST_M, HIGHEST_M), float(rng.uniform(*RT60_S))
        try:
            absorption, order = pyroomacoustics.inverse_sabine(rt60_s, size_m, c=SOUND_M_S)
        except ValueError:  # too large for so short a time
            continue
        return Room(size_m, rt60_s, absorption, order)


def draw_places(room, rng):
    """Places of speaker and microphone, float64 `(3,)` in metres, a whole number of samples apart; None where they are too near."""
    source, microphone = rng.uniform(FROM_WALLS_M, room.size_m - FROM_WALLS_M, (2, 3))
    distance_m = np.linalg.norm(microphone - source)
    if distance_m < FROM_WALLS_M:
        return None
    # At most 2.1 cm nearer, so that the direct path arrives on a sample: between two, neither would show its level.
    whole_m = np.floor(distance_m * audio.SAMPLE_RATE / SOUND_M_S) * SOUND_M_S / audio.SAMPLE_RATE
    return source, source + (microphone - source) * (whole_m / distance_m)


def simulate(room, source, microphone):
    """The impulse response by image sources (Allen and Berkley 1979).

    Args:
        room: `Room`.
        source, microphone: places in metres, float64 `(3,)`.

    Returns:
        float32 `(samples,)`, its direct path 1 and the largest sample; None where reflections add up to more than that.
    """
    import pyroomacoustics

    pyroomacoustics.constants.set("num_threads", 1)  # more add up in another order: other last bits
    pyroomacoustics.constants.set("c", SOUND_M_S)
    shoebox = pyroomacoustics.ShoeBox(room.size_m, fs=audio.SAMPLE_RATE, materials=pyroomacoustics.Material(room.absorption),
                                      max_order=room.order)
    shoebox.add_source(source)
    shoebox.add_microphone(microphone)
    shoebox.compute_rir()
    response = shoebox.rir[0][0]
    arrives = round(np.linalg.norm(microphone - source) / SOUND_M_S * audio.SAMPLE_RATE)
    direct = arrives + pyroomacoustics.constants.get("frac_delay_length") // 2  # each reflection is a windowed sinc
    if np.argmax(np.abs(response)) != direct:
        return None
    end = direct + round(1.5 * room.rt60_s * audio.SAMPLE_RATE)  # what follows is some 60 dB down or more
    return (response[:end] / response[direct]).astype(np.float32)


if __name__ == "__main__":
    cli.run(main)
