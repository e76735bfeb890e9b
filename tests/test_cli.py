"""What scripts share: presets under the flags, exit codes, checks before long work; and a package that is light to import."""

import argparse
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

import se_keras
import train
from se_keras import cli, files
from se_keras.errors import UserError, check_choice


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """A function that writes configs/NAME.toml of a folder of the test's own."""
    monkeypatch.setattr(cli, "CONFIGS", tmp_path)
    return lambda name, text: (tmp_path / f"{name}.toml").write_text(text)


def two_commands():
    parser = cli.parser("for tests")
    commands = parser.add_subparsers(dest="command")
    for name in ("enhancer", "quality-net"):
        cli.add_training_arguments(commands.add_parser(name), out=f"runs/{name}", batch=4, learning_rate=1e-3)
    return parser, commands.choices


def test_a_preset_gives_defaults_and_flags_win(preset):
    preset("letter", '[enhancer]\nbatch = 8\nlearning-rate = 0.01\n[quality-net]\nbatch = 2\n')
    args = cli.parse(*two_commands(), ["enhancer", "--preset", "letter", "--batch", "3"])
    assert (args.batch, args.learning_rate, args.out) == (3, 0.01, "runs/enhancer")
    assert cli.parse(*two_commands(), ["quality-net", "--preset", "letter"]).batch == 2
    assert cli.parse(*two_commands(), ["enhancer"]).batch == 4


def test_a_preset_of_a_script_without_commands(preset):
    preset("letter", "[finetune]\nbatch = 8\n")
    parser = cli.parser("for tests")
    cli.add_training_arguments(parser, out="runs/x", batch=4, learning_rate=1e-3)
    assert cli.parse(parser, {"finetune": parser}, ["--preset", "letter"]).batch == 8


@pytest.mark.parametrize("text, reason", [
    ("[enhancer]\nbach = 8\n", r"letter.toml: \[enhancer\] sets bach, which is no flag of this command"),
    ("[finetune]\nbatch = 8\n", "letter.toml: says nothing about enhancer; it has the tables finetune"), ("[", "letter.toml: not TOML")])
def test_a_preset_that_cannot_be_used(preset, text, reason):
    preset("letter", text)
    with pytest.raises(UserError, match=reason):
        cli.parse(*two_commands(), ["enhancer", "--preset", "letter"])


def test_an_unknown_preset_lists_the_known_ones(preset):
    preset("letter", "")
    preset("demo", "")
    with pytest.raises(UserError, match="unknown preset 'leter'; known: demo, letter"):
        cli.parse(*two_commands(), ["enhancer", "--preset", "leter"])


@pytest.mark.parametrize("kind, good, bad", [
    (cli.positive_int, {"1": 1, "20": 20}, ["0", "-3", "1.5", "x"]), (cli.positive_float, {"1e-3": 1e-3}, ["0", "-1", "nan", "inf", "x"]),
    (cli.from_zero, {"0": 0.0, "2.5": 2.5}, ["-0.1", "nan", "inf"]), (cli.json_object, {'{"a": 1}': {"a": 1}}, ["{", "[1]", "3"])])
def test_argument_types(kind, good, bad):
    assert {text: kind(text) for text in good} == good
    for text in bad:
        with pytest.raises((ValueError, argparse.ArgumentTypeError)):
            kind(text)


def test_check_choice():
    check_choice("fruit", "pear", ("apple", "pear"))
    with pytest.raises(UserError, match="unknown fruit 'plum'; known: apple, pear"):
        check_choice("fruit", "plum", ("apple", "pear"))


def user_error():
    raise UserError("it is so; do this")


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("main, code, said", [
    (lambda: None, None, ""), (lambda: 2, 2, ""), (user_error, 2, "error: it is so; do this\n"),
    (interrupt, 130, "\ninterrupted; the same command goes on from the last checkpoint\n")])
def test_exit_codes_and_messages(main, code, said, capsys):
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == code and capsys.readouterr().err == said


def test_a_folder_is_made_and_checked_before_long_work(tmp_path):
    files.check_writable(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nothing"):
        with pytest.raises(UserError, match=f"{path}: cannot be written .*; name another folder"):
            files.check_writable(path)
    with pytest.raises(UserError, match="MB are free, 1000000000000 MB are needed; free some or name another folder"):
        files.check_writable(tmp_path, need_mb=10 ** 12)


def test_help_shows_defaults_and_keeps_the_examples(capsys):
    with pytest.raises(SystemExit) as end:
        train.arguments(["enhancer", "--help"])
    assert end.value.code == 0 and "(default: 32)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        train.arguments(["--help"])
    assert "\n  python train.py quality-net --data data/demo" in capsys.readouterr().out


# --- The package -----------------------------------------------------------------------------------------------------------------


def test_import_is_light():
    """Under half a second beyond the start of Python, and without TensorFlow: seen in a process of its own, the best of three."""

    def seconds(code):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        return time.perf_counter() - started

    importing = "import sys, se_keras; assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    assert min(seconds(importing) for _ in range(3)) - min(seconds("pass") for _ in range(3)) < 0.5


def test_scripts_and_workers_do_not_load_tensorflow():
    """What a script needs to tell its user of a mistake, and what scoring processes import."""
    code = ("import sys; from se_keras import cli, losses, metrics, models, pretrained, report; from se_keras.enhancers import base; "
            "from se_keras.mixtures import feed; from se_keras.recipes import enhancer, finetuning, quality_net, turns; "
            "from se_keras.scoring import scores; from se_keras.signals import streaming; from se_keras.training import loop; "
            "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_what_the_package_offers_by_name():
    for name in se_keras.__all__:
        assert getattr(se_keras, name) is not None and name in dir(se_keras)
    from se_keras.models import build
    from se_keras.signals.stft import Stft

    assert se_keras.build is build and se_keras.Stft is Stft and se_keras.UserError is UserError
    assert f'version = "{se_keras.__version__}"' in (ROOT / "pyproject.toml").read_text()
    with pytest.raises(AttributeError, match="module 'se_keras' has no attribute 'unet'"):
        se_keras.unet  # noqa: B018


def test_what_there_is_is_listed(capsys):
    from se_keras.__main__ import main

    main([])
    said = capsys.readouterr().out
    assert re.search(r"blstm-hearing +blstm +pesq_raw 2\.794", said)
    assert "tfgridnet" in said and "hearing_nb" in said and "dnsmos_ovrl" in said
    assert max(map(len, said.splitlines())) <= 100
