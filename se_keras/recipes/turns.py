"""The finer settings of finetune.py, `--turns JSON`: what presets and experiments turn, with defaults that serve.

Each has a name, a default, a check, and what it does to the result. In a run's config they stand beside the flags.
"""

import argparse

from se_keras import cli
from se_keras.errors import UserError
from se_keras.judges import targets
from se_keras.judges.rounds import STAGES
from se_keras.mixtures.augment import Augmentation

STAGES_OF = {"frozen": (), "alternating": ("current",), "replay": ("historical", "current")}  # of a round, by --update
TURNS, NEW, TRAINING = "--update frozen", "a trained --quality-net", None  # what makes a setting pointless


def _choice(*known):
    def check(value):
        if value not in known or isinstance(value, bool):
            raise argparse.ArgumentTypeError(f"{value!r} is none of {', '.join(map(str, known))}")
        return value
    return check


def _stages(value):
    if not isinstance(value, list) or not value or not set(value) <= set(STAGES):
        raise argparse.ArgumentTypeError(f"{value!r} is no list of {', '.join(STAGES)}")
    return value


def _object(value):
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{value!r} is no JSON object")
    return value


def _augment(value):
    try:
        Augmentation.checked(_object(value))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return value


SETTINGS = {  # name: (what makes it pointless, default, check, what it does)
    "round": (TURNS, 20, cli.positive_int, "updates of the enhancer between Quality-Net's turns: more of them, and it lags behind"),
    "sample": (TURNS, 24, cli.positive_int, "mixtures scored in each turn: more of them, and it learns more, and slower"),
    "sample_of": (TURNS, "next", _choice("next", "last"), "which: of those about to be trained on, or just trained on"),
    "lag": (TURNS, 1, _choice(0, 1), "1: learns scores one round old, and no accelerator waits; 0: those of now, waited for"),
    "stages": (TURNS, None, _stages, "what a turn learns from, in order: current, historical; by default what --update says"),
    "history_share": (TURNS, 0.1, cli.fraction, "of the history, learned in a historical stage"),
    "history_pairs": (TURNS, 1000, cli.positive_int, "pairs kept at most, the newest"),
    "base_rows": (TURNS, 0, cli.from_zero_int, "training mixtures whose first scores stay in the history for ever"),
    "step_size": (TURNS, 0.5, cli.share, "how far the Quality-Net that the enhancer hears follows in a turn: below 1, an average"),
    "perturbed": (TURNS, 2, cli.from_zero_int, "perturbed outputs shown of each mixture: they tell which way quality lies"),
    "noisy_share": (TURNS, 1.0, cli.fraction, "of the mixtures, shown as they are too"),
    "clean_share": (TURNS, 0.05, cli.fraction, "of the mixtures, whose clean speech is shown too"),
    "siblings": (TURNS, 2, cli.positive_int, "pairs of one mixture side by side, whose difference is learned; 1 for none"),
    "contrast": (TURNS, 3.0, cli.from_zero, "weight of these differences in Quality-Net's loss"),
    "quality_batch": (TURNS, 4, cli.positive_int, "pairs in an update of Quality-Net"),
    "quality_rate": (TURNS, 5e-5, cli.positive_float, "its learning rate (Adam)"),
    "quality_args": (NEW, {}, _object, "arguments of models.quality_net, of a new one"),
    "mapping": (NEW, "range", _choice(*targets.MAPPINGS), "of a new one's target to 0 .. 1: the metric's range, or MetricGAN's"),
    "input": (NEW, "mask", _choice("mask", "wave"), "what a new one sees of enhanced speech, as in train.py"),
    "schedule": (TRAINING, "constant", _choice("constant", "cosine"), "of the enhancer's learning rate"),
    "patience": (TRAINING, None, cli.positive_int, "stop after so many validations without a better one; null for never"),
    "checkpoint_every": (TRAINING, 120.0, cli.from_zero, "seconds between checkpoints"),
    "snr_raise": (TRAINING, 0.0, cli.from_zero, "every second mixture has its noise turned down by up to so many dB"),
    "augment": (TRAINING, None, _augment, "draw mixtures anew each time, as train.py enhancer --augment; {} for its defaults"),
}


def help_text():
    """A line a setting, for the script's --help."""
    return "\n".join(f"  {name} ({default!r}): {does}" for name, (_, default, _, does) in SETTINGS.items())


def settle(args, typed_flags, typed_settings):
    """Checked settings in place of `args.turns`, one attribute each, what is pointless fallen away.

    Flags and settings of a preset that another flag makes pointless fall away, with a note; those that were typed are an error.

    Args:
        args: of finetune.py, its preset's values in it.
        typed_flags: destinations of the flags that stand on the command line.
        typed_settings: keys of the `--turns` that stands there.

    Raises:
        UserError: an unknown setting, a value that one cannot take, a typed one that is pointless.
    """
    given = args.turns
    where = {name: "--turns" if name in typed_settings else f"--preset {args.preset}, [finetune.turns]" for name in given}
    if unknown := sorted(set(given) - set(SETTINGS)):
        raise UserError(f"{where[unknown[0]]} has no {', '.join(unknown)}; it takes {', '.join(SETTINGS)}")
    for name, (_, default, check, _) in SETTINGS.items():
        setattr(args, name, default if name not in given else _checked(where[name], name, given[name], default, check))
    del args.turns
    ignored = {TURNS: args.update == "frozen", NEW: args.quality_net != "new"}
    for why in (why for why, pointless in ignored.items() if pointless):
        flags = {TURNS: {"anchor": False}, NEW: {"target": None}}[why]
        defaults = flags | {name: default for name, (of, default, _, _) in SETTINGS.items() if of == why}
        pointless = [name for name in changed(args, defaults) if not (name == "target" and name in typed_flags)]  # that one may agree
        if wrong := [name for name in pointless if name in typed_flags | typed_settings]:
            raise UserError(f"{why} makes {spell(wrong)} pointless; leave one out")
        if pointless:
            print(f"{why}: of --preset {args.preset}, {spell(pointless)} fall away")
            vars(args).update({name: defaults[name] for name in pointless})
    if "sample" not in given:
        args.sample = min(args.sample, args.round * args.batch)  # a default is no reason to refuse a short round


def _checked(where, name, value, default, check):
    if value is None and default is None:
        return None
    scalar = isinstance(value, (int, float)) and not isinstance(value, bool)
    by_text = getattr(check, "__module__", "") == cli.__name__  # the checks of flags take text
    try:
        return check(repr(value) if by_text and scalar else value)
    except (argparse.ArgumentTypeError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: {name} is {value!r}; {error if str(error) else 'another value'} (its default: {default!r})") from None


def changed(args, defaults):
    """Names of settings that stand away from their defaults."""
    return [name for name, default in defaults.items() if getattr(args, name) not in (default, None)]


def spell(names):
    """Flags as they are typed, and settings as keys of --turns."""
    return ", ".join(f"--turns {name}" if name in SETTINGS else "--" + name.replace("_", "-") for name in names)


def check(args):
    """Settings that contradict each other, or would be ignored.

    Raises:
        UserError: such a pair, and what to do.
    """
    stages, seen = args.stages or STAGES_OF[args.update], args.round * args.batch
    kept = changed(args, {name: SETTINGS[name][1] for name in ("history_share", "history_pairs")})
    for wrong, why in (
        (args.update == "frozen" and args.quality_net == "new",
         "--quality-net new knows nothing, and --update frozen would teach it nothing; choose --update alternating or replay, or name a "
         "trained one"),
        (args.update == "alternating" and "historical" in stages,
         "--turns stages historical is what --update replay does; name that, or stages current"),
        (args.update == "replay" and "historical" not in stages,
         "--update replay without a historical stage is what --update alternating does; name that, or add the stage"),
        (args.update != "frozen" and args.sample > seen,
         f"--turns sample {args.sample}: a round of {args.round} updates of {args.batch} mixtures sees {seen} only; lower it, or raise "
         "round"),
        (args.update == "alternating" and kept,
         f"--update alternating keeps no history, so {spell(kept)} has no effect; leave it out, or name --update replay"),
        (args.base_rows and "historical" not in stages,
         f"--turns base_rows {args.base_rows} are shown in historical stages, of which there are none; leave it out"),
        (args.quality_batch % args.siblings,
         f"--turns quality_batch {args.quality_batch} does not hold whole groups of siblings {args.siblings}; make it a multiple"),
    ):
        if wrong:
            raise UserError(why)


def check_loss(args, objective):
    """See that Quality-Net, where it learns on, is asked.

    Raises:
        UserError: it is not.
    """
    if args.update != "frozen" and not objective.asks_judge:
        raise UserError(f"--loss {args.loss} does not ask Quality-Net, so --update {args.update} has nothing to serve; leave one out")
