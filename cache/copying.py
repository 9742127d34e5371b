"""Copying items from shard to shard: every one checked on the way, so damage never travels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .digests import canonical, digest
from .errors import StoreError
from .item import Item
from .new_shard import NewItem, item_crc32c

if TYPE_CHECKING:
    from .shard import Shard
    from .stream import Stream

TARGET_BYTES = 96 << 20
"""Bytes of rows that copied items are gathered to before they are written as one shard."""
MERGED = "merged"
"""Field of a provenance that lists what several shards' provenances say differently."""


@dataclass(frozen=True, slots=True)
class NotCopied:
    """An item, or a shard whose items are unknown, that could not be copied, and why."""

    stream: str
    """Full name."""
    key: str
    """Item key; empty where a shard's items are unknown."""
    track: str
    problem: str


def new_item_of(item: Item) -> NewItem:
    """Read a whole item, to be written once more.

    Returns:
        The item with its rows, validity, flags, times and identity, as they were written.

    Raises:
        StoreError: It is damaged; names file, track and rows.
    """
    entry = item.entry
    copied = NewItem(
        key=entry.key,
        track=entry.track,
        rows=np.asarray(item.rows),
        valid=item.valid,
        times=item.times,
        flags=item.flags,
        identity=entry.identity,
    )
    where = f"{item.shard.path}: rows 0 to {entry.rows}, track {entry.track!r:.80}"
    if entry.crc32c is not None and item_crc32c(copied.arrays().values()) != entry.crc32c:
        raise StoreError(f"{where}, are damaged: the item's crc32c differs")
    if entry.identity and digest(dict(entry.identity)) != entry.key:
        raise StoreError(f"{where}: the item's key {entry.key!r:.80} is not its identity's digest")
    return copied


def sound_copies(
    stream: Stream, items: Iterable[Item]
) -> tuple[list[NewItem], list[Shard], tuple[NotCopied, ...]]:
    """Read items, each from the shard that readers prefer, or if it is damaged there from another.

    Returns:
        The items; the shards that they were read from, each once; and what has no sound copy.
    """
    copied: list[NewItem] = []
    sources: dict[str, Shard] = {}
    lost: list[NotCopied] = []
    for item in items:
        try:
            new, shard = _sound_copy(stream, item.key)
        except StoreError as error:
            lost.append(NotCopied(stream.full_name, item.key, item.entry.track, str(error)))
        else:
            copied.append(new)
            sources[shard.path] = shard
    return copied, list(sources.values()), tuple(lost)


def _sound_copy(stream: Stream, key: str) -> tuple[NewItem, Shard]:
    problem = None
    for shard in stream.shards:
        entry = shard.entries.get(key)
        if entry is not None:
            try:
                return new_item_of(Item(shard, entry)), shard
            except StoreError as error:
                problem = problem or error
    raise problem or StoreError(f"{stream.place}: item {key[:12]} is in no sound shard")


def bytes_of(item: Item) -> int:
    """Bytes of an item's rows with validity, flags and times, uncompressed."""
    return item.entry.rows * row_bytes(item.shard)


def row_bytes(shard: Shard) -> int:
    """Bytes of one row with validity, flag and time, uncompressed."""
    return shard.dim * shard.dtype.itemsize + 1 + 1 + 8


def cut(sizes: Sequence[int], target: int) -> Iterator[slice]:
    """Cut a sequence into stretches that hold about `target` bytes each.

    Every stretch holds at least half the target, or there is only one; none holds more than one
    and a half times the target and one element.
    """
    first = held = 0
    left = sum(sizes)
    for at, size in enumerate(sizes):
        held += size
        left -= size
        if held >= target and left * 2 >= target:
            yield slice(first, at + 1)
            first, held = at + 1, 0
    if first < len(sizes):
        yield slice(first, len(sizes))


def provenance_of(shard: Shard, stream: Stream) -> dict[str, Any]:
    """Give a shard's provenance; where its file is damaged, what is known without it."""
    try:
        return shard.provenance
    except StoreError:
        lost = "provenance.json was damaged when these items were copied"
        return {"lost": lost, "stream": stream.name, "recipe": stream.recipe}


def merged_provenance(provenances: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Join the provenances of shards that become one.

    What all of them say stands once; where they differ, `merged` lists what each distinct one
    says beyond that. Merging what was merged before gives one list.
    """
    distinct = {canonical(each): each for whole in provenances for each in _unmerged(whole)}
    every = [distinct[form] for form in sorted(distinct)]
    if len(every) == 1:
        return every[0]
    common = {
        name: value
        for name, value in every[0].items()
        if all(name in other and other[name] == value for other in every)
    }
    rest = [{name: each[name] for name in each if name not in common} for each in every]
    return {**common, MERGED: rest}


def _unmerged(provenance: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    common = {name: value for name, value in provenance.items() if name != MERGED}
    parts = provenance.get(MERGED)
    if not isinstance(parts, list):
        yield dict(provenance)
        return
    for part in parts:  # pyright: ignore[reportUnknownVariableType]
        yield {**common, **part}
