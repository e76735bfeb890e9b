"""Enhance recordings: noisy files in, enhanced files out, of any length and sample rate, mono or stereo."""

import math
import os
import sys
from pathlib import Path

import soundfile as sf
from tabulate import tabulate
from tqdm import tqdm

from se_keras import cli
from se_keras.enhancers.base import Mixed
from se_keras.errors import UserError
from se_keras.pretrained import DEFAULT_ENHANCER, load_system
from se_keras.recipes import comparing
from se_keras.signals import streaming

LIVE_ENHANCER = "lstm-ears"  # the shipped one that is causal
DESCRIPTION = """Enhance noisy speech: files or whole folders, any sample rate, mono or stereo, any length.

  python enhance.py noisy.wav --out enhanced.wav        one file
  python enhance.py recordings/ --out enhanced/         a folder, subfolders kept
  python enhance.py a.flac b.wav --out enhanced/        several files
  python enhance.py noisy.wav --out enhanced.wav --compare
                                                        and a page, enhanced.compare.html, to hear both in step
  arecord -t raw -f S16_LE -r 16000 | python enhance.py --live pipe | aplay -t raw -f S16_LE -r 16000
                                                        while it comes in, by a causal network
  python enhance.py --live devices --look-ahead 0.25    while it comes in, by any network, half a second late

The output has the input's sample rate, channels and length, sample for sample; the suffix of the output names its format.
The enhancer works at 16 kHz: content above 8 kHz is dropped. Where the output would clip, the whole file is scaled by one gain.
A file that cannot be enhanced is reported at the end, and the others are done."""


def main(argv=None):
    parser = cli.parser(DESCRIPTION)
    parser.add_argument("inputs", nargs="*", metavar="IN", help="audio files, or folders searched for them with their subfolders")
    parser.add_argument("--out", metavar="PATH",
                        help="a file for one input file, else a folder; what it holds under the same names is replaced")
    parser.add_argument("--enhancer", metavar="NAME|RUN",
                        help="a shipped model, a run folder of train.py or finetune.py, a file of export.py, or wiener: the classical "
                             f"filter; where not given, {DEFAULT_ENHANCER}, with --live and no --look-ahead {LIVE_ENHANCER}")
    parser.add_argument("--piece", type=float, metavar="SECONDS",
                        help="files longer than two pieces are enhanced piece by piece; shorter pieces take less memory (default: "
                             f"{streaming.PIECE_S:g})")
    parser.add_argument("--dry", type=cli.fraction, default=0.0, metavar="SHARE",
                        help="mix this share of the noisy speech back in, 0 to 1: less is taken away, of noise and of speech")
    parser.add_argument("--compare", action="store_true",
                        help="write a page beside the output too, in which noisy and enhanced play in step above their spectrograms: "
                             "OUT.compare.html of a file, compare.html in a folder")
    parser.add_argument("--live", choices=("pipe", "devices"),
                        help="enhance while it comes in: pipe: raw 16-bit mono of 16 kHz from standard input to standard output; devices: "
                             "from microphone to loudspeaker (pip install sounddevice); the enhancer must be causal, as lstm is, or see "
                             "--look-ahead")
    parser.add_argument("--look-ahead", type=cli.from_zero, metavar="SECONDS",
                        help="with --live: any enhancer, in buffers of 4 s of past, a block of 0.25 s and this look-ahead, such as 0.25: "
                             "better, block and look-ahead later")
    args = parser.parse_args(argv)
    args.enhancer = args.enhancer or (LIVE_ENHANCER if args.live and args.look_ahead is None else DEFAULT_ENHANCER)
    if args.live:
        return enhance_live(parser, args)
    if args.look_ahead is not None:
        parser.error("--look-ahead is for --live: a file is heard as a whole")
    if not args.inputs or args.out is None:
        parser.error("files to enhance and --out are expected, or --live")
    args.piece = streaming.PIECE_S if args.piece is None else args.piece
    streaming.check_pieces(args.piece)
    jobs = plan(args.inputs, args.out)
    page = comparing.page_of(args.out, [target for _, target in jobs]) if args.compare else None
    system = load_system(args.enhancer)
    system = Mixed(system, args.dry) if args.dry else system
    done, failed, compared = [], [], []
    with tqdm(total=sum(duration_s(source) for source, _ in jobs), disable=None,
              bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]") as bar:
        try:
            for source, target in jobs:
                bar.set_description(source.name)
                try:
                    report = streaming.enhance_file(system, source, target, args.piece, progress=bar.update)
                    done.append((target, f"{report.duration_s:.2f} s", f"{report.sample_rate} Hz", report.channels, notice(report)))
                    compared.append((source, target))
                except UserError as error:
                    failed.append(error)
        except KeyboardInterrupt:
            bar.close()
            print(f"\ninterrupted: {len(done)} of {len(jobs)} files are enhanced, the others are as they were")
            return 130
    if done:
        print(tabulate(done, headers=("enhanced by " + system.name, "length", "rate", "channels", "notice"), disable_numparse=True))
    if page and compared:
        print(f"noisy and enhanced in step: {page}{comparing.write(page, compared, system.name)}")
    for error in failed:
        print(f"error: {error}", file=sys.stderr)
    return 2 if failed else 0


def enhance_live(parser, args):
    """Enhance standard input, or the microphone."""
    if args.inputs or args.out is not None:
        parser.error("--live takes no files and no --out: it reads standard input or the microphone")
    if args.piece is not None:
        parser.error("--piece is for files: a live recording has no end to be cut from")
    if args.compare:
        parser.error("--compare is for files: it plays what is there when they are done")
    if args.dry and args.look_ahead is None:
        parser.error("--dry is for files, and for --live with --look-ahead")
    if args.live == "pipe" and sys.stdin is None:
        raise UserError("--live pipe: standard input is closed; raw 16-bit audio is expected there")
    from se_keras.enhancers.buffered import BufferedEnhancer
    from se_keras.enhancers.live import StreamingEnhancer
    from se_keras.recipes import live

    system = load_system(args.enhancer)
    if args.look_ahead is None:
        stream = getattr(system, "stream", None) or StreamingEnhancer(system)  # a file of export.py brings its own
    else:
        stream = BufferedEnhancer(Mixed(system, args.dry) if args.dry else system, look_ahead_s=args.look_ahead)
    print(f"live by {args.enhancer}: latency {1000 * stream.latency_s:.0f} ms and the device's own; Ctrl-C ends it", file=sys.stderr)
    try:
        report = live.devices(stream) if args.live == "devices" else live.pipe(stream, sys.stdin.buffer, sys.stdout.buffer)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever listened has gone; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    print(report, file=sys.stderr)
    return 0


def plan(inputs, out):
    """Which file goes where: a list of (source, target) paths.

    Raises:
        UserError: an input that does not exist, a folder without audio, an output that cannot be what it must be (a file or a
            folder), lies over its input, or two inputs that would get one name.
    """
    for item in inputs:
        if not Path(item).exists():
            raise UserError(f"{item}: no such file or folder")
    to_folder = str(out).endswith("/") or Path(out).is_dir()
    inputs, out = [Path(item) for item in inputs], Path(out)
    if len(inputs) == 1 and inputs[0].is_file() and out.suffix and not to_folder:
        streaming.check_target(inputs[0], out)
        return [(inputs[0], out)]
    if out.is_file() or (out.suffix.lower() in streaming.FORMATS and not to_folder):
        raise UserError(f"{out}: names a file; a folder is expected for several files or a folder")
    jobs = {}
    for item in inputs:
        if item.is_dir():
            if item.resolve() == out.resolve():
                raise UserError(f"{out}: input and output are the same folder; name another output")
            found = [path for path in sorted(item.rglob("*"))
                     if streaming.is_audio(path) and not path.resolve().is_relative_to(out.resolve())]  # not what came out before
            if not found:
                raise UserError(f"{item}: a folder without audio files ({', '.join(sorted(streaming.FORMATS))})")
        else:
            found = [item]
        for source in found:
            target = out / (source.relative_to(item) if item.is_dir() else source.name)
            if target in jobs:
                raise UserError(f"{jobs[target]} and {source} would both be written to {target}; enhance them into two folders")
            streaming.check_target(source, target)
            jobs[target] = source
    return [(source, target) for target, source in jobs.items()]


def duration_s(path):
    """Seconds of audio by the file's header, for the progress bar; 0 where it cannot be read."""
    try:
        return sf.info(str(path)).duration
    except (sf.LibsndfileError, UnicodeEncodeError):
        return 0


def notice(report):
    """What a user should know of a file's output, in words."""
    said = []
    if report.gain != 1:
        said.append(f"scaled by {20 * math.log10(report.gain):.1f} dB, or it would clip")
    if report.dropped_above_8k:
        said.append("content above 8 kHz dropped")
    return "; ".join([*said, *filter(None, [report.doubt])])


if __name__ == "__main__":
    cli.run(main)
