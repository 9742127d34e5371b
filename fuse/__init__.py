"""Stage two: rows in the store become trained heads, scores and predictions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    """Import on first use: the workflow reads settings without paying for torch."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
