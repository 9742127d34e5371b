"""A survey of a store: all that `gc` decides about, with its bytes and its age."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .atomic import TEMPORARY
from .errors import StoreError
from .pins import FOLDER as PINS

if TYPE_CHECKING:
    from .entries import Entry
    from .manifest import Manifest
    from .store import FeatureStore
    from .stream import Stream

DAMAGED = "damaged"
"""Folder of a store that `verify --repair` moves things to."""
MANIFESTS = "manifests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file or folder of a store."""

    path: Path
    bytes: int
    """Of all files in it."""
    newest: float
    """When the newest thing in it, or it itself, was written: seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundShard(Found):
    """A sound shard."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStream(Found):
    """A stream."""

    name: str
    """Full name."""
    shards: tuple[FoundShard, ...]
    """Sound shards, those that readers prefer first; damaged ones are left to `verify`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundManifest(Found):
    """A manifest."""

    name: str
    dataset: str
    items: Mapping[str, frozenset[str]]
    """Stream to the keys that are listed of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All that a store holds."""

    streams: tuple[FoundStream, ...]
    manifests: tuple[FoundManifest, ...]
    leftovers: tuple[Found, ...]
    """What writers left unfinished."""
    damaged: tuple[Found, ...]
    """What repairing moved out: one folder per stream."""


def survey(store: FeatureStore) -> Survey:
    """Look at a store; no row is read.

    Raises:
        StoreError: A recipe or manifest cannot be read or has another's name, a link is in the
            store, or it is at a URL.
    """
    root = store.path
    # Manifests last: what is indexed meanwhile is seen to be listed.
    streams = tuple(_stream(stream) for stream in store.streams())
    manifests = tuple(_manifest(manifest, root) for manifest in store.manifests())
    damaged = [root / DAMAGED / name for name in (store.place / DAMAGED).folders()]
    return Survey(
        streams=streams,
        manifests=manifests,
        leftovers=tuple(_found(path) for path in _leftovers(root)),
        damaged=tuple(_found(path) for path in damaged),
    )


def stamp(store: FeatureStore) -> tuple[tuple[str, int, int], ...]:
    """Give a mark that changes whenever a pin or manifest is added, taken back or replaced."""
    marks: list[tuple[str, int, int]] = []
    for folder in (PINS, MANIFESTS):
        for name in (store.place / folder).files():
            try:
                found = (store.path / folder / name).lstat()
            except FileNotFoundError:
                continue
            marks.append((f"{folder}/{name}", found.st_mtime_ns, found.st_ino))
    return tuple(marks)


def measure(path: Path) -> tuple[int, float]:
    """Give the bytes of a file or of all files in a folder, and when the newest was written.

    What vanishes meanwhile counts nothing; links are not followed.
    """
    size, newest = 0, 0.0
    for each in _walk(path):
        try:
            found = each.lstat()
        except FileNotFoundError:
            continue
        size += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
        newest = max(newest, found.st_mtime)
    return size, newest


def _walk(path: Path) -> Iterator[Path]:
    yield path
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in (*folders, *files))


def _found(path: Path) -> Found:
    size, newest = measure(path)
    return Found(path=path, bytes=size, newest=newest)


def _stream(stream: Stream) -> FoundStream:
    path = Path(str(stream.place))
    shards: list[FoundShard] = []
    for shard in stream.shards:
        size, newest = measure(Path(shard.path))
        entries = shard.index.items
        shards.append(FoundShard(path=Path(shard.path), bytes=size, newest=newest, entries=entries))
    size, newest = measure(path)
    name = stream.full_name
    return FoundStream(path=path, bytes=size, newest=newest, name=name, shards=tuple(shards))


def _manifest(manifest: Manifest, root: Path) -> FoundManifest:
    path = root / MANIFESTS / f"{manifest.name}.json"
    size, newest = measure(path)
    if not newest:
        raise StoreError(
            f"{path}: expected there, since a manifest says that it is {manifest.name}; if another "
            "process deleted it just now, run again; otherwise: concord cache verify STORE --repair"
        )
    listed: dict[str, set[str]] = {}
    for track in manifest:
        for stream, key in track.items.items():
            listed.setdefault(stream, set()).add(key)
    return FoundManifest(
        path=path,
        bytes=size,
        newest=newest,
        name=manifest.name,
        dataset=manifest.dataset,
        items={stream: frozenset(keys) for stream, keys in listed.items()},
    )


def _leftovers(root: Path) -> Iterator[Path]:
    """Find what has a temporary name, anywhere; not what lies in such a folder."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            if name.startswith(TEMPORARY):
                yield Path(folder, name)
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]
