"""Pulled shards: which of a store's shards came from a fall-back store, and making room for more.

A small file marks each, and its time says when the shard was used last. What has no mark was
computed here, or pulled on demand, and is never removed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .atomic import write_json
from .collect import remove
from .entries import check_version
from .pins import pins
from .place import parse_record
from .survey import Survey, survey
from .targets import FolderTarget

if TYPE_CHECKING:
    from .store import FeatureStore
    from .stream import Stream

VERSION = 1
FOLDER = "pulled"

Keys = Mapping[str, AbstractSet[str]]
"""Full name of a stream to keys of its items."""


class CachingTarget(FolderTarget):
    """A store in a folder that marks what it is sent as pulled."""

    def arrived(self, stream: Stream, shard: Path) -> None:
        """Mark a shard that has been published."""
        mark(self.place.path, stream.full_name, shard.name)


@dataclass(frozen=True, slots=True)
class PulledShard:
    """A shard that may be removed, since it can be pulled again."""

    path: Path
    stream: str
    """Full name of its stream."""
    bytes: int
    used: float
    """When it was used last: seconds since 1970."""
    keys: frozenset[str]


def mark(store: str | Path, stream: str, shard: str) -> None:
    """Mark a shard as pulled, and as used now."""
    write_json(_marker(store, shard), {"version": VERSION, "stream": stream, "shard": shard})


def use(store: str | Path, shards: Iterable[str]) -> None:
    """Take note that shards, by their names, are used now; those without a mark need none."""
    for shard in shards:
        try:
            os.utime(_marker(store, shard))
        except FileNotFoundError:
            continue


def _marker(store: str | Path, shard: str) -> Path:
    return Path(store, FOLDER, f"{shard}.json")


def pulled_shards(store: FeatureStore, found: Survey) -> tuple[PulledShard, ...]:
    """Give the pulled shards that a survey found.

    Raises:
        StoreError: A mark is damaged, or of a version that this program does not know.
    """
    marked = {name.removesuffix(".json") for name in (store.place / FOLDER).files()}
    return tuple(
        PulledShard(
            path=shard.path,
            stream=stream.name,
            bytes=shard.bytes,
            used=used,
            keys=frozenset(entry.key for entry in shard.entries),
        )
        for stream in found.streams
        for shard in stream.shards
        if shard.path.name in marked and (used := _used(store, stream.name, shard.path.name))
    )


def _used(store: FeatureStore, stream: str, shard: str) -> float:
    """Say when a shard was used last; 0 where its mark is another stream's, or gone by now."""
    marker = _marker(store.path, shard)
    try:
        record = parse_record(marker.read_bytes(), str(marker))
        check_version(record, str(marker), VERSION)
        return marker.stat().st_mtime if record.get("stream") == stream else 0.0
    except FileNotFoundError:
        return 0.0


def pinned_keys(store: FeatureStore, found: Survey) -> dict[str, set[str]]:
    """Give what pins hold: all items of pinned streams, all that pinned manifests list."""
    held = {pin.what for pin in pins(store)}
    keys: dict[str, set[str]] = {}
    for stream in found.streams:
        if stream.name in held:
            every = {entry.key for shard in stream.shards for entry in shard.entries}
            keys.setdefault(stream.name, set()).update(every)
    for manifest in found.manifests:
        if manifest.name in held:
            for stream, listed in manifest.items.items():
                keys.setdefault(stream, set()).update(listed)
    return keys


def overflow(
    shards: Collection[PulledShard], limit: int, kept: Iterable[Keys]
) -> tuple[PulledShard, ...]:
    """Choose what goes, least recently used first, until the rest takes no more than a limit.

    Args:
        shards: All pulled shards of a store.
        limit: Bytes.
        kept: What is needed: a shard that holds any of it stays, also beyond the limit.
    """
    needed = list(kept)
    free = [
        shard
        for shard in shards
        if not any(shard.keys & keys.get(shard.stream, frozenset()) for keys in needed)
    ]
    excess = sum(shard.bytes for shard in shards) - limit
    chosen: list[PulledShard] = []
    for shard in sorted(free, key=lambda each: (each.used, each.path)):
        if excess <= 0:
            break
        chosen.append(shard)
        excess -= shard.bytes
    return tuple(chosen)


def make_room(
    store: FeatureStore, limit: int, needed: Keys, coming: int = 0
) -> tuple[PulledShard, ...]:
    """Remove pulled shards, least recently used first, until a limit holds.

    Each goes by one rename; maps that are open stay right.

    Args:
        store: A store in a folder.
        limit: Bytes that pulled shards may take.
        needed: What the present run reads.
        coming: Bytes that are about to arrive.

    Returns:
        What was removed.

    Raises:
        StoreError: A pin, manifest or mark cannot be read, or something may not be deleted.
    """
    found = survey(store)
    shards = pulled_shards(store, found)
    going = overflow(shards, max(limit - coming, 0), (needed, pinned_keys(store, found)))
    for shard in going:
        remove(shard.path)
        _marker(store.path, shard.path.name).unlink(missing_ok=True)
    return going
