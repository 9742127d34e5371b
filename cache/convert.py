"""Converting: everything that a store holds, in a new store that writes its shards another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .copying import (
    TARGET_BYTES,
    NotCopied,
    bytes_of,
    cut,
    merged_provenance,
    provenance_of,
    sound_copies,
)
from .errors import StoreError
from .new_shard import ShardFormat, write_shard
from .pins import pins, save_pin
from .place import LocalPlace
from .store import FeatureStore

if TYPE_CHECKING:
    from .item import Item
    from .manifest import Manifest
    from .stream import Stream

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Converted:
    """What converting a store did."""

    streams: int
    manifests: int
    copied: int
    """Items that were copied."""
    skipped: int
    """Items that the target had already."""
    rows: int
    """Rows that were copied."""
    damaged: tuple[NotCopied, ...] = ()
    """What could not be copied, since no copy of it is sound."""


def convert(
    source: FeatureStore,
    target_path: str | Path,
    how: ShardFormat,
    progress: Progress | None = None,
) -> Converted:
    """Copy a store into one that writes its shards another way.

    Streams keep their names, recipes and digests, items their keys, identities and every bit of
    their arrays, shards their provenance; manifests and pins come last. Every item is checked on
    its way; what is damaged is listed and left out. Items that the target holds are skipped, so a
    conversion that was broken off goes on where it ended. One shard's items at a time are held in
    memory: 96 MiB of rows, half as much again and one item at most.

    Args:
        source: The store, in a folder or at a URL.
        target_path: Folder of the new store, or of one that an earlier call began.
        how: How the new store writes its shards.
        progress: Called with (items seen, items in all, track that comes next).

    Raises:
        StoreError: The target is the source, a URL, or writes other shards; the disk is full; a
            manifest or pin, or a stream's name in its recipe, cannot be read.
    """
    _check_apart(source, target_path)
    target = FeatureStore.create(target_path, how)
    run = _Run(target, source.streams(), progress)
    for stream in run.streams:
        run.convert(stream)
    manifests = _oldest_first(source)
    for manifest in manifests:
        target.save_manifest(manifest)
    for pinned in pins(source):
        save_pin(target, pinned)
    run.tell("done")
    counts = (run.copied, run.skipped, run.rows, tuple(run.damaged))
    return Converted(len(run.streams), len(manifests), *counts)


def _check_apart(source: FeatureStore, target_path: str | Path) -> None:
    if not isinstance(source.place, LocalPlace):
        return
    target, own = Path(target_path).resolve(), source.path.resolve()
    if target.is_relative_to(own) or own.is_relative_to(target):
        raise StoreError(f"{target_path}: expected a folder apart from the store {source.place}")


class _Run:
    """A conversion in progress."""

    def __init__(
        self, target: FeatureStore, streams: Sequence[Stream], progress: Progress | None
    ) -> None:
        self.streams = streams
        self.copied = self.skipped = self.rows = 0
        self.damaged: list[NotCopied] = []
        self._target = target
        self._progress = progress
        self._total = sum(len(stream.items) for stream in streams)
        self._seen = 0

    def tell(self, text: str) -> None:
        if self._progress:
            self._progress(self._seen, self._total, text)

    def convert(self, stream: Stream) -> None:
        """Copy the items of a stream that the target lacks."""
        self._list_lost(stream)
        try:
            recipe = stream.recipe
        except StoreError as error:
            self._seen += len(stream.items)
            self.damaged += [
                NotCopied(stream.full_name, key, item.entry.track, str(error))
                for key, item in stream.items.items()
            ]
            return
        copy = self._target.create_stream(stream.name, recipe)
        there = copy.items
        for group in _groups(stream):
            lacking = [item for item in group if item.key not in there]
            self.skipped += len(group) - len(lacking)
            self.tell(f"{stream.name}: {group[0].entry.track}")
            self._write(stream, copy, lacking)
            self._seen += len(group)

    def _list_lost(self, stream: Stream) -> None:
        for key, (damage, entry) in stream.lost.items():
            self.damaged.append(
                NotCopied(stream.full_name, key, entry.track, str(damage.error(entry)))
            )
        self.damaged += [
            NotCopied(stream.full_name, "", "", damage.problem)
            for damage in stream.damages
            if not damage.entries
        ]

    def _write(self, stream: Stream, copy: Stream, items: Sequence[Item]) -> None:
        copied, sources, lost = sound_copies(stream, items)
        self.damaged += lost
        if copied:
            provenance = merged_provenance([provenance_of(shard, stream) for shard in sources])
            folder = self._target.shard_folder(copy)
            write_shard(folder, copied, provenance, self._target.format)
            self.copied += len(copied)
            self.rows += sum(len(item.rows) for item in copied)


def _groups(stream: Stream) -> Iterator[Sequence[Item]]:
    """Give items shard by shard, each where readers find it; a very large shard comes in parts."""
    of_shard: dict[str, list[Item]] = {}
    for item in stream.items.values():
        of_shard.setdefault(item.shard.path, []).append(item)
    for items in of_shard.values():
        for part in cut([bytes_of(item) for item in items], TARGET_BYTES):
            yield items[part]


def _oldest_first(store: FeatureStore) -> list[Manifest]:
    """Give the manifests in the order in which they were written, where that is known."""
    manifests = list(store.manifests())
    if isinstance(store.place, LocalPlace):
        folder = store.path / "manifests"
        manifests.sort(key=lambda m: (folder / f"{m.name}.json").stat().st_mtime_ns)
    return manifests
