"""What stands around a network: one family a file, from waves to waves and from spectra to spectra.

A network belongs to the family that `models.ENHANCERS` names; a model's card names it too. A card without one is a magnitude mask.
"""

import importlib

from se_keras.errors import check_choice

FAMILIES = {"magnitude_mask": "MaskEnhancer", "binary_mask": "BinaryMaskEnhancer", "complex_mask": "ComplexMaskEnhancer",
            "complex_mapping": "ComplexMappingEnhancer"}
DEFAULT_FAMILY = "magnitude_mask"


def family(name=None):
    """The class of a family, a subclass of `base.Enhancer`; of None, as of a card that names none, `DEFAULT_FAMILY`.

    Raises:
        UserError: an unknown name, with the known ones.
    """
    name = DEFAULT_FAMILY if name is None else name
    check_choice("family", name, FAMILIES)
    return getattr(importlib.import_module(f"se_keras.enhancers.{name}"), FAMILIES[name])
