"""Push and pull: what one store has and another lacks travels, whole shards where it can.

A shard all of whose items are wanted travels as it is, byte for byte, checked against its seal.
Of a shard that is wanted in part, the wanted items are packed into a new shard, so nothing travels
that was not asked for. What is listed in manifests is listed last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .catalogued_place import CataloguedPlace
from .copying import (
    TARGET_BYTES,
    NotCopied,
    bytes_of,
    cut,
    merged_provenance,
    provenance_of,
    sound_copies,
)
from .errors import ConfigError
from .place import LocalPlace, Place
from .sealed_files import DamagedSourceError
from .selection import ALL, Selection, keys_of
from .store import FeatureStore
from .targets import FolderTarget, Target, target_at

if TYPE_CHECKING:
    from .item import Item
    from .manifest import Manifest
    from .shard import Shard
    from .stream import Stream

Progress = Callable[[int, int, str], None]
Allowed = Callable[[str], None]
"""Called with the full name of a stream before anything travels; raises where it may not."""
AT_ONCE = 4
"""Shards that travel at the same time."""
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Parcel:
    """What becomes one shard of the target."""

    stream: Stream
    items: tuple[Item, ...]
    shard: Shard | None
    """The shard that travels as it is; None where the items are packed anew."""

    @property
    def bytes(self) -> int:
        """About how many bytes travel."""
        if self.shard is None:
            return sum(bytes_of(item) for item in self.items)
        return sum(size for size, _ in self.shard.seal.files.values())


@dataclass(frozen=True, slots=True)
class Moved:
    """What a push or pull did."""

    shards: int
    items: int
    bytes: int
    manifests: tuple[str, ...]
    """Names of those that list more than before."""
    damaged: tuple[NotCopied, ...] = ()
    """What has no sound copy in the source, and stayed."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What would travel."""

    source: FeatureStore
    target: Target
    parcels: tuple[Parcel, ...]
    manifests: tuple[Manifest, ...]
    """What the target is to list, as far as the items arrive."""
    damaged: tuple[NotCopied, ...]
    held: Mapping[str, set[str]] = field(repr=False)
    """Stream to the keys of items that the target has already."""

    @property
    def bytes(self) -> int:
        """About how many bytes travel."""
        return sum(parcel.bytes for parcel in self.parcels)

    @property
    def items(self) -> int:
        """Items that travel."""
        return sum(len(parcel.items) for parcel in self.parcels)

    def carry_out(self, progress: Progress | None = None) -> Moved:
        """Have all of it travel; what arrived stays, so running again goes on.

        Args:
            progress: Called with (megabytes done, megabytes in all, what arrived last).

        Raises:
            RemoteError: The remote does not answer.
            StoreError: The disk is full, or something that arrived is not what was sealed.
        """
        streams = {parcel.stream.full_name: parcel.stream for parcel in self.parcels}
        self.target.prepare(self.source, streams.values())
        lost = [*self.damaged]
        arrived = {name: set(keys) for name, keys in self.held.items()}
        done = count = 0
        for parcel, missing in self._carried():
            lost += missing
            gone = {each.key for each in missing}
            keys = {item.key for item in parcel.items} - gone
            arrived.setdefault(parcel.stream.full_name, set()).update(keys)
            done += parcel.bytes
            count += len(keys)
            if progress:
                total = -(-self.bytes // MEGABYTE)
                progress(done // MEGABYTE, total, f"MB; {parcel.stream.name}")
        names = self.target.finish([_present(each, arrived) for each in self.manifests])
        if progress:
            progress(-(-self.bytes // MEGABYTE), -(-self.bytes // MEGABYTE), "MB; done")
        return Moved(len(self.parcels), count, done, names, tuple(lost))

    def _carried(self) -> Iterator[tuple[Parcel, Sequence[NotCopied]]]:
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            running = {pool.submit(self._carry, parcel): parcel for parcel in self.parcels}
            while running:
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for each in ended:
                    yield running.pop(each), each.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _carry(self, parcel: Parcel) -> Sequence[NotCopied]:
        """Have one parcel travel; gives what of it was damaged in the source."""
        if parcel.shard is not None:
            try:
                self.target.put(parcel.stream, parcel.shard)
            except DamagedSourceError as error:
                return [
                    NotCopied(parcel.stream.full_name, item.key, item.entry.track, str(error))
                    for item in parcel.items
                ]
            return ()
        copied, sources, lost = sound_copies(parcel.stream, parcel.items)
        if copied:
            provenance = merged_provenance([provenance_of(s, parcel.stream) for s in sources])
            self.target.pack(parcel.stream, copied, provenance)
        return lost


def _present(manifest: Manifest, arrived: Mapping[str, AbstractSet[str]]) -> Manifest:
    """Leave out of a manifest what the target does not hold."""
    tracks = tuple(
        replace(row, items={s: k for s, k in row.items.items() if k in arrived.get(s, ())})
        for row in manifest
    )
    return replace(manifest, tracks=tracks)


def plan_push(
    store: FeatureStore,
    remote: str | Path,
    selection: Selection = ALL,
    allowed: Allowed | None = None,
) -> Transfer:
    """Find what a remote lacks of a store.

    Args:
        store: The store.
        remote: URL or folder of the remote; nothing need be there yet.
        selection: What of the store.
        allowed: Called with the full name of every stream of which items would travel.

    Raises:
        ConfigError: The remote can only be read, or is the store itself.
        NotInStoreError: The selection names what the store does not hold.
        RemoteError: The remote does not answer.
    """
    _ = store.path  # Only from a folder is pushed.
    target = target_at(remote, store.format)
    _check_apart(store.place, target.place)
    return _plan(store, target, selection, allowed)


def plan_pull(
    path: Path,
    remote: str | Path,
    selection: Selection = ALL,
    allowed: Allowed | None = None,
    kind: type[FolderTarget] = FolderTarget,
) -> Transfer:
    """Find what a store in a folder lacks of a remote.

    Args:
        path: The store's folder; nothing need be there yet.
        remote: URL or folder of the remote.
        selection: What of the remote.
        allowed: Called with the full name of every stream of which items would travel.
        kind: What becomes of the folder: `CachingTarget` marks what arrives as pulled.

    Raises:
        StoreError: No store is at the remote, or what it lists needs more space than there is.
        NotInStoreError: The selection names what the remote does not hold.
        RemoteError: The remote does not answer.
    """
    source = FeatureStore(remote)
    target = kind(LocalPlace(str(path)), source.format)
    _check_apart(source.place, target.place)
    plan = _plan(source, target, selection, allowed)
    target.check_room(plan.bytes)
    return plan


def pull_manifests(path: Path, remote: str | Path, selection: Selection) -> tuple[str, ...]:
    """Bring the tables of tracks and item keys alone; gives the names of those that changed."""
    source = FeatureStore(remote)
    target = FolderTarget(LocalPlace(str(path)), source.format)
    _check_apart(source.place, target.place)
    target.prepare(source, ())
    return target.finish(selection.manifests(source))


def _plan(
    source: FeatureStore, target: Target, selection: Selection, allowed: Allowed | None
) -> Transfer:
    manifests = selection.manifests(source)
    listed = keys_of(manifests)
    parcels: list[Parcel] = []
    damaged: list[NotCopied] = []
    held: dict[str, set[str]] = {}
    for stream in selection.of(source):
        wanted = listed.get(stream.full_name, {}) if selection.listed_only else None
        if wanted is not None and not wanted:
            continue
        if allowed:
            allowed(stream.full_name)
        there = held[stream.full_name] = target.keys(stream)
        complete = listed.get(stream.full_name, {}) if wanted is None else wanted
        if isinstance(stream.place, CataloguedPlace) and complete and there >= complete.keys():
            continue  # All that is listed is here: not one shard need be opened.
        chosen = stream.items.keys() | stream.lost.keys() if wanted is None else wanted.keys()
        parcels += _parcels(stream, chosen - there)
        damaged += _damaged(stream, chosen - there, wanted or {})
    return Transfer(source, target, tuple(parcels), manifests, tuple(damaged), held)


def _parcels(stream: Stream, wanted: AbstractSet[str]) -> Iterator[Parcel]:
    """Cut what is to travel into shards: whole ones as they are, the rest packed anew."""
    rest: list[Item] = []
    of_shard: dict[str, list[Item]] = {}
    for key in stream.items:
        if key in wanted:
            item = stream.items[key]
            of_shard.setdefault(item.shard.path, []).append(item)
    for items in of_shard.values():
        shard = items[0].shard
        if len(items) == len(shard.entries):
            yield Parcel(stream, tuple(items), shard)
        else:
            rest += items
    rest.sort(key=lambda item: (item.entry.track, item.key))
    for part in cut([bytes_of(item) for item in rest], TARGET_BYTES):
        yield Parcel(stream, tuple(rest[part]), None)


def _damaged(
    stream: Stream, wanted: AbstractSet[str], tracks: Mapping[str, str]
) -> Iterator[NotCopied]:
    """List what is wanted and has no sound shard in the source."""
    for key in sorted(wanted - stream.items.keys()):
        lost = stream.lost.get(key)
        track = lost[1].track if lost else tracks.get(key, "")
        why = str(lost[0].error(lost[1])) if lost else f"{stream.place}: listed, but not stored"
        yield NotCopied(stream.full_name, key, track, why)
    for damage in stream.damages:
        if not damage.entries:
            yield NotCopied(stream.full_name, "", "", damage.problem)


def _check_apart(source: Place, target: Place) -> None:
    """Refuse to copy a store into itself."""
    one, other = str(source).rstrip("/"), str(target).rstrip("/")
    if isinstance(source, LocalPlace) and isinstance(target, LocalPlace):
        one, other = os.path.realpath(one), os.path.realpath(other)
    if one == other:
        raise ConfigError(f"{source}: expected two stores, found the same one twice")
