"""DNS Challenge 5 (Microsoft): pieces of 10 s of clean speech, each at an SNR and a level of its own, as its synthesiser draws them."""

import re
from pathlib import Path

import numpy as np
import soundfile as sf
from tqdm import tqdm

from se_keras.corpora import protocol
from se_keras.errors import UserError
from se_keras.mixtures.manifest import SPLITS, UNKNOWN, Utterance
from se_keras.signals import audio, mixing

URL = "https://github.com/microsoft/DNS-Challenge"
PIECE_S = 10.0
SNR_DB = (-5.0, 20.0)  # lowest and highest, drawn evenly
LEVEL_DB = (-35.0, -15.0)  # RMS of the mixture, in dB of full scale, likewise
HELD_OUT = 0.05  # share of the speakers and of the noise recordings for validation, and for the test
ROOMS = 1000  # impulse responses that are taken: more say nothing new, and the list is read for every mixture
LAYOUT = "expected folders of wav or flac files at any depth, such as datasets_fullband/clean_fullband and .../noise_fullband"


def add_arguments(parser):
    """The flags of `prepare.py dns`."""
    parser.add_argument("--clean", required=True, type=Path, help="folder of clean speech, such as clean_fullband/read_speech")
    parser.add_argument("--noise", required=True, type=Path, help="folder of noises, such as noise_fullband")
    parser.add_argument("--impulse-responses", type=Path, metavar="RIRS",
                        help=f"folder of impulse responses: {ROOMS:,} of them are put into DIR/rooms, for train.py enhancer --augment")
    parser.add_argument("--hours", type=protocol.hours, default=100.0, help="of speech to train on, drawn by file; as much noise")
    parser.add_argument("--valid-hours", type=protocol.hours, default=1.0, metavar="HOURS", help="to validate on")
    parser.add_argument("--test-hours", type=protocol.hours, default=1.0, metavar="HOURS", help="to test on")
    parser.add_argument("--piece", type=protocol.seconds, default=PIECE_S, metavar="SECONDS",
                        help="speech is cut into pieces of this length; shorter files stay whole")
    parser.add_argument("--snr", type=float, nargs=2, default=list(SNR_DB), metavar=("LOW", "HIGH"), help="SNRs in dB, drawn evenly")
    parser.add_argument("--level", type=float, nargs=2, default=list(LEVEL_DB), metavar=("LOW", "HIGH"),
                        help="RMS of a mixture in dB of full scale, drawn evenly")
    parser.add_argument("--seed", type=protocol.seed, default=0, help="seed of every random choice")


def settings(args):
    """What the data depend on."""
    paths = {name: value and str(value.resolve()) for name, value in
             (("clean", args.clean), ("noise", args.noise), ("impulse_responses", args.impulse_responses))}
    return paths | {name: getattr(args, name) for name in ("hours", "valid_hours", "test_hours", "piece", "snr", "level")}


def prepare(args, out):
    """Split by speaker and by recording, draw so many hours, check them, write pieces and responses below `out`, and list the mixtures.

    Raises:
        UserError: a missing or empty folder, too few speakers or recordings, ranges that are none, several sample rates, a file that
            cannot be used.
    """
    for flag, (low, high), (lowest, highest) in (("--snr", args.snr, (-protocol.LOUDEST, protocol.LOUDEST)),
                                                 ("--level", args.level, (-80, 0))):
        if not lowest <= low <= high <= highest:
            raise UserError(f"{flag} {low:g} {high:g}: expected a lowest and a highest value from {lowest} to {highest} dB")
    speech, noise, responses = find_files(args.clean, args.noise, args.impulse_responses)
    hours = dict(zip(SPLITS, (args.hours, args.valid_hours, args.test_hours), strict=True))
    chosen = {path: split for path, split in draw(split_files(speech, speech_group, args.seed, args.clean), hours, args.seed, "speech")}
    noises = {path: split for path, split in draw(split_files(noise, noise_group, args.seed, args.noise), hours, args.seed, "noise")}
    order = protocol.rng_for(args.seed, "dns", "rooms").permutation(len(responses))
    rooms = sorted(responses[index] for index in order[:ROOMS])
    if nameless := sum(speaker_of(path) == UNKNOWN for path in chosen):
        print(f"notice: {nameless} of {len(chosen)} files of speech do not say who speaks: they are split by file, and their speakers may "
              "stand in several splits")

    checked = protocol.check(chosen, speech=True, desc="checking speech")
    protocol.check_rate(checked)
    checked_noise = protocol.check(noises, speech=False, desc="checking noise")
    protocol.check_rate(checked_noise)
    protocol.check(rooms, speech=True, desc="checking responses")

    for name, path in zip(protocol.path_ids(rooms, args.impulse_responses), rooms, strict=True):
        wave, rate = audio.read_any_rate(path, channel=0)  # an average over microphones would be no room's response
        audio.write(out / "rooms" / f"{name}.wav", audio.resample(wave, rate, audio.SAMPLE_RATE), subtype="FLOAT")
    usable = protocol.at_16_khz(checked_noise, {path: out / "wav16k" / "noise" / path.relative_to(args.noise).with_suffix(".wav")
                                                for path in noises})
    ids = dict(zip(chosen, protocol.speech_ids(list(chosen), args.clean), strict=True))
    splits = {split: [] for split in SPLITS}
    for split, rows in splits.items():
        kinds = {usable[path]: noise_type_of(path) for path, its in noises.items() if its == split}
        for path in tqdm([path for path, its in chosen.items() if its == split], desc=f"{split}: pieces", unit="file", disable=None):
            for number, piece in enumerate(pieces(path, args.piece)):
                rows.append(mixture(f"{ids[path]}-{number:02d}", piece, speaker_of(path), kinds, out / "clean" / split, split, args))
    return protocol.Corpus(
        source=f"DNS Challenge 5, {URL}: {args.clean.resolve()} and {args.noise.resolve()}",
        licence="that of each part, see its page: LibriVox public domain, VCTK ODC-By 1.0, AudioSet CC BY 4.0, Freesound CC0, "
                "DEMAND CC BY-SA 3.0, responses of OpenSLR Apache 2.0", splits=splits)


def find_files(clean, noise, impulse_responses):
    """The audio files of the three folders, sorted; none where no impulse responses are wanted.

    Raises:
        UserError: folders are missing or empty, with their number.
    """
    folders = [folder for folder in (clean, noise, impulse_responses) if folder is not None]
    found = [protocol.audio_files(folder) for folder in folders]
    if missing := [str(folder) for folder, files in zip(folders, found, strict=True) if not files]:
        raise UserError(f"{len(missing)} of {len(folders)} folders are missing or hold no audio files ({', '.join(missing)}); {LAYOUT}")
    return found if impulse_responses is not None else [*found, []]


def speaker_of(path):
    """Who speaks: "reader_02616" or, where a name holds no reader, "book_02972" of the read books, "p225" of VCTK, else `UNKNOWN`."""
    match = re.search(r"reader_\d+", path.stem) or re.search(r"book_\d+", path.stem) or re.match(r"p\d{3}(?=_)", path.stem)
    return match[0] if match else UNKNOWN


def noise_type_of(path):
    """"door" of door_Freesound_validated_439434_0, else "unknown": the other names are those of videos."""
    match = re.match(r"(.+?)_Freesound_", path.stem)
    return match[1] if match else UNKNOWN


def speech_group(path):
    """What must not stand in two splits: a speaker's files, or a file whose speaker is not known."""
    speaker = speaker_of(path)
    return str(path) if speaker == UNKNOWN else speaker


def noise_group(path):
    """What must not stand in two splits: the cuts of one Freesound recording, or a file."""
    match = re.search(r"_Freesound_validated_(.+)_\d+$", path.stem)
    return f"Freesound {match[1]}" if match else str(path)


def split_files(files, group_of, seed, root):
    """{split: files}: groups are drawn, 5% (one at least) for validation, as many for the test, and the others to train on.

    Raises:
        UserError: fewer than three groups.
    """
    groups = {}
    for path in files:
        groups.setdefault(group_of(path), []).append(path)
    if len(groups) < len(SPLITS):
        raise UserError(f"{root}: holds {len(groups)} speakers or recordings in {len(files)} files; expected three at least, one a split")
    names = sorted(groups)
    names = [names[index] for index in protocol.rng_for(seed, "dns", group_of.__name__).permutation(len(names))]
    count = max(1, round(HELD_OUT * len(names)))
    parts = {"train": names[2 * count:], "valid": names[:count], "test": names[count:2 * count]}
    return {split: [path for name in sorted(part) for path in groups[name]] for split, part in parts.items()}


def draw(splits, hours, seed, what):
    """Yield (file, split) of files drawn until they last so many hours in each split; less than that is said.

    Args:
        splits: {split: files}.
        hours: {split: hours}.
        seed: of the draws.
        what: "speech" or "noise".
    """
    for split, files in splits.items():
        left = 3600 * hours[split]
        for index in protocol.rng_for(seed, "dns", what, split).permutation(len(files)):
            if left <= 0:
                break
            left -= seconds_of(files[index])
            yield files[index], split
        if left > 0:
            print(f"notice: {split}: {hours[split] - left / 3600:.2f} hours of {what} are there, {hours[split]:g} were asked for")


def seconds_of(path):
    """The length of a file by its header.

    Raises:
        UserError: it has none.
    """
    try:
        return sf.info(str(path)).duration
    except sf.LibsndfileError:
        audio.read_any_rate(path)  # says what is wrong
        raise


def pieces(path, piece_s):
    """Yield the pieces of a file, float32 `(samples,)` at 16 kHz, but for the rest at its end and for pauses.

    Args:
        path: a file of any rate.
        piece_s: length of a piece in seconds; a shorter file is one piece.
    """
    wave, rate = audio.read_any_rate(path)
    wave, samples = audio.resample(wave, rate, audio.SAMPLE_RATE), round(piece_s * audio.SAMPLE_RATE)
    floor = protocol.FLOOR * np.mean(np.square(wave, dtype=np.float64))
    for start in range(0, max(len(wave) - samples, 0) + 1, samples):
        piece = wave[start:start + samples]
        if np.mean(np.square(piece, dtype=np.float64)) > floor:
            yield piece


def mixture(name, piece, speaker, noises, folder, split, args):
    """Write a piece at its level and return its row: noise, SNR and the mixture's level are drawn by seed, split and name alone.

    Args:
        name: the row's id.
        piece: float32 `(samples,)`.
        speaker: a name.
        noises: {16 kHz noise file: its type}.
        folder: where the piece is written.
        split: of the row.
        args: of the command line.

    Raises:
        UserError: every noise file is digital silence.
    """
    rng = protocol.rng_for(args.seed, "dns", split, name)
    snr_db, level_db = round(float(rng.uniform(*args.snr)), 2), float(rng.uniform(*args.level))
    drawn = protocol.draw(list(noises), len(piece), rng)
    if drawn is None:
        raise UserError(f"{args.noise}: the {len(noises)} noise files of {split} are digital silence; replace them")
    noise, offset, segment = drawn
    mixed = mixing.mix(piece, segment, snr_db)
    path = folder / f"{name}.wav"
    protocol.write(path, piece * np.float32(10 ** (level_db / 20) / np.sqrt(np.mean(np.square(mixed, dtype=np.float64)))))
    clean = audio.read(path)
    return Utterance(id=name, clean=str(path), speaker=speaker, noise_type=noises[noise], samples=len(clean), snr_db=snr_db,
                     noise=str(noise), offset=offset, gain=mixing.gain_for_snr(clean, segment, snr_db))
