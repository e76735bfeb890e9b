"""A generated corpus: text-to-speech voices and synthesised noises, ready in seconds, nothing to download.

Voices and noise types never cross splits. `demo_speech` and `demo_noises` make the audio; here is where it goes.
"""

import itertools
import json
from importlib.metadata import version

from tqdm import tqdm

from se_keras.corpora import demo_noises, demo_speech, protocol
from se_keras.mixtures.manifest import SPLITS
from se_keras.signals import audio

VERSION = 1  # of the generated audio; raised when the code changes it
NOISE_S = 8.0  # length of a noise file in seconds
NOISE_FILES = 2  # files a noise type


def add_arguments(parser):
    """The flags of `prepare.py demo`: fewer SNRs than the letter's, so that the whole job fits in ten minutes."""
    protocol.Protocol.add_arguments(parser, snr_train=(-4.0, 2.0, 8.0), snr_valid=(-5.0, 0.0, 5.0), snr_test=(-6.0, 0.0, 6.0, 12.0))


def settings(args):
    """What the data depend on, beside the protocol."""
    return {"generator": {"version": VERSION, "praat-parselmouth": version("praat-parselmouth")}}


def prepare(args, out):
    """Generate what is missing below out/speech and out/noise, and mix."""
    rules = protocol.Protocol.from_args(args)
    spoken = {(group, voice): [_folder(out, group) / voice / f"{voice}-{number}.wav" for number in range(count)]
              for group, count in demo_speech.UTTERANCES.items() for voice, *_ in demo_speech.VOICES[group]}
    noises = {split: {kind: [out / "noise" / split / kind / f"{kind}-{number}.wav" for number in range(NOISE_FILES)]
                      for kind in kinds} for split, kinds in demo_noises.TYPES.items()}
    _check_stamp(out / "generated.json", {**settings(args)["generator"], "seed": rules.seed},
                 itertools.chain(*spoken.values(), *(files for by_type in noises.values() for files in by_type.values())))

    demo_speech.synthesize(spoken, rules.seed)
    by_type = [item for types in noises.values() for item in types.items()]
    for kind, files in tqdm(by_type, desc="noises", unit="type", disable=None):
        talkers = [[audio.read(path) for path in paths] for (group, _), paths in spoken.items() if group == kind]
        for number, path in enumerate(files):
            if not path.is_file():
                rng = protocol.rng_for(rules.seed, "demo", kind, number)
                wave = demo_noises.make(kind, rng, int(NOISE_S * audio.SAMPLE_RATE), talkers)
                audio.write(path, demo_speech.normalized(wave))

    speech = {split: [protocol.Speech(path.stem, path, voice)
                      for (group, voice), paths in spoken.items() if group == split for path in paths] for split in SPLITS}
    return protocol.Corpus(
        source=f"generated: espeak-ng voices of praat-parselmouth {version('praat-parselmouth')}, synthesised noises",
        licence="CC0-1.0: generated, holds no recording (the synthesiser itself is GPLv3)",
        splits=protocol.build(speech, noises, out, rules))


def _folder(out, group):
    """Where the voices of a split go, or the talkers of a noise type."""
    return out / "speech" / group if group in SPLITS else out / "noise" / "talkers" / group


def _check_stamp(path, stamp, generated):
    """Where what was generated before is of another version or seed, remove these files, and only these."""
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8")) != stamp:
        for one in generated:
            one.unlink(missing_ok=True)
        path.write_text(json.dumps(stamp) + "\n", encoding="utf-8")
