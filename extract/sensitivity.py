"""Sensitivity: what the numbers of a stream tell of the people in a data set.

It is derived from the recipe, so that streams which were stored before it existed have one as well,
and no digest changes. What is not known is held for the most sensitive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from .settings import BACKBONES

Sensitivity = Literal["media", "vectors", "metrics"]
"""`media`: pictures, sound, labels, words, or what they can practically be made of again;
`vectors`: pooled vectors of a network; `metrics`: scores and counts."""
KEY = "sensitivity"
"""Key by which a recipe that is not ours may state its own."""
POOLING = {"visual": frozenset(BACKBONES), "audio": frozenset({"resnet18"})}
"""Modality to the backbones that leave one pooled vector of a picture, clip or spectrogram. A row
of `text/…` stands for one word, which can be read back from it, so no text is among them."""


def sensitivity(stream: str, recipe: Mapping[str, Any]) -> Sensitivity:
    """Say how sensitive a stream's rows are.

    Args:
        stream: Name of the stream: `visual/i3d`, with or without its digest.
        recipe: Its recipe. What it states under `sensitivity` counts; a stream of a backbone of
            ours that pools gives `vectors`; all else is `media`: labels, words, spectrograms,
            crops, backbones of a user's own, and what is not known.
    """
    stated = recipe.get(KEY)
    if stated is not None:
        return next((kind for kind in get_args(Sensitivity) if kind == stated), "media")
    backbone = recipe.get("backbone")
    pools = isinstance(backbone, str) and backbone in POOLING.get(stream.partition("/")[0], ())
    return "vectors" if pools and recipe.get("weights") else "media"
