"""Collecting what a store need not keep: decided first, from names and ages; deleted on demand.

Whatever is younger than the grace stays, since a writer may be about to index it and a reader may
have opened it before the shard that replaces it was there. Nothing here locks: each thing goes by
one rename, after a last look at whether it has been pinned, listed or written to.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .atomic import fsync_folder, temporary_sibling
from .copying import new_item_of
from .errors import StoreError
from .item import Item
from .new_shard import item_crc32c
from .pins import MANIFEST, STREAM, Pin, pins
from .shard import Shard
from .survey import Found, FoundManifest, FoundShard, FoundStream, Survey, measure, stamp, survey

if TYPE_CHECKING:
    from .entries import Entry
    from .store import FeatureStore

Progress = Callable[[int, int, str], None]
Kind = Literal["manifest", "stream", "shard", "copied", "damaged", "leftover"]
"""What goes: a manifest, a whole stream, a shard that nothing lists, a shard all of which lies in
larger ones, what repairing moved out, what a writer left unfinished."""
GRACE_SECONDS = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """What the runs and configurations of a project name."""

    streams: AbstractSet[str] = frozenset()
    """Full names: `visual/i3d@<64 hex>`."""
    manifests: AbstractSet[str] = frozenset()
    """`dataset@edition`."""
    nothing: bool = False
    """Collect also where no run and no configuration names anything in the store."""

    def __post_init__(self) -> None:
        for pattern, names in ((STREAM, self.streams), (MANIFEST, self.manifests)):
            for name in names:
                if not pattern.fullmatch(name):
                    raise StoreError(f"expected the full name of a stream or manifest: {name!r}")


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing that is to go, and why."""

    kind: Kind
    path: Path
    name: str
    """The manifest or stream that it is, or belongs to; empty for leftovers."""
    why: str
    bytes: int
    newest: float
    """Seconds since 1970: what must be older than the grace was written by then."""
    covers: tuple[Path, ...] = ()
    """The larger shards that hold all of its items, largest first (kind `copied`)."""

    def record(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        plain = {name: getattr(self, name) for name in ("kind", "name", "why", "bytes", "newest")}
        return {**plain, "path": str(self.path), "covers": [str(path) for path in self.covers]}


@dataclass(frozen=True, slots=True)
class Collected:
    """What deleting did."""

    removed: tuple[Removal, ...]
    kept: tuple[tuple[Removal, str], ...]
    """What stayed after all, and why."""

    @property
    def bytes(self) -> int:
        """Bytes that were freed."""
        return sum(removal.bytes for removal in self.removed)


@dataclass(frozen=True, slots=True)
class Collection:
    """What is to go, by a store's pins, a project's roots, and age."""

    store: FeatureStore
    roots: Roots
    grace_seconds: float
    now: float
    removals: tuple[Removal, ...]
    waiting: tuple[Removal, ...]
    """What would go as well if it were older than the grace."""
    stamp: tuple[tuple[str, int, int], ...] = field(repr=False)
    """Mark of the pins and manifests that this was decided by."""

    @property
    def bytes(self) -> int:
        """Bytes that would be freed."""
        return sum(removal.bytes for removal in self.removals)

    def delete(self, progress: Progress | None = None) -> Collected:
        """Delete what was planned, but for what has been pinned, listed or written to since.

        A shard whose items lie in larger ones goes only after these have been read and compared
        with their checksums. Each thing is renamed to a temporary name first, so no reader sees
        half of it; maps that are open stay right.

        Args:
            progress: Called with (things done, things in all, what comes next).

        Raises:
            StoreError: Something may not be deleted; a pin or manifest has become unreadable.
        """
        plan = self
        planned = {removal.path: removal for removal in plan.removals}
        removed: list[Removal] = []
        kept: list[tuple[Removal, str]] = []
        for done, removal in enumerate(self.removals):
            if progress:
                progress(done, len(self.removals), str(removal.path))
            if stamp(self.store) != plan.stamp:
                plan = plan_collection(self.store, self.roots, self.grace_seconds, self.now)
                planned = {removal.path: removal for removal in plan.removals}
            why = _reason_to_keep(planned.get(removal.path))
            if why:
                kept.append((removal, why))
            elif remove(removal.path):
                removed.append(removal)
        if progress:
            progress(len(self.removals), len(self.removals), "done")
        return Collected(tuple(removed), tuple(kept))


def plan_collection(
    store: FeatureStore,
    roots: Roots,
    grace_seconds: float = GRACE_SECONDS,
    now: float | None = None,
) -> Collection:
    """Decide what a store need not keep; nothing is deleted.

    Args:
        store: A store in a folder.
        roots: What the runs and configurations of the project name.
        grace_seconds: What is younger stays, whatever else is true.
        now: Seconds since 1970; the present by default.

    Raises:
        StoreError: The roots name nothing in the store, and do not say that this is meant; a pin,
            manifest or recipe cannot be read.
    """
    if not (grace_seconds >= 0 and math.isfinite(grace_seconds)):
        raise StoreError(f"expected a grace of some seconds, found {grace_seconds}")
    now = time.time() if now is None else now
    mark = stamp(store)
    found, pinned = survey(store), pins(store)
    _check_roots(store, found, roots)
    candidates = list(decide(found, roots, pinned, now - grace_seconds))
    old = tuple(each for each in candidates if each.newest <= now - grace_seconds)
    waiting = tuple(each for each in candidates if each.newest > now - grace_seconds)
    return Collection(store, roots, grace_seconds, now, old, waiting, mark)


def _check_roots(store: FeatureStore, found: Survey, roots: Roots) -> None:
    """Refuse to delete all of a store because of a wrong folder."""
    named = roots.streams | roots.manifests
    here = {stream.name for stream in found.streams} | {m.name for m in found.manifests}
    if not roots.nothing and (not named or (here and not here & named)):
        raise StoreError(
            f"{store.place}: no run or configuration names anything in this store, so all that is "
            "not pinned would be deleted: give the folder of the project that uses it, or say "
            "that this is meant"
        )


# --- deciding


def decide(found: Survey, roots: Roots, pinned: Sequence[Pin], since: float) -> Iterator[Removal]:
    """Give what nothing needs, in the order in which it can be deleted, also if it is too young.

    Args:
        found: All that the store holds.
        roots: What is named.
        pinned: What is pinned.
        since: Seconds since 1970; a manifest written later keeps what it lists.
    """
    held = {pin.what for pin in pinned}
    going = {m.name: why for m in found.manifests if (why := _manifest_goes(m, found, roots, held))}
    for manifest in found.manifests:
        if manifest.name in going:
            yield _removal("manifest", manifest, manifest.name, going[manifest.name])
    kept = [m for m in found.manifests if m.name not in going or m.newest > since]
    streams = held.union(roots.streams, *(m.items for m in kept if m.name in held))
    gone = [stream for stream in found.streams if stream.name not in streams]
    for stream in gone:
        yield _removal("stream", stream, stream.name, "no pin, run or configuration names it")
    for stream in found.streams:
        if stream.name in streams:
            listed = None if stream.name in held else _listed(kept, stream.name)
            yield from _of_stream(stream, listed)
    for each in found.damaged:
        yield _removal("damaged", each, each.path.name, "moved out by repairing")
    for each in found.leftovers:
        if not any(each.path.is_relative_to(stream.path) for stream in gone):
            yield _removal("leftover", each, "", "left by a writer that was broken off")


def _manifest_goes(
    manifest: FoundManifest, found: Survey, roots: Roots, held: AbstractSet[str]
) -> str:
    """Say why a manifest is not needed; nothing if it is."""
    newest = max(m.newest for m in found.manifests if m.dataset == manifest.dataset)
    if manifest.name in held | roots.manifests or manifest.newest == newest:
        return ""
    return f"neither pinned nor named, and not the newest edition of {manifest.dataset}"


def _listed(kept: Iterable[FoundManifest], stream: str) -> frozenset[str]:
    return frozenset[str]().union(*(m.items.get(stream, ()) for m in kept))


def _of_stream(stream: FoundStream, listed: AbstractSet[str] | None) -> Iterator[Removal]:
    """Give the shards of a stream that can go.

    Args:
        stream: One that is kept.
        listed: Keys that manifests list; None where all are wanted.
    """
    staying: list[FoundShard] = []
    for shard in stream.shards:
        # What no manifest lists at all may be an extraction that has not come to its end.
        if not listed or any(entry.key in listed for entry in shard.entries):
            staying.append(shard)
        else:
            why = f"no manifest that is kept lists any of its {len(shard.entries)} items"
            # The same extraction may still be writing, days after this shard.
            latest = max(other.newest for other in stream.shards)
            yield _removal("shard", shard, stream.name, why, latest)
    first: dict[str, tuple[FoundShard, Entry]] = {}
    for shard in staying:
        copies = [(first.setdefault(e.key, (shard, e)), e) for e in shard.entries]
        if all(cover is not shard and _alike(copy, e) for (cover, copy), e in copies):
            paths = {cover.path for (cover, _), _ in copies}
            covers = [cover for cover in staying if cover.path in paths]
            why = f"all of its {len(copies)} items are in larger shards as well"
            # Who opened the stream before these were there may still read the small one.
            latest = max(shard.newest, *(cover.newest for cover in covers))
            yield _removal("copied", shard, stream.name, why, latest, covers)


def _alike(one: Entry, other: Entry) -> bool:
    """Say whether two entries may tell of the same bytes; version 1 has no checksum."""
    return one.crc32c == other.crc32c or None in (one.crc32c, other.crc32c)


def _removal(
    kind: Kind,
    found: Found,
    name: str,
    why: str,
    newest: float | None = None,
    covers: Sequence[FoundShard] = (),
) -> Removal:
    newest = found.newest if newest is None else newest
    paths = tuple(cover.path for cover in covers)
    return Removal(kind, found.path, name, why, found.bytes, newest, paths)


# --- deleting


def _reason_to_keep(removal: Removal | None) -> str:
    """Look once more at what is still to go; nothing if it can."""
    if removal is None:
        return "it has been pinned, listed or written to meanwhile"
    if measure(removal.path)[1] > removal.newest:
        return "it has been written to meanwhile"
    return _not_covered(removal) if removal.kind == "copied" else ""


def _not_covered(removal: Removal) -> str:
    """Read the larger shards' copies of a shard's items; nothing if all are sound and the same."""
    try:
        old = Shard(removal.path)
        covers = [Shard(path) for path in removal.covers]
        for key, entry in old.entries.items():
            copy = next(Item(c, c.entries[key]) for c in covers if key in c.entries)
            own = _checksum(Item(old, entry)) if entry.crc32c is None else entry.crc32c
            if _checksum(copy) != own:
                return f"the larger shard's copy of track {entry.track!r:.80} differs"
    except StoreError as error:
        return str(error)
    return ""


def _checksum(item: Item) -> int:
    """Read an item, check it, and give its checksum."""
    return item_crc32c(new_item_of(item).arrays().values())


def remove(path: Path) -> bool:
    """Delete a file or folder of a store in one step; gives whether it was there.

    Raises:
        StoreError: It may not be deleted.
    """
    aside = temporary_sibling(path)
    try:
        path.rename(aside)
        fsync_folder(path.parent)
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"{path}: cannot be deleted: {error.strerror or error}") from error
    return True
