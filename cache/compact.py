"""Compacting: the many small shards of a stream become few large ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .copying import (
    TARGET_BYTES,
    NotCopied,
    bytes_of,
    cut,
    merged_provenance,
    provenance_of,
    row_bytes,
    sound_copies,
)
from .errors import StoreError
from .new_shard import write_shard

if TYPE_CHECKING:
    from .item import Item
    from .store import FeatureStore
    from .stream import Stream

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compacting a stream did."""

    stream: str
    """Full name."""
    before: int
    """Shards that a reader used before."""
    after: int
    """Shards that a reader uses now; the others are left for `gc`."""
    written: int
    """Shards that were written."""
    items: int
    """Items that were copied."""
    rows: int
    """Rows that were copied."""
    damaged: tuple[NotCopied, ...] = ()
    """Items that stay where they are, since no copy of them is sound."""


def compact(
    store: FeatureStore,
    stream: Stream,
    target_bytes: int = TARGET_BYTES,
    progress: Progress | None = None,
) -> Compacted:
    """Merge a stream's small shards into larger ones.

    Items of shards below half the target, sorted by track and key, are read one target's worth at
    a time, checked, and published as new shards. Nothing is taken away: readers that are open go
    on with the shards they have, those that open the stream afterwards find each item in the
    larger shard, and the small ones stay until `gc` collects them a grace later. So a kill costs
    the shard being written, and running again goes on where it ended.

    Args:
        store: A store in a folder.
        stream: Which stream; shards published since it was opened are seen too.
        target_bytes: Bytes of a new shard's rows, uncompressed; 1.5 times as many and an item at
            most. This is also what is held in memory.
        progress: Called with (shards written, shards in all, track that comes next).

    Raises:
        StoreError: The target is no positive number, the store is at a URL, or the disk is full.
    """
    if target_bytes < 1:
        raise StoreError(f"expected a positive number of bytes per shard, found {target_bytes}")
    opened = store[stream.full_name]
    groups = _groups(opened, target_bytes)
    damaged: list[NotCopied] = []
    shards = items = rows = 0
    for done, group in enumerate(groups):
        if progress:
            progress(done, len(groups), group[0].entry.track)
        counts, lost = _merge(store, opened, group)
        damaged += lost
        if counts:
            shards, items, rows = shards + 1, items + counts[0], rows + counts[1]
    if progress:
        progress(len(groups), len(groups), "done")
    return Compacted(
        stream=opened.full_name,
        before=_used(opened),
        after=_used(store[stream.full_name]),
        written=shards,
        items=items,
        rows=rows,
        damaged=tuple(damaged),
    )


def _groups(stream: Stream, target: int) -> list[Sequence[Item]]:
    """Choose what becomes a shard each: the items that readers find in small shards."""
    small = {
        shard.path for shard in stream.shards if shard.index.rows * row_bytes(shard) * 2 < target
    }
    items = [item for item in stream.items.values() if item.shard.path in small]
    items.sort(key=lambda item: (item.entry.track, item.key))
    return [items[part] for part in cut([bytes_of(item) for item in items], target)]


def _merge(
    store: FeatureStore, stream: Stream, group: Sequence[Item]
) -> tuple[tuple[int, int] | None, tuple[NotCopied, ...]]:
    """Write a group as one shard; gives its items and rows, and what had no sound copy."""
    # Readers prefer the shard with more rows, so a merged one must have more than each source.
    least = max(item.shard.index.rows for item in group) + 1
    if sum(item.entry.rows for item in group) < least:
        return None, ()
    copied, sources, lost = sound_copies(stream, group)
    rows = sum(len(item.rows) for item in copied)
    if rows < least:
        return None, lost
    provenance = merged_provenance([provenance_of(shard, stream) for shard in sources])
    write_shard(store.shard_folder(stream), copied, provenance, store.format)
    return (len(copied), rows), lost


def _used(stream: Stream) -> int:
    return len({item.shard.path for item in stream.items.values()})
