"""Where shards travel to: a store in a folder, or a remote at a URL."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .atomic import fsync_tree, room_for, temporary_sibling
from .catalogue import Catalogue, joined
from .errors import ConfigError, StoreError
from .new_shard import NewItem, ShardFormat, publish_shard, shard_name, write_shard
from .pages import settle
from .place import LocalPlace, open_place
from .rights import make_folder
from .sealed_files import check_keys, copy_files
from .shard import Shard
from .store import MARK, FeatureStore

if TYPE_CHECKING:
    from .manifest import Manifest
    from .stream import Stream
    from .url_place import UrlPlace


class Target(Protocol):
    """Where shards travel to."""

    @property
    def place(self) -> LocalPlace | UrlPlace:
        """The root of the store."""
        ...

    def keys(self, stream: Stream) -> set[str]:
        """Keys of a stream's items that are here already."""
        ...

    def prepare(self, source: FeatureStore, streams: Iterable[Stream]) -> None:
        """Make the store, and its streams, where they are new."""
        ...

    def put(self, stream: Stream, shard: Shard) -> None:
        """Publish a shard as it is.

        Raises:
            DamagedSourceError: A file of it is not what was sealed; nothing is published.
        """
        ...

    def pack(self, stream: Stream, items: Sequence[NewItem], provenance: Mapping[str, Any]) -> None:
        """Publish items as a new shard."""
        ...

    def finish(self, manifests: Iterable[Manifest]) -> tuple[str, ...]:
        """List what has arrived; gives the names of the manifests that changed."""
        ...


def target_at(where: str | Path, how: ShardFormat) -> Target:
    """Give a remote as a target.

    Raises:
        ConfigError: It can only be read.
    """
    place = open_place(where)
    if isinstance(place, LocalPlace):
        return SharedFolderTarget(place, how)
    if place.web:
        raise ConfigError(
            f"{place}: a remote behind {place.url.partition(':')[0]} can only be read; "
            "push to the folder or bucket that it shows"
        )
    from .url_target import UrlTarget

    return UrlTarget(place)


class FolderTarget:
    """A store in a folder: a shard appears whole, by one rename."""

    def __init__(self, place: LocalPlace, how: ShardFormat) -> None:
        self.place = place
        self._how = how
        self._streams: dict[str, Stream] = {}

    @property
    def _path(self) -> Path:
        return Path(self.place.path)

    def _store(self) -> FeatureStore | None:
        return FeatureStore(self._path) if (self._path / MARK).exists() else None

    def check_room(self, size: int) -> None:
        """Refuse what the disk has no room for, before any of it travels.

        Raises:
            StoreError: Less is free.
        """
        there = next(path for path in (self._path, *self._path.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if size > free:
            raise StoreError(f"{self.place}: {size} bytes are to arrive, and {free} are free")

    def check_fits(self, streams: Iterable[Stream], manifests: Iterable[Manifest]) -> None:
        """Refuse what does not fit what is here, before anything is written.

        Raises:
            StoreError: Rows of a stream are of another kind, or a manifest's tracks differ.
        """
        store = self._store()
        if store is None:
            return
        own = {stream.full_name: stream for stream in store.streams()}
        known = {manifest.name: manifest for manifest in store.manifests()}
        for stream in streams:
            if stream.full_name in own:
                _check_kind(stream, own[stream.full_name])
        for manifest in manifests:
            if manifest.name in known:
                joined(known[manifest.name], manifest)

    def keys(self, stream: Stream) -> set[str]:
        """Keys of a stream's items that are here already."""
        store = self._store()
        found = [s for s in store.streams() if s.full_name == stream.full_name] if store else []
        return {key for each in found for key in each.items}

    def prepare(self, source: FeatureStore, streams: Iterable[Stream]) -> None:
        """Make the store, and its streams, where they are new."""
        store = self._store() or FeatureStore.create(self._path, source.format)
        self._how = store.format
        for stream in streams:
            made = store.create_stream(stream.name, stream.recipe)
            _check_kind(stream, made)
            self._streams[stream.full_name] = made

    def _folder(self, stream: Stream) -> Path:
        made = self._streams[stream.full_name]
        return made.store.shard_folder(made)

    def put(self, stream: Stream, shard: Shard) -> None:
        """Copy a shard's files to a temporary folder, check them, and rename it."""
        final = self._folder(stream) / shard_name(shard.index)
        temporary = temporary_sibling(final)
        try:
            with room_for(f"shard {shard.name}", final.parent):
                check_keys(shard)
                make_folder(temporary)
                copy_files(shard, temporary)
                fsync_tree(temporary)
                Shard(temporary)
                publish_shard(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.arrived(stream, final)

    def pack(self, stream: Stream, items: Sequence[NewItem], provenance: Mapping[str, Any]) -> None:
        """Publish items as a new shard."""
        self.arrived(stream, write_shard(self._folder(stream), items, provenance, self._how))

    def arrived(self, stream: Stream, shard: Path) -> None:
        """Take note of a shard that has been published."""

    def finish(self, manifests: Iterable[Manifest]) -> tuple[str, ...]:
        """List what has arrived; gives the names of the manifests that changed."""
        store = FeatureStore(self._path)
        known = {manifest.name: manifest for manifest in store.manifests()}
        changed: list[str] = []
        for manifest in manifests:
            old = known.get(manifest.name)
            new = joined(old, manifest) if old else manifest
            if new != old:
                store.save_manifest(new)
                changed.append(new.name)
        return tuple(changed)


class SharedFolderTarget(FolderTarget):
    """A store in a folder that others mount, or read through a server of plain files."""

    def finish(self, manifests: Iterable[Manifest]) -> tuple[str, ...]:
        """List what has arrived, in the store's manifests and in the catalogue."""
        listed = list(manifests)
        changed = super().finish(listed)
        settle(self.place, Catalogue(manifests={each.name: each for each in listed}))
        return changed


def _check_kind(stream: Stream, own: Stream) -> None:
    """Refuse rows of another width or type than a stream has here, which would spoil it.

    Raises:
        StoreError: They differ.
    """
    if own.shards and stream.shards and (own.dim, own.dtype) != (stream.dim, stream.dtype):
        raise StoreError(
            f"{stream.place}: expected rows of {own.dim} {own.dtype}, as {own.place} has under the "
            f"same recipe, found {stream.dim} {stream.dtype}; nothing of it was taken"
        )
