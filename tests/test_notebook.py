"""notebooks/quickstart.ipynb runs from its first cell to its last, as a reader would run it."""

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

from se_keras import pretrained

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
NEEDED = {"blstm-mse", "blstm-qnet", "quality-net"}


@pytest.fixture(scope="module")
def outputs():
    """All outputs of the executed notebook, in order."""
    if missing := NEEDED - set(pretrained.names()):
        pytest.skip(f"weights/ lacks the shipped models that the notebook loads: {', '.join(sorted(missing))}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_it_can_be_heard_and_seen(outputs):
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 1  # the spectrograms
    players = [output.data["text/html"] for output in outputs if "<audio" in output.get("data", {}).get("text/html", "")]
    assert len(players) == 4  # clean, noisy, two enhancers


def test_its_table_stands_predicted_beside_true(outputs):
    table = outputs[-1].data["text/plain"]
    assert all(name in table for name in ("predicted pesq_raw", "pesq_wb", "stoi", "si_sdr", "clean", "noisy", *sorted(NEEDED)[:2]))
    clean = next(line for line in table.splitlines() if line.startswith("clean"))
    assert clean.split()[2] == "4.500"  # raw P.862 of identical signals


def test_it_is_kept_without_outputs():
    """Outputs would be megabytes of audio, stale at the next change."""
    assert all(cell.get("outputs", []) == [] for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
