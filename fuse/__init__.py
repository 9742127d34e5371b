"""Stage two: rows in the store become trained heads, scores and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..cache.lazy import lazy_exports

if TYPE_CHECKING:
    from .concordance import ccc, ccc_loss
    from .heads import HEADS, build_head
    from .training import train

__all__ = ["HEADS", "build_head", "ccc", "ccc_loss", "train"]

_HOMES = {
    "HEADS": "heads",
    "build_head": "heads",
    "ccc": "concordance",
    "ccc_loss": "concordance",
    "train": "training",
}

__getattr__ = lazy_exports(__name__, _HOMES)
