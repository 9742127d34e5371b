"""Stage one: media and labels on disk become rows in the store."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbones import build_backbone
    from .dataset import Dataset, Track
    from .engine import extract
    from .media import open_audio, open_video, probe

__all__ = ["Dataset", "Track", "build_backbone", "extract", "open_audio", "open_video", "probe"]

_HOMES = {
    "Dataset": "dataset",
    "Track": "dataset",
    "build_backbone": "backbones",
    "extract": "engine",
    "open_audio": "media",
    "open_video": "media",
    "probe": "media",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the workflow reads data set folders without paying for torch."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
