"""Speech enhancement that learns its own loss: Quality-Net and what stands around it, in Keras 3.

What is used most is here by name, and imported when it is first asked for: `import se_keras` itself loads nothing.

    import se_keras
    network = se_keras.build("blstm")                 # a keras.Model: magnitude, frame mask -> ratio mask
    network, card = se_keras.load("blstm-balanced")   # the same with shipped weights
    network, card = se_keras.load_reference("x.h5")   # a Keras 2 file of the authors' code
    enhancer = se_keras.load_system("blstm-balanced")  # wave in, wave out
    enhanced, = enhancer.enhance([noisy])             # float32, 16 kHz
"""

import importlib

__version__ = "0.1.0"

_HOMES = {"build": "models", "load": "pretrained", "load_weights": "pretrained", "load_quality_net": "pretrained",
          "load_reference": "reference", "load_system": "enhancer", "MaskEnhancer": "enhancer", "mix": "mixing", "Stft": "stft",
          "istft": "stft", "UserError": "errors"}
_MODULES = ("audio", "dataset", "enhancer", "losses", "manifest", "metrics", "mixing", "models", "pretrained", "reference", "scores",
            "stft", "surrogate", "targets", "training")
__all__ = ["__version__", *_HOMES, *_MODULES]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
