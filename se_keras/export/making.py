"""An exported file that was checked, with its card beside it; or neither."""

import os
import shutil
from pathlib import Path

from se_keras import __version__, files
from se_keras.errors import UserError
from se_keras.export import checking, formats, running
from se_keras.signals.audio import SAMPLE_RATE


def make(form, path, name, weights, card, holder):
    """Write a form as a file, run it beside Keras, and keep it with a card where both agree.

    Args:
        form: `forms.Form`.
        path: of the file; one of its kind is replaced. The card is `running.card_path(path)`.
        name, weights: as `formats.write`.
        card: of the model (`pretrained.read_card`).
        holder: as `checking.measure`.

    Returns:
        The new card.

    Raises:
        UserError: as `formats.write`; or the file differs from Keras by more than `checking.TOLERANCES` has for its weights.
    """
    path = Path(path)
    check_place(path, name)
    waiting = path.with_name(f".{path.name}")
    remove(waiting)
    try:
        formats.write(form, waiting, name, weights)
        about = {"name": card["name"], "form": form.kind, "format": name, "weights": weights, "file": path.name, "sample_rate": SAMPLE_RATE,
                 "parameters": holder.network.count_params(),
                 **form.describe(), "licence": card.get("licence", ""), "made_by": f"se_keras {__version__}"}
        about["difference"], about["rtf"] = checking.measure(waiting, about, form, holder)
        if about["difference"] > (most := checking.TOLERANCES[weights]):
            raise UserError(f"{path.name}: the converted file is {about['difference']:.2g} from Keras, more than {most:g}; it is not kept. "
                            "Take another format, and report the network")
        _replace(path, waiting)
        files.write_json(running.card_path(path), about)
    finally:
        remove(waiting)
    return about


def check_place(path, name):
    """See that what lies at `path` is an earlier file of a format, or nothing; else UserError."""
    path = Path(path)
    if path.exists() and (not (path / "saved_model.pb").is_file() if name == "saved-model" else path.is_dir()):
        raise UserError(f"{path}: is there, and is no earlier {name} file; remove it, or name another --out")


def _replace(path, waiting):
    """Put a new file, or a folder, in the place of an earlier one, whose card goes first: no file is left with another's card."""
    running.card_path(path).unlink(missing_ok=True)
    earlier = path.with_name(f".earlier-{path.name}")
    remove(earlier)
    if waiting.is_dir() and path.is_dir():  # a folder does not replace one that holds something
        os.replace(path, earlier)
    os.replace(waiting, path)
    remove(earlier)


def remove(path):
    """Remove a file or a folder, where it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
