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
    from .identity import Identity
    from .item import Item
    from .manifest import Manifest, ManifestTrack
    from .new_shard import INTERPOLATED, REPEATED, NewItem, ShardFormat
    from .store import FeatureStore
    from .stream import Stream
    from .writer import StreamWriter

__all__ = [
    "INTERPOLATED",
    "REPEATED",
    "BudgetError",
    "ConcordError",
    "ConfigError",
    "DataError",
    "FeatureStore",
    "Identity",
    "Item",
    "Manifest",
    "ManifestTrack",
    "MediaError",
    "NewItem",
    "NotInStoreError",
    "ShardFormat",
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
    "Identity": "identity",
    "Item": "item",
    "INTERPOLATED": "new_shard",
    "REPEATED": "new_shard",
    "NewItem": "new_shard",
    "ShardFormat": "new_shard",
    "FeatureStore": "store",
    "Stream": "stream",
    "StreamWriter": "writer",
}

__getattr__ = lazy_exports(__name__, _HOMES)
