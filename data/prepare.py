"""A corpus -> a data folder: DIR/{train,valid,test}.jsonl and DIR/corpus.json."""

import contextlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

# Run as a script, Python looks for se_keras in data/ only.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from se_keras import cli, corpora, files
from se_keras.corpora import contents
from se_keras.errors import UserError
from se_keras.mixtures import manifest, parquet
from se_keras.signals import audio, mixing

DESCRIPTION = """A corpus -> DIR/{train,valid,test}.jsonl (or .parquet) and DIR/corpus.json. Layouts and licences: data/README.md

  python data/prepare.py demo
  python data/prepare.py folders --speech S --noise N --out DIR
  python data/prepare.py shards --speech SHARDS --noise SHARDS --out DIR
  python data/prepare.py pairs --noisy NOISY --clean CLEAN --out DIR
  python data/prepare.py timit --root TIMIT --noise HU100 --test-noise N --out DIR
  python data/prepare.py voicebank --root ROOT --download --out DIR
  python data/prepare.py noizeus --root ROOT --download --out DIR
  python data/prepare.py ms-snsd --root ROOT --out DIR
  python data/prepare.py dns --clean CLEAN --noise NOISE --impulse-responses RIRS --out DIR
  python data/prepare.py dns-test --root ROOT --out DIR"""


def main(argv=None):
    """Prepare the corpus that the command line names."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and not argv[0].startswith("-"):
        corpora.get(argv[0])  # an unknown corpus is told with the known ones, before argparse prints its usage
    args = arguments(argv)
    out, wanted = args.out, settings(args)
    if not args.force and (corpus := already_there(out, wanted, args.format)):
        print(f"{out}: is there already, prepared with these settings; used again (--force prepares it anew)")
    else:
        files.check_writable(out)
        try:
            corpus = prepare(args, out, wanted)
        except BaseException:
            with contextlib.suppress(OSError):
                out.rmdir()  # only where nothing was written
            raise
    show(corpus, out)
    if args.write_wavs:
        write_wavs(out, corpus["counts"])


def arguments(argv):
    """The command line of the corpus named first; every adapter adds its own flags."""
    parser = cli.parser(DESCRIPTION)
    commands = parser.add_subparsers(dest="corpus", required=True, metavar="CORPUS", help=", ".join(corpora.NAMES))
    for name in corpora.NAMES if not argv or argv[0].startswith("-") else argv[:1]:
        adapter = corpora.get(name)
        command = commands.add_parser(name, help=adapter.__doc__.splitlines()[0], description=adapter.__doc__.splitlines()[0],
                                      formatter_class=parser.formatter_class)
        adapter.add_arguments(command)
        default = Path("data/demo") if name == "demo" else None
        command.add_argument("--out", type=Path, metavar="DIR", required=default is None, default=default,
                             help="the data folder to make")
        command.add_argument("--format", choices=manifest.FORMS, help="of the manifests: jsonl, lines to read and edit, which training "
                             "holds in memory (the default); parquet, of millions of rows, written and read as a stream (needs pyarrow)")
        command.add_argument("--write-wavs", action="store_true", help="also write every mixture to DIR/wavs, for listening")
        command.add_argument("--force", action="store_true", help="prepare anew where DIR holds other data")
    return parser.parse_args(argv)


def settings(args):
    """What the rows depend on, as corpus.json keeps it."""
    chosen = corpora.get(args.corpus).settings(args)
    for name in ("snr_train", "snr_valid", "snr_test", "seed"):
        if hasattr(args, name):
            chosen[name] = getattr(args, name)
    return {"corpus": args.corpus, **chosen}


def already_there(out, wanted, form=None):
    """corpus.json of a finished folder with the same settings, None where nothing is finished in this form (None: in either).

    Raises:
        UserError: the folder holds data of other settings.
    """
    path = out / "corpus.json"
    try:
        corpus = json.loads(path.read_text(encoding="utf-8"))
        had, splits = corpus["settings"], list(corpus["counts"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not a description written by prepare.py; use another --out, or --force to replace it") from None
    other = sorted(name for name in had.keys() | wanted.keys() if had.get(name) != wanted.get(name))
    if other:
        differences = "; ".join(f"{name}: {had.get(name)} there, {wanted.get(name)} asked for" for name in other)
        raise UserError(f"{out}: holds data prepared otherwise ({differences}); use another --out, or --force to replace it")
    forms = [form] if form else manifest.FORMS
    return corpus if any(all((out / f"{split}.{each}").is_file() for split in splits) for each in forms) else None


def prepare(args, out, wanted):
    """Make the rows, then write manifests and, last, corpus.json; returns what corpus.json holds."""
    form = args.format or manifest.FORMS[0]
    if form == "parquet":
        parquet.check_installed(out)
    made, passed = corpora.get(args.corpus).prepare(args, out), contents.Fingerprint()
    new = {split: out / f"new-{split}.{form}" for split in manifest.SPLITS if split in made.splits}
    try:
        splits = {}
        for split, path in new.items():
            rows = passed.over(split, made.splits[split])
            if form == "parquet":  # straight to disk, and looked at there: they may be too many to be held
                manifest.write(path, rows)
                splits[split] = manifest.read(path, reference=False)
            else:
                splits[split] = list(rows)
        apart = {split: rows for split, rows in splits.items() if not (made.overlap and split == "test")}
        manifest.check_splits(apart)
        contents.check_contents(apart)
        corpus = {
            "name": args.corpus, "source": made.source, "licence": made.licence, **made.notes,
            **({"overlap": made.overlap} if made.overlap else {}), "sample_rate": audio.SAMPLE_RATE,
            "counts": {split: contents.counts(splits[split]) for split in made.splits}, "settings": wanted,
            "fingerprint": passed.hex(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "soundfile", "soxr")}},
        }
        (out / "corpus.json").unlink(missing_ok=True)
        for path in (out / f"{split}.{each}" for split in manifest.SPLITS for each in manifest.FORMS):
            path.unlink(missing_ok=True)
        for split, path in new.items():
            if form == "parquet":
                path.replace(out / f"{split}.parquet")
            else:
                manifest.write(out / f"{split}.{form}", splits[split])
        files.write_json(out / "corpus.json", corpus)
    finally:
        for path in new.values():
            path.unlink(missing_ok=True)
    return corpus


def show(corpus, out):
    """Print what the folder holds."""
    print(tabulate([[split, *count.values()] for split, count in corpus["counts"].items()],
                   headers=["split", "rows", "utterances", "speakers", "noise types", "noise files", "hours"]))
    if "overlap" in corpus:
        print(f"notice: {corpus['overlap']}")
    print(f"{corpus['name']} is ready in {out} (fingerprint {corpus['fingerprint'][:12]})")


def write_wavs(out, splits):
    """DIR/wavs/{split}/{clean,noisy}/<id>.wav; a pair that would clip is scaled by one gain, kept in DIR/wavs/gains.csv."""
    hours = sum(count["hours"] for count in splits.values())
    files.check_writable(out / "wavs", need_mb=50 + hours * 3600 * audio.SAMPLE_RATE * 4 / 1e6)  # two files of two bytes a sample
    gains = ["split,id,gain\n"]
    for split in splits:
        rows = manifest.read(out / f"{split}.jsonl", reference=False)
        for row in tqdm(rows, desc=f"{split}: writing wavs", unit="mixture", disable=None):
            waves = {name: wave for name, wave in zip(("noisy", "clean"), mixing.pair(row), strict=True) if wave is not None}
            peak = max(np.abs(wave).max() for wave in waves.values())
            gain = float(0.99 / peak) if peak > 0.99 else 1.0
            for name, wave in waves.items():
                audio.write(out / "wavs" / split / name / f"{row.id}.wav", np.float32(gain) * wave)
            gains.append(f"{split},{row.id},{gain!r}\n")
    (out / "wavs" / "gains.csv").write_text("".join(gains), encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
