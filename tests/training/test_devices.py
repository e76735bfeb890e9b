"""--devices and --hosts: flags, parts of batches; on JAX the losses of one device, whatever dies on the way."""

import argparse
import csv
import importlib.util
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, refused

import finetune
import train
from se_keras.errors import UserError
from se_keras.mixtures.feed import Feed
from se_keras.training import devices, hosts, sharing

# --- Flags and parts, on any backend ---------------------------------------------------------------------------------------------


def flags(*given, batch=4):
    parser = argparse.ArgumentParser()
    devices.add_arguments(parser)
    return argparse.Namespace(**vars(parser.parse_args(given)), batch=batch)


@pytest.mark.parametrize("script", [[train, "enhancer"], [train, "quality-net"], [finetune]])
def test_other_backends_say_what_it_takes(capsys, monkeypatch, script):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    said = refused(capsys, *script, "--devices", "all")
    assert "--devices all: several devices and hosts take Keras on JAX, and KERAS_BACKEND is tensorflow; set KERAS_BACKEND=jax" in said


HOSTS = ("--hosts", "2", "--host-id", "0", "--coordinator", "10.0.0.1:1234")


@pytest.mark.parametrize(("given", "batch", "message"), [
    (("--devices", "3"), 4, "--batch 4 does not divide among 3 devices; take a multiple of 3"),
    ((*HOSTS, "--devices", "2"), 6, "--batch 6 does not divide among 4 devices"), (HOSTS, 5, "--batch 5 does not divide among 2 hosts"),
    (("--host-id", "0"), 4, "--host-id 0 goes with --hosts N"), (("--hosts", "1"), 4, "--hosts 1: expected 2 or more"),
    (HOSTS[:4], 4, "--hosts 2 takes --host-id ID, from 0 to 1, and --coordinator HOST:PORT"),
    ((*HOSTS[:3], "2", *HOSTS[4:]), 4, "--host-id 2 is none of 0 to 1"),
    ((*HOSTS[:5], "here"), 4, "--coordinator 'here' is no address; expected HOST:PORT"),
    ((*HOSTS[:5], "here:99999"), 4, "is no address")])
def test_flags_that_cannot_be_meant(monkeypatch, given, batch, message):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(UserError, match=message):
        devices.check(flags(*given, batch=batch))


def test_flags_that_can(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for given in ((), ("--devices", "all"), ("--devices", "2"), HOSTS, (*HOSTS[:5], "[::1]:80")):
        devices.check(flags(*given))


@pytest.mark.parametrize("given", ["0", "-1", "some"])
def test_a_number_of_devices(capsys, given):
    with pytest.raises(SystemExit):
        flags("--devices", given)
    assert "is neither all nor a number of devices" in capsys.readouterr().err or given == "-1"


def test_a_port_that_is_taken_and_a_coordinator_that_does_not_answer(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        args = flags(*HOSTS[:5], f"127.0.0.1:{port}")
        server.listen()
        with pytest.raises(UserError, match=f"port {port} cannot be listened on here"):
            hosts.join(args)
    monkeypatch.setattr(hosts, "ANSWER_S", 0.1)
    args.host_id = 1
    with pytest.raises(UserError, match=f"127.0.0.1:{port} does not answer .*, waited for 0.1 s; start host 0"):
        hosts.join(args)


@pytest.mark.parametrize("batch", [4, 3])  # what does not divide is whole on each host
def test_the_parts_of_the_hosts_are_the_batch(rows, monkeypatch, batch):
    feed = Feed(rows, batch, crop_s=None, extra={"score": np.arange(len(rows))})
    padded, parts = [feed.batch(k)["frame_mask"].shape[1] for k in range(3)], []
    for host in range(2):
        monkeypatch.setattr(sharing, "now", sharing.Together(hosts=2, host=host, devices=2))
        monkeypatch.setattr(sharing, "_largest_of_all", lambda frames, longest=iter(padded): next(longest))
        parts.append(list(sharing.batches(feed, 0, 3)))
    for k in range(3):
        for name, whole in feed.batch(k).items():
            first, second = (part[k][name] for part in parts)
            np.testing.assert_array_equal(first if batch == 3 else np.concatenate([first, second]), whole)
            assert len(first) == (3 if batch == 3 else 2)
    made = {"x": np.arange(4)}, np.arange(4)
    assert sharing.own(made)[1].tolist() == [2, 3]


# --- Keras on JAX ----------------------------------------------------------------------------------------------------------------

needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install jax; make test-jax")
TRAINER = ROOT / "tests" / "training" / "on_devices.py"


def begin(out, *given, count=1):
    """A process of Keras on JAX with so many devices."""
    ours = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={count} --xla_cpu_multi_thread_eigen=false",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    return subprocess.Popen([sys.executable, *map(str, [TRAINER, *given, "--out", out])], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, env={**os.environ, **ours}, start_new_session=True)


def ended(process, code=0):
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    return said


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def two_hosts(out, *given):
    """Two processes that are a host each; the second has no run folder of its own."""
    port = free_port()
    return [begin(out if host == 0 else out.parent / "nowhere", *given, "--hosts", 2, "--host-id", host, "--coordinator",
                  f"127.0.0.1:{port}") for host in range(2)]


def losses(folder):
    """{update: its loss} of a run that is validated after each."""
    with open(folder / "history.csv") as file:
        return {int(row["update"]): float(row["loss"]) for row in csv.DictReader(file) if row["loss"]}


@pytest.fixture(scope="module")
def data(rows, tmp_path_factory):
    from se_keras.mixtures import manifest

    folder = tmp_path_factory.mktemp("devices")
    for split in ("train", "valid"):
        manifest.write(folder / f"{split}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def one_and_two(data, tmp_path_factory):
    """What one device, and two, have learned, and said: runs of a BLSTM, a Quality-Net, and of a DNN through one that learns in turns."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    both = [begin(folders[0], "--data", data), begin(folders[1], "--data", data, "--devices", "all", count=2)]  # side by side: cores idle
    return folders, [ended(process) for process in both]


RUNS = ("enhancer", "quality-net", "turns")


def same(out, expected, run):
    got, wanted = losses(out / run), losses(expected / run)
    assert list(got) == list(wanted) and len(got) == 20
    np.testing.assert_allclose(list(got.values()), list(wanted.values()), atol=1e-5)
    assert np.ptp(list(wanted.values())) > 1e-4  # it is something that they agree on


@needs_jax
def test_two_devices_learn_what_one_does(one_and_two):
    (one, two), said = one_and_two
    assert "2 devices (cpu) share each batch" in said[1]
    for run in RUNS:
        same(two, one, run)


@needs_jax
def test_hosts_that_are_lost_are_gone_on_from(data, one_and_two, tmp_path):
    """One host is killed, the other ends and says so; then the other way round; one host with two devices goes on to one device's end."""
    for dies, update in ((1, 3), (0, 7)):
        both = two_hosts(tmp_path / "run", "--data", data, "--die-after", update, "--dies", dies)
        said = [process.communicate(timeout=600)[0] for process in both]
        assert both[dies].returncode != 0 and both[1 - dies].returncode in (1, 2), said
        assert "error: another host has ended, or cannot be reached any more" in said[1 - dies], said
        assert "The same command on every host goes on from the last checkpoint" in said[1 - dies]
        with np.load(tmp_path / "run" / "enhancer" / "checkpoint.npz") as stored:
            assert json.loads(str(stored["state"]))["step"] == update
    assert not (tmp_path / "nowhere").exists()
    ended(begin(tmp_path / "run", "--data", data, "--first", "--devices", 2, count=2))
    same(tmp_path / "run", one_and_two[0][0], "enhancer")


@needs_jax
def test_what_a_machine_cannot_give(data, tmp_path):
    said = ended(begin(tmp_path, "--data", data, "--devices", "2"), 2)
    assert "error: --devices 2: there is 1 (cpu) here; lower it, or say all" in said and "Traceback" not in said
    said = ended(begin(tmp_path, "--data", data, "--batch", "3", "--devices", "all", count=2), 2)
    assert "--batch 3 does not divide among 2 devices" in said and "Traceback" not in said


@needs_jax
def test_hosts_with_other_weights_end(data, tmp_path):
    port = free_port()
    both = [begin(tmp_path / str(host), "--data", data, "--hosts", 2, "--host-id", host, "--coordinator", f"127.0.0.1:{port}",
                  "--weights", f"weights of {host}") for host in range(2)]
    assert "another host was given other flags, data or weights" in ended(both[0], 2)
    assert "host 1 has other weights than host 0 under the names runs/mse; give all hosts the same" in ended(both[1], 2)


@needs_jax
def test_hosts_with_other_flags_end(data, tmp_path):
    port = free_port()
    both = [begin(tmp_path / str(host), "--data", data, "--hosts", 2, "--host-id", host, "--coordinator", f"127.0.0.1:{port}",
                  "--updates", 20 + host) for host in range(2)]
    assert "another host was given other flags" in ended(both[0], 2)
    assert "host 1 was given other flags than host 0" in ended(both[1], 2)


