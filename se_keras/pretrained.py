"""Weights by name: the shipped ones under weights/, and those of a run folder."""

import copy
import hashlib
import json
import math
from pathlib import Path

import numpy as np

from se_keras import backend, enhancers, files, models, weights
from se_keras.enhancers.base import Noisy
from se_keras.errors import UserError
from se_keras.export import running
from se_keras.judges import targets
from se_keras.metrics import own
from se_keras.signals.stft import Stft
from se_keras.training.runs import BEST, LAST

WEIGHTS = files.shipped("weights")
DEFAULT_ENHANCER = "blstm-hearing"
DEFAULT_QUALITY_NET = "quality-net"
DEFAULT_JUDGES = ("quality-net-ears", "hearing_wb")  # of raw PESQ and of PESQ wb, where there is a reference
INPUTS = ("mask", "wave", "peak")  # what a Quality-Net may have learned to see of enhanced speech
DEFAULT_NON_INTRUSIVE = "quality-net-2018"
BUILT_IN = {  # judges that have nothing to learn, and so no files: the hearing model, narrow and wide band
    f"hearing_{band}": {"network": "hearing", "arguments": {"band": band}, "stft": {}, "representation": "mask", "name": f"hearing_{band}",
                        "target": targets.parse(target).to_config()} for band, target in (("nb", "pesq_raw"), ("wb", "pesq_wb"))}


def names():
    """Names of the shipped models."""
    return sorted(path.stem for path in WEIGHTS.glob("*.json"))


def find(name):
    """Where a model's description and weights lie: `(json path, weights path)`.

    Args:
        name: a shipped model's name ("blstm-qnet"), its card or weights file, a run folder (its best weights), or one of the weights
            files in it ("runs/mse/last.weights.h5").

    Raises:
        UserError: none of these; the message lists the shipped ones.
    """
    path = Path(name)
    if path.name in (BEST, LAST) and path.is_file() and (path.parent / "config.json").is_file():
        return path.parent / "config.json", path
    if path.is_dir():
        card, best = path / "config.json", path / BEST
        if not card.is_file() or not best.is_file():
            raise UserError(f"{path}: no run with weights in it ({card.name} and {best.name} are expected); "
                            "train one with train.py, or see whether its training got as far as its first validation")
        return card, best
    stem = path.name.removesuffix(".weights.h5").removesuffix(".json")
    for folder in [path.parent, WEIGHTS] if str(name) == path.name else [path.parent]:  # a mistyped runs/NAME is never the shipped NAME
        card, stored = folder / f"{stem}.json", folder / f"{stem}.weights.h5"
        if card.is_file() and stored.is_file():
            return card, stored
    raise UserError(f"{name}: no such model; shipped: {', '.join(names()) or 'none'}; or give a run folder, or a .weights.h5 "
                    "file with its .json card beside it")


def read_card(name, network=None):
    """The description of a model (network, arguments, stft, name ...), without loading Keras.

    Args:
        name: as `find`.
        network: the kind of network that is expected, such as "quality_net"; or a tuple of kinds.

    Raises:
        UserError: an unknown name, a damaged card, or another kind of network.
    """
    if name in BUILT_IN:
        card = copy.deepcopy(BUILT_IN[name])
        _check_kind(name, card, network)
        return card
    card_path, weights_path = find(name)
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, a number too long to read
        raise UserError(f"{card_path}: not JSON ({error})") from None
    if missing := {"network", "arguments", "stft"} - set(card if isinstance(card, dict) else ()):
        raise UserError(f"{card_path}: lacks {', '.join(sorted(missing))}; it does not describe a model")
    for key, kind in (("network", str), ("arguments", dict), ("stft", dict), ("sha256", str), ("name", str), ("family", str),
                      ("weights", dict), ("representation", str), ("bias", dict)):
        if key in card and not isinstance(card[key], kind):
            raise UserError(f"{card_path}: {key} is {card[key]!r}; expected {'a text' if kind is str else 'a JSON object'}")
    if (seen := card.get("representation", "mask")) not in INPUTS:
        raise UserError(f"{card_path}: representation is {seen!r}; expected one of {', '.join(INPUTS)}")
    if not all(type(value) in (int, float) and abs(value) < math.inf for kind, value in card.get("bias", {}).items() if kind != "data"):
        raise UserError(f"{card_path}: bias is {card['bias']!r}; expected a number for each kind of speech")
    try:
        models.with_bins(card["arguments"], Stft.checked(card["stft"]))
    except UserError as error:
        raise UserError(f"{card_path}: {error}") from None
    _check_kind(name, card, network)
    card.setdefault("name", Path(name).name.removesuffix(".weights.h5").removesuffix(".json"))
    if weights_path.name == LAST:
        card["name"] += " (last)"
    return card


def _check_kind(name, card, network):
    kinds = (network,) if isinstance(network, str) else network
    if kinds is not None and card["network"] not in kinds:
        raise UserError(f"{name} is a {card['network']}; a {kinds[0]} is expected here")


def sha256(name):
    """sha256 (hex) of a model's weights file; names as `find`. Of one without weights, of its name."""
    if name in BUILT_IN:
        return hashlib.sha256(name.encode()).hexdigest()
    return hashlib.sha256(find(name)[1].read_bytes()).hexdigest()


def load(name, **overrides):
    """Build a model by its card and load its weights.

    Args:
        name: as `find`.
        overrides: arguments of the builder to change, such as precision="bfloat16" or mask_floor=0.05; what the changed network has
            beside the card's keeps its first values.

    Returns:
        `(keras.Model, card dict)`.

    Raises:
        UserError: an unknown name, a file that is no weights file, a checksum that differs from the card's, or weights of another
            architecture.
    """
    card = read_card(name)
    if name in BUILT_IN:
        return models.build(card["network"], **{**card["arguments"], **overrides}), card
    path = find(name)[1]
    if "sha256" in card and (found := sha256(name)) != card["sha256"]:
        raise UserError(f"{path}: sha256 is {found[:12]}..., the card says {card['sha256'][:12]}...; the file is damaged or is "
                        "not the card's; restore it")
    network = models.build(card["network"], **card["arguments"])
    weights.load_weights(network, path)
    if overrides:
        changed = models.build(card["network"], **{**card["arguments"], **overrides})
        stored = {layer.name: layer for layer in network.layers}
        for layer in changed.layers:
            if layer.name not in stored:
                continue
            wants, has = ([weight.shape for weight in of.weights] for of in (layer, stored[layer.name]))
            if wants != has:
                raise UserError(f"{name}: layer {layer.name} has weights of {weights.in_words(has)}; with {overrides} it wants "
                                f"{weights.in_words(wants)}")
            layer.set_weights(stored[layer.name].get_weights())
        network = changed
    return network, card


def load_system(name):
    """A system by name: "noisy", "wiener", a shipped model's name, a card or weights file under weights/, a run folder, or a file of
    export.py.

    Raises:
        UserError: nothing of that name; the message lists what there is.
    """
    name = str(name)
    if name == "noisy":
        return Noisy()
    if name == "wiener":
        from se_keras.enhancers.wiener import Wiener

        return Wiener()
    if running.is_exported(name):
        return running.ExportedSystem(name)
    return load_enhancer(name)[0]


def load_enhancer(name, **overrides):
    """An enhancer of its family, by the name of a model.

    Args:
        name, overrides: as `load`.

    Returns:
        `(enhancers.base.Enhancer, card dict)`.

    Raises:
        UserError: as `load`; or a Quality-Net.
    """
    check_enhancers([name])
    network, card = load(name, **overrides)
    return enhancers.family(card.get("family"))(network, Stft(**card["stft"]), card["name"]), card


def load_quality_net(name=DEFAULT_QUALITY_NET, **overrides):
    """A `surrogate.QualityPredictor` by name or run folder."""
    read_card(name, models.QUALITY_NETWORKS)
    backend.load()
    from se_keras.judges.surrogate import QualityPredictor

    network, card = load(name, **overrides)
    if card["network"] == "quality_net_2018":
        from se_keras.models.quality_net_2018 import as_quality_net

        network = as_quality_net(network)
    return QualityPredictor(network, Stft(**card["stft"]), card.get("representation", "mask"), read_target(card))


def read_target(card):
    """The `targets.Target` of a Quality-Net's card; raw PESQ where it says nothing. A user's function in it is not imported."""
    if "target" not in card:
        return targets.parse("pesq_raw")
    target = targets.Target.from_config(card["target"])
    (own.trust if _trust_cards else own.refuse)(target.metrics)
    return target


_trust_cards = False


def trust_cards(trusted):
    """Whether functions that cards name may be imported: --trust-card."""
    global _trust_cards
    _trust_cards = trusted


def check_stft(name, config, of):
    """See that a model has the STFT of what it is to work with.

    Args:
        name: as `find`.
        config: the `Stft` that is expected.
        of: what has that one, in words.

    Raises:
        UserError: it has another.
    """
    if (theirs := read_card(name)["stft"]) != config.to_config():
        raise UserError(f"{name} has the STFT {theirs}, {of} has {config.to_config()}; both must have one")


def check_enhancers(names):
    """See, before any long work, that each name is an enhancer's.

    Raises:
        UserError: an unknown name, or a Quality-Net.
    """
    for name in names:
        if (card := read_card(name))["network"] in models.QUALITY_NETWORKS:
            raise UserError(f"{name} is a {card['network']}, which scores speech; an enhancer is expected here")


def check_judges(names):
    """See, before any long work, that each name is a Quality-Net's.

    Raises:
        UserError: an unknown name, or an enhancer.
    """
    for name in names:
        read_card(name, models.QUALITY_NETWORKS)
