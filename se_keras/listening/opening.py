"""A test is made of a report, or gone on with where it is there: what flags ask for, held against what there is."""

from pathlib import Path

from se_keras.errors import UserError
from se_keras.listening import design

CONSENT = Path(__file__).with_name("assets") / "consent.txt"
_MOST_CONSENT = 100_000  # characters


def new(report, kind, systems, trials=None, seed=0, forced=False, consent=None):
    """What `store.create` makes a test of.

    Args:
        report: folder of test.py, whose page holds the audio.
        kind, systems, trials, seed: as of `design.Design`; None for as many trials as are usual.
        forced: AB without "no preference".
        consent: a text file's path; None for the one that is there.

    Returns:
        (settings, audio).

    Raises:
        UserError: what the report cannot serve, or does not go together.
    """
    if forced and kind != "ab":
        raise UserError(f"--forced: {kind} has no such answer as no preference; it is for ab")
    from se_keras.listening import material
    from se_keras.report import page  # here: going on with a test needs neither, and they take seconds

    text, index = consent_text(consent), Path(report) / "index.html"
    content = page.read(index)
    audio = material.gather(content, kind, systems, index)
    trials = trials or design.usual_trials(kind, systems, len(audio))
    design.Design(kind, tuple(systems), len(audio), trials, seed)  # its checks
    return {"kind": kind, "systems": list(systems), "items": list(audio), "trials": trials, "seed": seed, "forced": forced,
            "consent": text, "title": content["title"], "fingerprint": material.fingerprint(content), "token": None}, audio


def check_same(store, report=None, **asked):
    """See that a test is the one that flags ask for.

    Args:
        store: a `store.Store`.
        report: as of `new`; None where nothing is asked.
        asked: {setting: its value}; None where nothing is asked. "consent" is a path.

    Raises:
        UserError: it is another; every setting that differs is named.
    """
    other = []
    for name, value in asked.items():
        if value is None:
            continue
        there = store.settings[name]
        if name == "consent":
            if consent_text(value) != there:
                other.append("--consent of another text")
        elif value != there:
            other.append(f"--{name} {' '.join(there) if isinstance(there, list) else there}")
    if report is not None:
        from se_keras.listening import material
        from se_keras.report import page

        if material.fingerprint(page.read(Path(report) / "index.html")) != store.settings["fingerprint"]:
            other.append("--report with other audio")
    if other:
        raise UserError(f"{store.path}: holds another test than the flags ask for ({', '.join(other)}); leave the flags out to go on with "
                        "it, or name another --out")


def consent_text(path=None):
    """The text that listeners agree to; of None, the one that is there.

    Raises:
        UserError: no such file, not UTF-8, empty, or far too long.
    """
    try:
        text = Path(path or CONSENT).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UserError(f"--consent {path}: cannot be read ({error.strerror}); name a text file") from None
    except UnicodeDecodeError:
        raise UserError(f"--consent {path}: not a text in UTF-8") from None
    if not 0 < len(text) <= _MOST_CONSENT:
        raise UserError(f"--consent {path}: holds {len(text):,} characters; expected 1 to {_MOST_CONSENT:,}")
    return text
