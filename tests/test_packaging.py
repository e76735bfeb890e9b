"""What is installed: dependencies, packages, presets and weights."""

import tomllib

from conftest import ROOT

from se_keras import cli, files, pretrained

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def listed(path):
    """Requirements of a file, without comments and references to other files."""
    lines = [line.split("#")[0].strip() for line in (ROOT / path).read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


def test_requirements_and_pyproject_are_one():
    project = PROJECT["project"]
    assert project["dependencies"] == listed("requirements.txt")
    extras = project["optional-dependencies"]
    optional = [names for extra, names in extras.items() if extra not in ("tests", "jax", "benchmarks")]
    assert list(dict.fromkeys(sum(optional, []))) == listed("requirements-extras.txt")  # two extras may need one package
    assert extras["jax"] == listed("tests/requirements-jax.txt")
    assert (extras["tests"], extras["benchmarks"]) == (listed("tests/requirements.txt"), listed("benchmarks/requirements.txt"))


def test_every_package_is_installed():
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "se_keras").rglob("__init__.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found | {"se_keras._configs", "se_keras._weights"}


def test_presets_and_weights_of_a_clone_and_of_an_installed_copy(tmp_path, monkeypatch):
    assert cli.CONFIGS == ROOT / "configs" and pretrained.WEIGHTS == ROOT / "weights"
    package = tmp_path / "site-packages" / "se_keras"
    (package / "_weights").mkdir(parents=True)
    (tmp_path / "site-packages" / "weights").mkdir()  # another project's
    monkeypatch.setattr(files, "__file__", str(package / "files.py"))
    assert files.shipped("weights") == package / "_weights"
