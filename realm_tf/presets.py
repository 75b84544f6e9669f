"""The names of what comes with the package."""

import os

from realm_tf.config import MINI

PACKAGED = ("realm_mini", MINI)  # as Keras spells presets, and as configurations do


def is_packaged(preset: str | os.PathLike) -> bool:
    """Whether a preset is the packaged one. A folder of that name is given as "./realm_mini"."""
    return isinstance(preset, str) and preset in PACKAGED
