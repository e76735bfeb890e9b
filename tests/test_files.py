"""Files are whole or not there."""

import pytest

from se_keras import files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "a.weights.h5"
    with files.replacing(path) as temporary:
        assert temporary.name.endswith(".weights.h5") and temporary.parent == path.parent
        temporary.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [(found.name, found.read_text()) for found in path.parent.iterdir()] == [("a.weights.h5", "old")]


def test_json_that_no_reader_could_read_is_refused(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
