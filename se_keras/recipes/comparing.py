"""enhance.py --compare: a page in which noisy and enhanced recordings play in step."""

from pathlib import Path

from se_keras.errors import UserError
from se_keras.signals import audio, streaming

MOST_FILES = 40  # in a page
LONGEST_S, TOTAL_S = 60.0, 600.0  # of one recording, and of all of them: about 10 MB


def page_of(out, targets):
    """Where the page goes: beside an output file, within an output folder.

    Its name holds the output's, and its place follows from --out, so that --compare needs no name of its own.

    Args:
        out: --out.
        targets: the output files.

    Raises:
        UserError: a folder lies there.
    """
    out = Path(out)
    page = out.with_suffix(".compare.html") if targets == [out] else out / "compare.html"
    if page.is_dir():
        raise UserError(f"{page}: is a folder, and --compare writes its page there; move it away")
    return page


def write(page, pairs, name):
    """Write the page: the start of each recording, noisy and enhanced, at 16 kHz, its channels averaged.

    Args:
        page: its path.
        pairs: (source, target) of each file that was enhanced. The first `MOST_FILES` are taken.
        name: of the enhancer.

    Returns:
        What it does not hold, in words, to be put behind its name; "" where it holds all.
    """
    from se_keras.report import page as report_page  # matplotlib, which only this needs

    taken = pairs[:MOST_FILES]
    seconds = min(LONGEST_S, TOTAL_S / len(taken))
    heard, notes, cut = {}, {}, False
    for (source, target), called in zip(taken, _names(page, pairs), strict=False):
        (noisy, length_s, channels, rate), (enhanced, *_) = (_start(path, seconds) for path in (source, target))
        samples = min(len(noisy), len(enhanced))
        heard[called] = {"noisy": noisy[:samples], "enhanced": enhanced[:samples]}
        cut |= length_s > seconds
        said = [f"the first {seconds:g} s of {length_s:.1f} s"] * (length_s > seconds)
        said += [f"the average of {channels} channels"] * (channels > 1)
        said += [f"at 16 kHz, where the file has {rate} Hz"] * (rate != audio.SAMPLE_RATE)
        notes[called] = f"Heard here: {', '.join(said)}." if said else ""
    about = f"Enhanced by {name}. The noisy recording has the level that makes its speech as loud as the enhanced one's."
    held = report_page.write_recordings(page, "Noisy and enhanced", heard, about, notes, reference="enhanced")
    said = [f"the first {seconds:g} s of each"] if cut else []
    said += [f"{len(held)} of the {len(pairs)} recordings"] if len(held) < len(pairs) else []
    return f" ({', '.join(said)})" if said else ""


def _names(page, pairs):
    """What the page calls each file: as the output is called within the page's folder."""
    return [str(target.relative_to(page.parent)) for _, target in pairs]


def _start(path, seconds):
    """The first seconds of a file: (float32 `(samples,)` at 16 kHz, its length in seconds, its channels, its rate in Hz)."""
    with streaming.open_source(path) as file:
        wave = file.read(int(seconds * file.samplerate), dtype="float32", always_2d=True).mean(axis=1)
        return audio.resample(wave, file.samplerate, audio.SAMPLE_RATE), file.frames / file.samplerate, file.channels, file.samplerate
