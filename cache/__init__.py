"""The feature store: arrays, recipes, digests, shards. Knows no video and no fusion head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import (
    BudgetError,
    ConcordError,
    ConfigError,
    DataError,
    MediaError,
    NotInStoreError,
    StoreError,
    TrainingError,
)
from .lazy import lazy_exports

if TYPE_CHECKING:
    from .digests import canonical, digest, file_digest
    from .manifest import Manifest, ManifestTrack
    from .shard import REPEATED, NewItem
    from .store import FeatureStore, Item, Stream
    from .writer import StreamWriter

__all__ = [
    "REPEATED",
    "BudgetError",
    "ConcordError",
    "ConfigError",
    "DataError",
    "FeatureStore",
    "Item",
    "Manifest",
    "ManifestTrack",
    "MediaError",
    "NewItem",
    "NotInStoreError",
    "StoreError",
    "Stream",
    "StreamWriter",
    "TrainingError",
    "canonical",
    "digest",
    "file_digest",
]

_HOMES = {
    "canonical": "digests",
    "digest": "digests",
    "file_digest": "digests",
    "Manifest": "manifest",
    "ManifestTrack": "manifest",
    "REPEATED": "shard",
    "NewItem": "shard",
    "FeatureStore": "store",
    "Item": "store",
    "Stream": "store",
    "StreamWriter": "writer",
}

__getattr__ = lazy_exports(__name__, _HOMES)
