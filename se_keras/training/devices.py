"""Training on several devices: `--devices`, and `--hosts`, whose life `hosts` has. Keras on JAX alone has it.

The weights are the same everywhere, each device computes its part of a batch (`sharing`), and the gradients are averaged
(`keras.distribution`).
"""

import argparse
import os
import re
import sys

from se_keras import backend
from se_keras.errors import UserError
from se_keras.training import hosts, sharing

_FLAGS = ("devices", "hosts", "host_id", "coordinator")


def devices(text):
    """An argparse type: "all", or a number from 1."""
    if text == "all":
        return text
    if not re.fullmatch(r"\d{1,4}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither all nor a number of devices")
    return int(text)


def add_arguments(parser):
    """--devices, --hosts, --host-id and --coordinator; `check` looks at them, `start` obeys."""
    parser.add_argument("--devices", type=devices, metavar="all|N",
                        help="share each batch among the accelerators of this machine, or N of them (KERAS_BACKEND=jax alone)")
    parser.add_argument("--hosts", type=int, metavar="N",
                        help="share it among N machines too: the same command on each, with a --host-id of its own; host 0 has the run")
    parser.add_argument("--host-id", type=int, metavar="ID", help="which of them this one is, from 0")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="host 0, as the others reach it, and a free port there")


def check(args):
    """What of the flags is wrong, before anything is loaded.

    Raises:
        UserError: another backend than JAX, flags that go together and do not, numbers that cannot be, a batch that does not divide.
    """
    given = [name for name in _FLAGS if getattr(args, name) is not None]
    if not given:
        return
    flag = f"--{given[0].replace('_', '-')} {getattr(args, given[0])}"
    if (chosen := os.environ.get("KERAS_BACKEND") or "tensorflow") != "jax":
        raise UserError(f"{flag}: several devices and hosts take Keras on JAX, and KERAS_BACKEND is {chosen}; set KERAS_BACKEND=jax (pip "
                        "install jax), or leave the flag out")
    if args.hosts is None and given != ["devices"]:
        raise UserError(f"{flag} goes with --hosts N, the number of hosts; add it, or leave both out")
    if args.hosts is not None:
        if args.hosts < 2:
            raise UserError(f"--hosts {args.hosts}: expected 2 or more; one host takes no such flag")
        if args.coordinator is None or args.host_id is None:
            raise UserError(f"--hosts {args.hosts} takes --host-id ID, from 0 to {args.hosts - 1}, and --coordinator HOST:PORT, which is "
                            "host 0 and a free port there")
        if not 0 <= args.host_id < args.hosts:
            raise UserError(f"--host-id {args.host_id} is none of 0 to {args.hosts - 1}, of which --hosts {args.hosts} speaks")
        hosts.address(args.coordinator)
        _check_divides(args.batch, args.hosts, f"{args.hosts} hosts")
    if isinstance(args.devices, int):
        count = args.devices * (args.hosts or 1)
        _check_divides(args.batch, count, f"{count} devices")


def _check_divides(batch, parts, what):
    if batch % parts:
        raise UserError(f"--batch {batch} does not divide among {what}; take a multiple of {parts}")


def start(args, weights=None):
    """Load Keras (`backend.load`), on the devices and with the hosts that the flags name; before any network is built.

    On a host other than 0, `args.out` becomes a temporary copy of host 0's run folder.

    Args:
        args: with the flags of `add_arguments`, `batch` and `out`.
        weights: {name: sha256} of the models that it names: all hosts must have the same.

    Raises:
        UserError: fewer devices than asked for, a batch that does not divide among them, a port that is taken, a coordinator that does
            not answer, hosts that do not come, hosts with other arguments or data.
    """
    if args.devices is None and args.hosts is None:
        backend.load()
        return
    if args.hosts is not None:
        hosts.join(args)
    backend.load()
    import jax
    import keras

    chosen = _chosen(jax, args)
    sharing.now.devices = len(chosen)
    keras.distribution.set_distribution(_distribution(chosen))
    if args.hosts is not None:
        hosts.agree(args, weights or {})
        hosts.copy_run(args)
    print(f"{sharing.now.devices} devices ({', '.join(sorted({device.device_kind for device in chosen}))})"
          + (f" of {sharing.now.hosts} hosts, of which this is {sharing.now.host}" if sharing.now.hosts > 1 else "") + " share each batch")
    if sharing.now.host:
        print("host 0 has the run and says how it goes")
        sys.stdout = open(os.devnull, "w")


def _chosen(jax, args):
    """The devices that take part: `--devices` of each host."""
    local = jax.local_devices()
    counts = [sum(device.process_index == host for device in jax.devices()) for host in range(sharing.now.hosts)]
    if args.devices in (None, "all") and len(set(counts)) > 1:
        raise UserError(f"the hosts have {', '.join(map(str, counts))} devices; name the number that each gives: --devices {min(counts)}")
    wanted = len(local) if args.devices in (None, "all") else args.devices
    if wanted > min(counts) < len(local):
        raise UserError(f"--devices {wanted}: another host has {min(counts)}; lower it")
    if wanted > len(local):
        raise UserError(f"--devices {wanted}: there {'is' if len(local) == 1 else 'are'} {len(local)} ({local[0].platform}) here; lower "
                        "it, or say all")
    chosen = [device for host in range(sharing.now.hosts) for device in [d for d in jax.devices() if d.process_index == host][:wanted]]
    _check_divides(args.batch, len(chosen), f"{len(chosen)} devices")
    if getattr(args, "update", "frozen") != "frozen" and args.quality_batch % len(chosen):
        print(f"note: --turns quality_batch {args.quality_batch} does not divide among {len(chosen)} devices: Quality-Net's batches are "
              "computed whole on each")
    return chosen


def _distribution(chosen):
    import keras

    class DataParallel(keras.distribution.DataParallel):
        """A batch that does not divide, as an epoch's last may be, is computed whole on each device: to the same result."""

        def get_data_layout(self, data_shape):
            if sharing.now.whole if sharing.now.hosts > 1 else not sharing.divides(data_shape[0]):
                return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)
            return super().get_data_layout(data_shape)

    return DataParallel(devices=chosen)
