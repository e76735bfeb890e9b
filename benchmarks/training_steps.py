"""Training steps: Quality-Net and the BLSTM against the same networks in PyTorch, at the same precision, batch and optimiser.

A step is what se_keras.training does with a batch: arrays in, one update by Adam, the loss out. All contenders of a case take
turns in one process. Where PyTorch was measured in two memory orders, the faster one is the peer.
"""

import functools
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks import measuring
from se_keras import backend

LEARNING_RATE = 1e-4
OURS, STOCK, PEERS = "ours", "stock Keras", ("PyTorch", "PyTorch, channels last")


@dataclass(frozen=True)
class Case:
    """A network and the batch that it is trained on."""

    network: str
    batch: int
    duration_s: float
    precision: str = "float32"
    jit: bool = False  # the loops of its LSTMs are compiled, as train.py enhancer does for pieces of one length
    aim: float = 1  # of the ratio


CASES = [*(Case("quality_net", 2, duration_s, precision) for precision in ("float32", "bfloat16") for duration_s in (2.0, 4.4)),
         *(Case("blstm", batch, 3.0, jit=jit, aim=aim) for jit in (True, False) for batch, aim in ((32, 1), (8, 0.9)))]


def run(quick, cores):
    """Rows of the table, a case each, and Quality-Net in bfloat16 beside float32."""
    rounds, turn_s = (2, 1.0) if quick else (5, 3.0)
    rows, found = [], {}
    for case in CASES:
        measuring.progress(f"training step: {_title(case)}")
        records, failure = measuring.spawn(__name__, cores, **asdict(case), rounds=rounds, turn_s=turn_s)
        found[case] = measuring.rates(records)
        rows.append(case_row(case, records, failure))
    for case in CASES:
        if case.precision == "bfloat16":
            rows.append(_bfloat16_row(case, found[case], found[Case(case.network, case.batch, case.duration_s)]))
    return rows


def case_row(case, records, failure):
    """The row of a case from the records of `child`; a crash is a row that says so."""
    rates = measuring.rates(records)
    value = {name: rate for name, (rate, _) in rates.items()}
    peer = max((name for name in PEERS if name in value), key=value.get, default=None)
    remark = [] if peer is None else [f"peer: {peer}"]
    if (spread := max((spread for _, spread in rates.values()), default=0)) > 0.1:
        remark.append(f"turns differ by up to {100 * spread:.0f}%")
    if failure:
        remark.append(f"{next((r['warms'] for r in reversed(records) if 'warms' in r), OURS)} {failure}")
    aim = "" if case.network == "blstm" and not case.jit else f"ratio >= {case.aim:g}"
    return measuring.row(f"training step, {_title(case)}", "utt/s", value.get(OURS), value.get(peer), value.get(STOCK), aim,
                         "; ".join(remark))


def _bfloat16_row(case, low, full):
    low, full, stock = (rates[name][0] if name in rates else None for rates, name in ((low, OURS), (full, OURS), (full, STOCK)))
    remark = "peer: ours in float32"
    if low and stock:
        remark += f"; {low / stock:.2f} times stock Keras in float32"
    return measuring.row(f"training step, {_title(case)} against float32", "utt/s", low, full, None, "ratio >= 1.7", remark)


def _title(case):
    from se_keras.signals.audio import SAMPLE_RATE
    from se_keras.signals.stft import Stft

    name = {"quality_net": "Quality-Net", "blstm": "BLSTM"}[case.network]
    frames = Stft().frames(round(case.duration_s * SAMPLE_RATE))
    return f"{name}, {case.batch} x {case.duration_s:g} s ({frames} frames), {case.precision}" + ", loops compiled" * case.jit


def child(network, batch, duration_s, precision, jit, aim, rounds, turn_s):
    """In a process of its own: every contender warmed up, then the turns, as records of `measuring.alternate`."""
    kept = (batch, duration_s, precision)
    builders = quality_net_steps(*kept) if network == "quality_net" else blstm_steps(*kept, jit)
    turns = {}
    for name, build in builders.items():
        yield {"warms": name}
        step = build()
        measuring.repeat(step, batch, 0.5)
        turns[name] = functools.partial(measuring.repeat, step, batch, turn_s)
    yield {"warms": "a contender"}
    yield from measuring.alternate(turns, rounds)


def quality_net_steps(batch, duration_s, precision):
    """{contender: () -> step} of Quality-Net on a batch of noise."""
    spectra = noise_spectra(batch, duration_s)
    inputs = {"degraded": spectra["noisy"], "clean": spectra["clean"]}
    inputs = {**{name: np.sqrt(np.square(spectrum).sum(-1)) for name, spectrum in inputs.items()}, "frame_mask": spectra["frame_mask"]}
    target = np.linspace(0.3, 0.8, batch, dtype=np.float32)[:, None]

    def in_keras():
        from se_keras import models

        return _keras_step(models.build("quality_net", precision=precision), "mse", inputs, target)

    def in_torch(channels_last):
        from benchmarks import torch_networks

        step = torch_networks.quality_net_step(target, LEARNING_RATE, torch_networks.QualityNet(precision, channels_last))
        return functools.partial(step, *inputs.values())

    builders = {OURS: in_keras, STOCK: functools.partial(_in_stock_keras, in_keras)}
    if precision != "float32":
        del builders[STOCK]  # only float32 goes by the Fourier transform: here ours is the stock convolution
    return {**builders, **{name: functools.partial(in_torch, number == 1) for number, name in enumerate(PEERS)}}


def blstm_steps(batch, duration_s, precision, jit=False):
    """{contender: () -> step} of the BLSTM, trained towards the clean spectrogram, on a batch of noise."""
    if precision != "float32":
        raise ValueError(f"the BLSTM is compared in float32 only, not in {precision}")
    inputs = noise_spectra(batch, duration_s)

    def in_keras():
        from se_keras import losses, models
        from se_keras.enhancers.magnitude_mask import MaskEnhancer
        from se_keras.models import recurrent
        from se_keras.training.objective import objective_model, weighted_mean

        objective = losses.parse("mse")
        network = models.build("blstm")
        if jit:
            recurrent.compile_loops(network)
        model = objective_model(MaskEnhancer(network), objective)
        return _keras_step(model, weighted_mean(objective), inputs, np.zeros(batch, np.float32))

    def in_torch():
        from benchmarks import torch_networks

        return functools.partial(torch_networks.blstm_step(LEARNING_RATE, torch_networks.Blstm()), *inputs.values())

    return {OURS: in_keras, STOCK: functools.partial(_in_stock_keras, in_keras), PEERS[0]: in_torch}


def noise_spectra(batch, duration_s):
    """`dataset.spectrogram_batch` of noise and half of it: what the signals are does not change the time a step takes."""
    from se_keras.mixtures.feed import spectrogram_batch
    from se_keras.signals.audio import SAMPLE_RATE

    waves = np.random.default_rng(0).standard_normal((batch, round(duration_s * SAMPLE_RATE))).astype(np.float32)
    return spectrogram_batch([(wave, wave / 2) for wave in waves])


def _keras_step(model, loss, inputs, target):
    import keras

    from se_keras.training import loop

    loop.compile_model(model, keras.optimizers.Adam(LEARNING_RATE), loss)
    return lambda: float(model.train_on_batch(inputs, target))


def _in_stock_keras(build):
    """The step of `build` with Keras's own convolution and LSTM, which it takes as it is first run."""
    with backend.portable():
        step = build()

    def stock_step():
        with backend.portable():
            step()

    return stock_step
