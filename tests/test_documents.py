"""README and docs can be skimmed, and what they name is there: lines, paragraphs, links, figures, flags of commands."""

import argparse
import re
import shlex

import pandas as pd
import pytest
from conftest import ROOT, load_script

DOCUMENTS = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = ("train.py", "finetune.py", "test.py", "enhance.py", "score.py", "listen.py", "export.py", "demo.py", "data/prepare.py",
           "data/rooms.py")


def prose(path):
    """(number, line) of a document's lines outside code."""
    fence = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fence = not fence
        elif not fence:
            yield number, line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_lines_outside_tables_are_short(path):
    assert [number for number, line in prose(path) if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_long_line_in_code_either(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, start=1) if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_paragraphs_and_items_have_four_lines_at_most(path):
    long, current = [], 0
    for number, line in prose(path):
        starts = re.match(r"\s*([-*]|\d+\.) ", line)
        current = 0 if not line.strip() or line.startswith(("|", "#", "!")) else 1 if starts else current + 1
        if current == 5:
            long.append(number)
    assert long == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_strings_of_numbers_are_tables(path):
    """A paragraph or an item holds at most ten numbers, those in code, links and addresses aside."""
    paragraphs = [""]
    for _, line in prose(path):
        if not line.strip() or line.startswith(("|", "#", "!")) or re.match(r"\s*([-*]|\d+\.) ", line):
            paragraphs.append("")
        if not line.startswith(("|", "#", "!")):
            paragraphs[-1] += line + " "
    plain = [re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", "", paragraph) for paragraph in paragraphs]
    assert [paragraph for paragraph in plain if len(re.findall(r"(?<![\w.])[-+]?\d[\d,]*\.?\d*", paragraph)) > 10] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_figures_are_there(path):
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        there = path.parent / target if target else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def anchors(path):
    """Anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class _Stop(Exception):
    """Ends a script where its arguments have been declared."""


def flags(script, words, monkeypatch):
    """Flags that a script's parser knows, of the command that `words` begins with."""
    caught = []

    def catch(self, *arguments, **more):
        caught.append(self)
        raise _Stop

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", catch)
    module = load_script(script)
    with pytest.raises(_Stop):
        module.arguments(list(words)) if hasattr(module, "arguments") else module.main(list(words))
    parser = caught[0]
    known = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                if words and name == words[0]:
                    known |= {option for each in command._actions for option in each.option_strings}
    return known


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_flags_of_commands_are_flags(path, monkeypatch):
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for script, rest in re.findall(r"^(?:\S*python )((?:data/)?\w+\.py)((?:[^\n&`]|\n(?=    ))*)", text, flags=re.M):
        if script not in SCRIPTS or re.match(r"\s+[A-Z]", rest):  # CORPUS stands for any
            continue
        words = shlex.split(re.sub(r"\s#.*", "", rest), comments=False)
        used = {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}
        assert used <= flags(script, words, monkeypatch) | {"--help"}, (script, rest)


def test_figures_that_need_no_run_are_drawn_anew(tmp_path, capsys):
    """docs/figures/draw.py, and the curve that was read off a figure agrees with what docs/trials.md says of it."""
    draw = load_script("docs/figures/draw.py")
    draw.main(["--out", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside_the_letter.png", "pareto.png",
                                                                        "quality_net_learning_curve.png"]
    assert "beside_the_letter.png" in capsys.readouterr().out
    assert draw.ours()["blstm-qnet"] == {"PESQ (raw P.862)": 2.493, "STOI": 0.816, "PESQ (wb, P.862.2)": 1.698, "SI-SDR (dB)": 9.19}
    history = pd.read_csv(draw.HERE / "quality_net_history.csv").set_index("update")
    known = {0: (0.872, 0.845, 0.873, 0.324), 1000: (0.884, 0.816, 0.890, 0.346), 4000: (0.917, 0.857, 0.924, 0.261),
             6000: (0.925, 0.882, 0.931, 0.262)}
    columns = ["valid_lcc", "valid_lcc_noisy", "valid_lcc_enhanced", "valid_rmse"]
    for update, values in known.items():
        assert history.loc[update, columns].tolist() == pytest.approx(values, abs=0.0015)
