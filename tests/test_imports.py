"""Imports of the package point one way: no circle, no arrow that runs back up, however late an import stands in a function."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "se_keras"
# From the ground up. A module imports from its own floor and from those before it.
FLOORS = [{"errors", "backend", "registration"}, {"addresses", "files", "expressions", "pages", "processes"}, {"weights", "signals"}, {"metrics"},
          {"mixtures"}, {"corpora"}, {"report"}, {"listening"}, {"hearing"}, {"models"}, {"losses"}, {"enhancers"}, {"scoring"},
          {"training"}, {"judges"}, {"export"}, {"pretrained", "reference", "torch"}, {"cli"}, {"recipes", "__main__"}]
LEVEL = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules():
    """{dotted name: path} of every module of the package, but for its own __init__, which imports by name only."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path, known):
    """The package's modules that a file imports, wherever the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "se_keras":
            base = node.module.removeprefix("se_keras").removeprefix(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".removeprefix(".")
                found.add(name if name in known else base)
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("se_keras.") for alias in node.names if alias.name.startswith("se_keras.")}
    return found - {""}


def back_up(graph):
    """Imports that run from a floor to one above it."""
    return [(name, other) for name, others in graph.items() for other in others if LEVEL[other.split(".")[0]] > LEVEL[name.split(".")[0]]]


def circle(graph):
    """A circle of imports, as a list of names; None where there is none. A package and its __init__ are one thing with it."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return path[path.index(name):] + [name]
        if name in done:
            return None
        path.append(name)
        found = next((seen for other in sorted(graph.get(name, ())) if (seen := visit(other))), None)
        path.pop()
        done.add(name)
        return found

    return next((seen for name in sorted(graph) if (seen := visit(name))), None)


@pytest.fixture(scope="module")
def graph():
    known = modules()
    return {name: imports(path, known) for name, path in known.items()}


def test_every_module_has_a_floor(graph):
    assert {name.split(".")[0] for name in graph} == set(LEVEL)


def test_no_import_runs_back_up(graph):
    assert back_up(graph) == []


def test_no_circle(graph):
    assert circle(graph) is None


def test_the_walk_sees_what_is_wrong():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert back_up({"signals.stft": {"errors", "judges.diet"}}) == [("signals.stft", "judges.diet")]
