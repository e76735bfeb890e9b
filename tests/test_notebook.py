"""notebooks/quickstart.ipynb runs from its first cell to its last, as a reader would run it."""

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from nbclient import NotebookClient

from se_keras import pretrained

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
NEEDED = {"blstm-mse-augmented", "blstm-hearing", "quality-net-ears"}


@pytest.fixture(scope="module")
def outputs():
    """All outputs of the executed notebook, in order."""
    if missing := NEEDED - set(pretrained.names()):
        pytest.skip(f"runs only with its weights; weights/ lacks the shipped models that the notebook loads: {', '.join(sorted(missing))}")
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
    assert all(name in table for name in ("predicted pesq_raw", "pesq_wb", "stoi", "si_sdr", "clean", "noisy", "blstm-hearing"))
    clean = next(line for line in table.splitlines() if line.startswith("clean"))
    assert clean.split()[2] == "4.500"  # raw P.862 of identical signals
    assert numbers(table)["predicted pesq_raw"].le(4.5).all()


def numbers(table):
    """The notebook's last table, read back: a row a system."""
    head, index, *rows = table.splitlines()
    columns = head.replace("predicted pesq_raw", "predicted_pesq_raw").split()
    assert index.split() == ["system"]
    return pd.DataFrame([line.split()[1:] for line in rows], [line.split()[0] for line in rows], columns, dtype=float).rename(
        columns={"predicted_pesq_raw": "predicted pesq_raw"})


def test_the_outputs_that_it_is_kept_with_are_those_of_today(outputs):
    """A reader on the web sees them without running anything: same table, no path of one machine, no megabytes."""
    kept = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    shown = code[-1].outputs[-1].data["text/plain"]
    np.testing.assert_allclose(numbers(shown), numbers(outputs[-1].data["text/plain"]), atol=0.02)
    assert NOTEBOOK.stat().st_size < 2e6 and str(ROOT) not in NOTEBOOK.read_text(encoding="utf-8")
    assert not any(output.get("name") == "stderr" for cell in code for output in cell.outputs)
