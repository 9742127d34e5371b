"""Stage two: rows in the store become trained heads, scores and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..cache.lazy import lazy_exports

if TYPE_CHECKING:
    from .concordance import ccc, ccc_loss
    from .grid import Grid
    from .heads import HEADS, build_head
    from .parts import FusionHead
    from .reference import from_reference
    from .scores import Scores
    from .settings import ExperimentSettings, FuseSettings, TrainingSettings, WindowSettings
    from .training import train

__all__ = [
    "HEADS",
    "ExperimentSettings",
    "FuseSettings",
    "FusionHead",
    "Grid",
    "Scores",
    "TrainingSettings",
    "WindowSettings",
    "build_head",
    "ccc",
    "ccc_loss",
    "from_reference",
    "train",
]

_HOMES = {
    "ExperimentSettings": "settings",
    "FuseSettings": "settings",
    "FusionHead": "parts",
    "Grid": "grid",
    "HEADS": "heads",
    "Scores": "scores",
    "TrainingSettings": "settings",
    "WindowSettings": "settings",
    "build_head": "heads",
    "ccc": "concordance",
    "ccc_loss": "concordance",
    "from_reference": "reference",
    "train": "training",
}

__getattr__ = lazy_exports(__name__, _HOMES)
