"""What is exported of a model: one that takes whole waves, one that takes a stream's blocks with their state, or its network as it is.

Every form is a functional keras.Model of named inputs and outputs, so that every format can hold it.

| form | inputs | outputs |
| --- | --- | --- |
| wave, of an enhancer | `noisy` float32 `(1, samples)` | `enhanced` float32 `(1, samples)` |
| wave, of a Quality-Net | `degraded`, and most `clean`, float32 `(1, samples)` | `score` float32 `(1, 1)`, in the target's unit |
| step | `block` float32 `(1, hop)`, and states | `enhanced` float32 `(1, hop)`, and each state behind the block, `next_` and its name |
| network | as `models` describes it | as `models` describes it |

Audio is of 16 kHz and any length above 0. A step's states are zeros before the first block. What it gives is `n_fft - hop` samples behind
what it was given: the first `n_fft / 2` samples lie before the recording, and as many zeros behind it bring its last samples out.
"""

from dataclasses import dataclass

from se_keras.errors import UserError
from se_keras.signals.audio import SAMPLE_RATE
from se_keras.signals.stft import Stft, framed_window

FORMS = ("wave", "step", "network")


@dataclass(frozen=True)
class Form:
    """A model ready for a file.

    Attributes:
        kind: one of `FORMS`.
        model: keras.Model.
        delay: samples by which a step's output is behind its input, counted from the recording's first; 0 of other forms.
        latency_s: algorithmic latency of a step in seconds, its block included; None of other forms.
    """

    kind: str
    model: object
    delay: int = 0
    latency_s: float | None = None

    def describe(self):
        """What a card says of it: {"inputs": {name: shape, None for any size}, "outputs": likewise}, and of a step block and delay in
        samples and latency_s."""
        said = {"inputs": {tensor.name: list(tensor.shape) for tensor in self.model.inputs},
                "outputs": {name: list(tensor.shape) for name, tensor in named(self.model, self.model.output).items()}}
        if self.kind == "step":
            said.update(block=said["inputs"]["block"][1], delay=self.delay, latency_s=self.latency_s)
        return said


def named(model, outputs):
    """{name: tensor} of what a model gives, a dict, a list or one."""
    if isinstance(outputs, dict):
        return outputs
    if not isinstance(outputs, list | tuple):
        return {"output": outputs}
    return {f"output_{number}": each for number, each in enumerate(outputs)}


def of(holder, kinds=None):
    """Forms of an enhancer, or of a `QualityPredictor`: those asked for; of None, wave and, where there is one, step.

    Raises:
        UserError: as `of_enhancer` and `of_quality_net`.
    """
    scores = hasattr(holder, "needs_reference")
    kinds = kinds or ["wave", *(["step"] if not scores and streams(holder) else [])]
    return [(of_quality_net if scores else of_enhancer)(holder, kind) for kind in dict.fromkeys(kinds)]


def of_enhancer(enhancer, kind):
    """A form of an `enhancers.base.Enhancer`.

    Raises:
        UserError: a step of a network that is not causal, or of an STFT whose windows overlap by other than half.
    """
    return {"wave": _wave, "step": _step, "network": _network}[kind](enhancer)


def of_quality_net(predictor, kind):
    """A form of a `judges.surrogate.QualityPredictor`.

    Raises:
        UserError: a step: a score is of a whole utterance.
    """
    if kind == "step":
        raise UserError(f"{predictor.network.name} scores whole utterances; it has no streaming step")
    return _network(predictor) if kind == "network" else _score(predictor)


def streams(enhancer):
    """Whether there is a step of it."""
    from se_keras.models import lstm

    return lstm.streams(enhancer.network) and _half_overlaps(enhancer.config)


def _network(holder):
    return Form("network", holder.network)


def _wave(enhancer):
    import keras

    from se_keras.models.wave_layers import EveryFrameIsSpeech, SpectrumWave, WaveSpectrum

    noisy = keras.Input((None,), batch_size=1, name="noisy")
    spectrum = WaveSpectrum(enhancer.config, name="stft")(noisy)
    estimate = enhancer.model([spectrum, EveryFrameIsSpeech(name="frame_mask")(spectrum)])["spectrum"]
    enhanced = SpectrumWave(enhancer.config, name="istft")(estimate, noisy)
    return Form("wave", keras.Model({"noisy": noisy}, {"enhanced": enhanced}, name=f"{enhancer.network.name}_wave"))


def _score(predictor):
    import keras

    from se_keras.models.layers import SpectrumMagnitude
    from se_keras.models.wave_layers import EveryFrameIsSpeech, UnitPeak, WaveSpectrum

    names = ("degraded", "clean") if predictor.needs_reference else ("degraded",)
    waves = {name: keras.Input((None,), batch_size=1, name=name) for name in names}
    magnitudes = []
    for name, wave in waves.items():
        if not predictor.needs_reference:
            wave = UnitPeak(name="unit_peak")(wave)
        spectrum = WaveSpectrum(predictor.config, name=f"stft_{name}")(wave)
        magnitudes.append(SpectrumMagnitude(name=f"magnitude_{name}")(spectrum))
    frame_mask = EveryFrameIsSpeech(name="frame_mask")(spectrum)
    score = predictor.network([magnitudes[0], magnitudes[-1], frame_mask])
    return Form("wave", keras.Model(waves, {"score": predictor.target.from_score(score)}, name=f"{predictor.network.name}_wave"))


def _half_overlaps(config):
    return config == Stft(config.n_fft, config.n_fft // 2, config.window)


def _step(enhancer):
    import keras
    from keras import ops

    from se_keras.models import lstm
    from se_keras.models.wave_layers import FrameSpectrum, SpectrumFrame

    network, config = enhancer.network, enhancer.config
    if not lstm.streams(network):
        raise UserError(f"{enhancer.name} hears the whole recording before its first output and has no streaming step; lstm-ears has one")
    if not _half_overlaps(config):
        raise UserError(f"{enhancer.name}: a streaming step takes centred windows that overlap by half, and this enhancer has {config}")
    hop, cell = config.hop_length, lstm.step(network)
    block = keras.Input((hop,), batch_size=1, name="block")
    before = keras.Input((hop,), batch_size=1, name="before")
    overlap = keras.Input((hop,), batch_size=1, name="overlap")
    states = [keras.Input(tensor.shape[1:], batch_size=1, name=tensor.name) for tensor in cell.inputs[1:]]

    spectrum = FrameSpectrum(config, name="spectrum")(ops.concatenate([before, block], axis=-1))
    magnitude = ops.sqrt(ops.sum(ops.square(ops.reshape(spectrum, (1, 2, config.bins))), axis=1, keepdims=True))
    mask, *after = cell([magnitude, *states])
    frame = SpectrumFrame(config, name="frame")(spectrum * ops.concatenate([mask[:, 0], mask[:, 0]], axis=-1))
    window = framed_window(config) ** 2
    enhanced = (overlap + frame[:, :hop]) / (window[:hop] + window[hop:])  # every sample of a recording lies in two frames
    outputs = {"enhanced": enhanced, "next_before": block, "next_overlap": frame[:, hop:],
               **{f"next_{state.name}": value for state, value in zip(states, after, strict=True)}}
    inputs = {tensor.name: tensor for tensor in (block, before, overlap, *states)}
    return Form("step", keras.Model(inputs, outputs, name=f"{network.name}_step"), config.padding, config.n_fft / SAMPLE_RATE)
