"""REPORT/index.html: the report as one page that opens from disk, offline, with charts and players in it."""

import json
import re
from pathlib import Path

import numpy as np

from se_keras import files, pages
from se_keras.errors import UserError
from se_keras.mixtures.manifest import UNKNOWN
from se_keras.report import costs, drawing, gains, listening, tables

LIMIT_BYTES = 15_000_000
MOST_UTTERANCES = 40
MOST_VERSIONS = 8  # of an utterance: the noisy one and the systems that were listed last
_MOST_POINTS = 400_000  # numbers of single utterances in the page; of more utterances, evenly spaced ones
_ASSETS = Path(__file__).with_name("assets")


def audible(systems):
    """The systems of a report that its page plays: all, or noisy speech and the last ones where they are too many."""
    if len(systems) <= MOST_VERSIONS:
        return list(systems)
    kept = [name for name in systems if name != "noisy"][-(MOST_VERSIONS - 1):]
    return [name for name in systems if name == "noisy" or name in kept]


def write(path, title, summary, scores, hear=None, history=None, distances=()):
    """Write the page, atomically.

    It asks nothing of any network. Names are put in as text, never as markup.

    Args:
        path: of the page.
        title: its heading.
        summary: of `tables.summarise`.
        scores: the score rows that it was made of.
        hear: a function, list of ids -> {id: {name: float32 `(samples,)` at 16 kHz}}, "clean" where there is one, and systems. The page
            asks it for `MOST_UTTERANCES` that `listening.choose` chooses, and leaves out what would make it larger than `LIMIT_BYTES`. None
            for a page without audio.
        history: of a fine-tuning: {"update", "predicted", "true": lists of numbers, "best": update, "label"}.
        distances: judges whose target is better the lower it is; "Quality-Net" is the one of --quality-net.

    Returns:
        path.
    """
    systems = list(scores["system"].unique())
    baseline = "noisy" if "noisy" in systems else systems[0]  # what gains are counted from
    last = next((name for name in reversed(systems) if name != "noisy"), baseline)
    less = [*distances, *(name for name, about in summary["metrics"].items() if not about.get("higher_is_better", True))]
    why = listening.choose(scores, last, baseline, less)
    heard = hear(list(why)[:MOST_UTTERANCES]) if hear else {}
    content = {"title": title, **_tables(summary), **_utterances(summary, scores, heard, _MOST_POINTS, distances), "baseline": baseline,
               "gains": {name: _gains(scores, name, baseline) for name in summary["averages"]}, "history": tables.plain(history)}
    return _save(path, content, heard, {name: {"why": why[name]} for name in heard})


def write_recordings(path, title, heard, about="", notes=None, reference=None):
    """Write a page of recordings that nothing scored, atomically: to look at and listen to, without tables and charts.

    Args:
        path: of the page.
        title: its heading.
        heard: {id: {name: float32 `(samples,)` at 16 kHz}}, versions of one length, the same names in each. The page leaves out what
            would make it larger than `LIMIT_BYTES`.
        about: what is to be known of all of them, in words.
        notes: {id: what is to be known of one, in words}.
        reference: the version that tells the level of speech in the others (`listening.matched`).

    Returns:
        The ids that the page holds, a list.
    """
    systems = list(dict.fromkeys(name for versions in heard.values() for name in versions))
    nothing = [""] * len(heard)  # is known of their SNR, noise or speaker
    content = {"title": title, "note": about, "systems": systems, "colours": drawing.palette(systems), "baseline": systems[0],
               "metrics": [], "rows": [], "costs": [], "about": "", "aboutCost": "", "scores": {}, "judges": {}, "gains": {},
               "history": None, "ids": list(heard), "scored": 0, "snr": nothing, "noise": nothing, "speaker": nothing}
    _save(path, content, heard, {name: {"why": [], "note": (notes or {}).get(name, "")} for name in heard}, reference, charts=False)
    return [item["id"] for item in content["heard"]]


def _save(path, content, heard, said, reference="clean", charts=True):
    """Write a page of `content` and of what is heard, as much of it as fits, with what is said of each; path."""
    fixed = _fixed(charts)
    used = sum(len(text.encode()) for text in fixed.values()) + len(pages.script([content, said]).encode()) + 100 * len(heard) + 10_000
    audio = listening.encoded(heard, LIMIT_BYTES - used, reference)
    content["heard"] = [{"id": name, **said[name], "audio": versions} for name, versions in audio.items()]
    content["level"] = "one speech level" if all(reference in versions for versions in audio.values()) else "one level"
    files.write_text(path, pages.filled(_template(), {**fixed, "DATA": pages.script(content)}))
    return path


def read(path):
    """What a page holds, as its script reads it.

    Args:
        path: of a page that `write` wrote.

    Returns:
        dict: "title", "systems", and so on; "heard" is a list of {"id", "why", "audio": {name: base64 of `listening.opus`}}.

    Raises:
        UserError: no such file, or not a report's page.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; test.py writes it: python test.py --data DIR --systems ... --out {Path(path).parent}")
    try:
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', Path(path).read_text(encoding="utf-8"), re.DOTALL)
        content = json.loads(found[1]) if found else None
    except ValueError:  # not JSON, or not UTF-8
        content = None
    if not isinstance(content, dict) or not {"title", "systems", "heard"} <= set(content):
        raise UserError(f"{path}: not the page of a report; test.py writes one")
    return content


def add_listening(path, section):
    """Put the results of a listening test into a page that is there, in place of earlier ones, atomically.

    Args:
        path: of the page.
        section: {"about": text, "headers": list, "rows": lists of cells, as text}.

    Raises:
        UserError: as `read`.
    """
    content = {"level": "one speech level", **read(path), "listening": section}  # older pages do not say theirs
    files.write_text(path, pages.filled(_template(), {**_fixed(charts=bool(content.get("metrics"))), "DATA": pages.script(content)}))


def _template():
    return (_ASSETS / "page.html").read_text(encoding="utf-8")


def _fixed(charts=True):
    """{mark in page.html: text} of all but the data; without Plotly, most of a page's size, where there are no charts."""
    from plotly.offline import get_plotlyjs  # here: only a page needs it

    parts = {name: (_ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", "player.js", "page.js")}
    return {"STYLE": parts["page.css"], "PLOTLY": get_plotlyjs() if charts else "", "SCRIPT": parts["player.js"] + parts["page.js"]}


def _tables(summary):
    averages, cost = summary["averages"], summary["cost"]
    about = {name: {"name": name, "label": tables.LABELS.get(name, name), "digits": tables.digits(name),
                    "higher": summary["metrics"].get(name, {}).get("higher_is_better", True)} for name in averages}
    rows = [{"system": system,
             "scores": {name: [averages[name][system]["mean"], *averages[name][system]["by_clean_utterance"]] for name in averages},
             "cost": [[text, _cost_number(cost[system], key)] for key, text in zip(costs.KEYS, costs.cells(cost[system]), strict=True)]
             if system in cost else []} for system in summary["systems"]]
    return {"about": tables.about_rows(summary), "metrics": list(about.values()), "systems": summary["systems"],
            "colours": drawing.palette(summary["systems"]), "costs": list(costs.HEADERS) if cost else [],
            "aboutCost": costs.about(cost) if cost else "", "rows": rows}


def _cost_number(cost, key):
    if key == "latency" and cost["whole_utterance"]:
        return 1e9  # behind every number
    return cost[costs.KEYS[key]]


def _utterances(summary, scores, heard, most, distances):
    """Scores of single utterances, one list an utterance property and one a system and metric, all in one order."""
    first = scores.drop_duplicates("id").set_index("id")
    step = max(1, -(-len(scores) * len(summary["averages"]) // most))
    ids = [name for place, name in enumerate(first.index) if place % step == 0 or name in heard]
    first = first.loc[ids]
    by_system = {system: rows.set_index("id").reindex(ids) for system, rows in scores.groupby("system", sort=False)}
    judged = {judge: {system: [_plain(rows[column]) for column in columns] for system, rows in by_system.items()}
              for judge, columns in listening.judge_columns(scores).items()}
    targets = {judge: entry["target"] for judge, entry in summary["judges"].items()} | {"Quality-Net": summary["target"]}
    return {"ids": ids, "scored": summary["utterances"], "snr": tables.snr_labels(first["snr_db"]), "noise": _known(first["noise_type"]),
            "speaker": _known(first["speaker"]),
            "scores": {system: {name: _plain(rows[name]) for name in summary["averages"]} for system, rows in by_system.items()},
            "judges": {judge: {"target": targets.get(judge, "score"), "higher": judge not in distances, "systems": values}
                       for judge, values in judged.items()}}


def _gains(scores, metric, baseline):
    """{"snr" or "noise_type": {label: {system: [mean, low, high]}}} of `gains.by_condition`; of "all" where it knows of no condition."""
    found = gains.by_condition(scores, metric, baseline)
    if list(found.get("noise_type", ())) == [UNKNOWN]:
        everything = found.pop("noise_type")[UNKNOWN]
        found = found or {"all": {"all utterances": everything}}
    return {column: {label: {system: tables.plain([each.mean, each.low, each.high]) for system, each in systems.items()}
                     for label, systems in labels.items()} for column, labels in found.items()}


def _known(names):
    """Names, "" for what nothing names."""
    return ["" if name == UNKNOWN else name for name in names]


def _plain(column):
    """Numbers for JSON, to four digits; None where one is missing."""
    return [round(float(value), 4) if np.isfinite(value) else None for value in column.astype(float)]
