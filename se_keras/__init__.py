"""Speech enhancement that learns its own loss: Quality-Net and what stands around it, in Keras 3.

What is used most is here by name, and imported when it is first asked for: `import se_keras` itself loads nothing. Beside Keras it
registers the layers of this package, so that `keras.models.load_model` reads a .keras or .h5 file of any model here.

    import se_keras
    network = se_keras.build("blstm")                 # a keras.Model: magnitude, frame mask -> ratio mask
    network, card = se_keras.load("blstm-hearing")    # the same with shipped weights
    network, card = se_keras.load_reference("x.h5")   # a Keras 2 file of the authors' code
    enhancer = se_keras.torch.load("dccrn", "x.npz")  # weights of PyTorch code
    enhancer = se_keras.load_system("blstm-hearing")  # wave in, wave out
    enhanced, = enhancer.enhance([noisy])             # float32, 16 kHz
"""

import importlib

from se_keras.registration import when_keras_is_there

__version__ = "0.1.0"

_HOMES = {"build": "models", "load": "pretrained", "load_weights": "weights", "load_quality_net": "pretrained",
          "load_reference": "reference", "load_system": "pretrained", "MaskEnhancer": "enhancers.magnitude_mask", "mix": "signals.mixing",
          "StreamingEnhancer": "enhancers.live", "BufferedEnhancer": "enhancers.buffered", "Stft": "signals.stft", "istft": "signals.stft",
          "UserError": "errors"}
_MODULES = {"audio": "signals.audio", "mixing": "signals.mixing", "stft": "signals.stft", "manifest": "mixtures.manifest",
            "diet": "judges.diet", "surrogate": "judges.surrogate", "targets": "judges.targets", "scores": "scoring.scores",
            **{name: name for name in ("corpora", "enhancers", "export", "hearing", "judges", "losses", "metrics", "mixtures", "models",
                                       "pretrained", "reference", "report", "scoring", "signals", "torch", "training")}}
__all__ = ["__version__", *_HOMES, *_MODULES]


when_keras_is_there()


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{_MODULES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
