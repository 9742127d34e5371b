"""Stage one: media and labels on disk become rows in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..cache.lazy import lazy_exports

if TYPE_CHECKING:
    from .backbones import build_backbone
    from .dataset import Dataset, Track
    from .engine import extract
    from .media import open_audio, open_video, probe
    from .presets import Preset
    from .random_access import read_frames

__all__ = [
    "Dataset",
    "Preset",
    "Track",
    "build_backbone",
    "extract",
    "open_audio",
    "open_video",
    "probe",
    "read_frames",
]

_HOMES = {
    "Dataset": "dataset",
    "Preset": "presets",
    "Track": "dataset",
    "build_backbone": "backbones",
    "extract": "engine",
    "open_audio": "media",
    "open_video": "media",
    "probe": "media",
    "read_frames": "random_access",
}

__getattr__ = lazy_exports(__name__, _HOMES)
