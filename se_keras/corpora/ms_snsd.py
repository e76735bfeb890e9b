"""MS-SNSD (Microsoft): utterances strung together to clips of 10 s, each in one noise at five SNRs, as its synthesiser mixes."""

import dataclasses
import re
from pathlib import Path

import numpy as np
from tqdm import tqdm

from se_keras.corpora import protocol
from se_keras.errors import UserError
from se_keras.mixtures.manifest import SPLITS, UNKNOWN
from se_keras.signals import audio, mixing

URL = "https://github.com/microsoft/MS-SNSD"
FOLDERS = ("clean_train", "noise_train", "clean_test", "noise_test")
# Of the synthesiser's configuration.
SNRS = (0.0, 5.0, 10.0, 15.0, 20.0)  # dB
CLIP_S = 10.0  # a clip is longer than this by part of an utterance: it is not cut
SILENCE_S = 0.2  # between two utterances
LEVEL_DB = -25.0  # RMS of every utterance, and of a clip
LAYOUT = f"expected {', '.join(FOLDERS)}, as in a clone of {URL}"


def add_arguments(parser):
    """The flags of `prepare.py ms-snsd`."""
    parser.add_argument("--root", required=True, type=Path, help=f"folder that holds {', '.join(FOLDERS)}")
    parser.add_argument("--clip", type=protocol.seconds, default=CLIP_S, metavar="SECONDS",
                        help="utterances of one speaker are strung together until they are longer than this")
    parser.add_argument("--valid-speakers", type=int, default=2, metavar="N", help="speakers of clean_train held out for validation")
    protocol.Protocol.add_arguments(parser, **{f"snr_{split}": SNRS for split in SPLITS})


def settings(args):
    """What the data depend on."""
    return {"root": str(args.root.resolve()), "clip": args.clip, "valid_speakers": args.valid_speakers}


def prepare(args, out):
    """Check, hold out speakers and noises for validation, write the clips below out/clean, and mix.

    Raises:
        UserError: a missing or empty folder, several sample rates, too few speakers or noises, a file that cannot be used.
    """
    rules = dataclasses.replace(protocol.Protocol.from_args(args), one_noise=SPLITS)
    found = without_twins(find_files(args.root))
    speech = split_speakers(found["clean_train"], args.valid_speakers, rules.seed, args.root) | {"test": by_speaker(found["clean_test"])}
    noises = split_noises(found["noise_train"], rules.seed, args.root) | {"test": by_type(found["noise_test"])}
    checked = protocol.check([*found["clean_train"], *found["clean_test"]], speech=True, desc="checking speech")
    checked |= protocol.check([*found["noise_train"], *found["noise_test"]], speech=False, desc="checking noise")
    protocol.check_rate(checked)

    targets = {path: out / "wav16k" / path.relative_to(args.root).with_suffix(".wav") for name in ("noise_train", "noise_test")
               for path in found[name]}
    usable = protocol.at_16_khz({path: checked[path] for path in targets}, targets)
    clips = {split: [] for split in SPLITS}
    for split, speakers in speech.items():
        for speaker in tqdm(sorted(speakers), desc=f"{split}: clips", unit="speaker", disable=None):
            files = shuffled(speakers[speaker], rules.seed, split, speaker)
            clips[split] += write_clips(speaker, files, out / "clean" / split, args.clip)
        if UNKNOWN in speakers:
            print(f"notice: {split}: {len(speakers[UNKNOWN])} files do not say who speaks; these speakers may stand in other splits too")
    return protocol.Corpus(
        source=f"MS-SNSD, {URL}; Reddy et al., Interspeech 2019",
        licence="Edinburgh's speech CC BY 4.0, PTDB-TUG ODbL 1.0; noises of Freesound CC0, of DEMAND CC BY-SA 3.0; code MIT",
        splits={split: protocol.mixtures(split, clips[split], {kind: [usable[path] for path in files]
                                                               for kind, files in noises[split].items()}, rules) for split in SPLITS})


def find_files(root):
    """{folder: its audio files, sorted}.

    Raises:
        UserError: folders are missing or empty, with their number.
    """
    found = {name: protocol.audio_files(root / name) for name in FOLDERS}
    if missing := [name for name, files in found.items() if not files]:
        raise UserError(f"{root}: {len(missing)} of {len(FOLDERS)} folders are missing or hold no audio files ({', '.join(missing)}); "
                        f"{LAYOUT}")
    return found


def without_twins(found):
    """`find_files` without the training files that stand in the test too, byte by byte; how many these are is said."""
    kept = dict(found)
    for kind in ("clean", "noise"):
        tested = {audio.file_hash(path) for path in found[f"{kind}_test"]}
        kept[f"{kind}_train"] = [path for path in found[f"{kind}_train"] if audio.file_hash(path) not in tested]
        had = len(found[f"{kind}_train"])
        if twins := had - len(kept[f"{kind}_train"]):
            print(f"notice: {twins} of {had} files of {kind}_train are in {kind}_test too, and are left out of training")
    return kept


def speaker_of(path):
    """Who speaks in a file: "p234" of p234_001 (Edinburgh), "F01" of mic_F01_sa1 (Graz), else `UNKNOWN`."""
    match = re.match(r"(p\d{3})_|mic_([FM]\d{2})_", path.stem)
    return match[1] or match[2] if match else UNKNOWN


def by_speaker(files):
    """{speaker: files}."""
    found = {}
    for path in files:
        found.setdefault(speaker_of(path), []).append(path)
    return found


def by_type(files):
    """{noise type: files}: AirConditioner_1.wav is an AirConditioner."""
    found = {}
    for path in files:
        found.setdefault(re.sub(r"_\d+$", "", path.stem), []).append(path)
    return found


def split_speakers(files, count, seed, root):
    """{"train": {speaker: files}, "valid": ...}, `count` speakers drawn for validation. Unknown ones are trained on.

    Raises:
        UserError: too few speakers.
    """
    speakers = by_speaker(files)
    known = sorted(speakers.keys() - {UNKNOWN})
    if not 1 <= count < len(known):
        raise UserError(f"{root}: names of clean_train tell {len(known)} speakers (pNNN_*.wav, mic_FNN_*.wav), of which --valid-speakers "
                        f"{count} shall be held out; expected at least one, and another to train on")
    held_out = {known[index] for index in protocol.rng_for(seed, "ms-snsd", "speakers").permutation(len(known))[:count]}
    return {"train": {name: files for name, files in speakers.items() if name not in held_out},
            "valid": {name: speakers[name] for name in sorted(held_out)}}


def split_noises(files, seed, root):
    """{"train": {noise type: files}, "valid": ...}: one file of each type that has two or more is held out for validation.

    Raises:
        UserError: no type has two.
    """
    noises = {"train": {}, "valid": {}}
    for kind, paths in by_type(files).items():
        *trained, last = shuffled(paths, seed, "noise", kind)
        noises["train"][kind] = sorted(trained) or [last]
        if trained:
            noises["valid"][kind] = [last]
    if not noises["valid"]:
        raise UserError(f"{root / 'noise_train'}: no type has two files, of which one could be held out for validation; {LAYOUT}")
    return noises


def shuffled(files, *key):
    """The files in an order that depends on `key` alone."""
    return [files[index] for index in protocol.rng_for("ms-snsd", *key).permutation(len(files))]


def write_clips(speaker, files, folder, clip_s):
    """String utterances together and write the clips; returns them as `Speech`.

    Each utterance is brought to -25 dB RMS, 0.2 s of silence go between two, and the clip is brought to -25 dB again. What is left at
    the end is a shorter clip.

    Args:
        speaker: who speaks in all of `files`; the clips are called after him.
        files: of any sample rate, each used once.
        folder: where the clips go.
        clip_s: a clip is complete when it is longer than this, in seconds.
    """
    clips, pieces = [], []

    def finish():
        name = f"{speaker}-{len(clips):03d}"
        protocol.write(folder / f"{name}.wav", mixing.at_level(np.concatenate(pieces), LEVEL_DB))
        clips.append(protocol.Speech(name, folder / f"{name}.wav", speaker))
        pieces.clear()

    for path in files:
        if pieces:
            pieces.append(np.zeros(round(SILENCE_S * audio.SAMPLE_RATE), np.float32))
        wave, rate = audio.read_any_rate(path)
        pieces.append(mixing.at_level(audio.resample(wave, rate, audio.SAMPLE_RATE), LEVEL_DB))
        if sum(map(len, pieces)) > clip_s * audio.SAMPLE_RATE:
            finish()
    if pieces:
        finish()
    return clips
