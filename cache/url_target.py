"""A remote at a URL as what shards travel to."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import TEMPORARY, json_bytes
from .catalogue import Catalogue, ListedShard, joined, page_name
from .catalogued_place import CataloguedPlace
from .entries import SEAL
from .new_shard import NewItem, write_shard
from .pages import listing_of, settle
from .sealed_files import check_file
from .shard import Shard
from .store import MARK, FeatureStore, mark_of
from .url_place import AT_ONCE

if TYPE_CHECKING:
    from .manifest import Manifest
    from .stream import Stream
    from .url_place import UrlPlace


class UrlTarget:
    """A remote at a URL: a shard's files first, its seal after them, the catalogue last."""

    def __init__(self, place: UrlPlace) -> None:
        self.place = place
        self._known = Catalogue()
        self._catalogued = False
        self._new: dict[str, ListedShard] = {}
        try:
            place.read(MARK)
        except FileNotFoundError:
            self._fresh = True
            return
        self._fresh = False
        store = FeatureStore(place.url)
        self._catalogued = isinstance(store.place, CataloguedPlace)
        if isinstance(store.place, CataloguedPlace):
            self._known = store.place.remote.catalogue
        else:
            # What was put there by other means is adopted.
            self._known = listing_of(store)

    def keys(self, stream: Stream) -> set[str]:
        """Keys of a stream's items that the remote lists, or holds in the very same shards."""
        listed = {
            row.items[stream.full_name]
            for manifest in self._known.manifests.values()
            for row in manifest
            if stream.full_name in row.items
        }
        seals = {shard.seal for shard in self._known.shards.values()}
        for shard in stream.shards:
            if hashlib.sha256(shard.place.read(SEAL)).hexdigest() in seals:
                listed |= shard.entries.keys()
        return listed

    def prepare(self, source: FeatureStore, streams: Iterable[Stream]) -> None:
        """Write the store's mark and the streams' recipes, which are the same for everybody."""
        if not self._catalogued:
            # From now on nothing shows but what is listed.
            settle(self.place, self._known)
        if self._fresh:
            self.place.write(MARK, json_bytes(mark_of(source.format)))
        for stream in streams:
            record = {"name": stream.name, "digest": stream.digest, "recipe": stream.recipe}
            self.place.write(f"{_folder_of(stream)}/recipe.json", json_bytes(record))

    def put(self, stream: Stream, shard: Shard) -> None:
        """Send a shard's files, each compared with its seal first, and the seal last.

        Its folder is named by the seal, so whoever sends the same bytes sends the same objects,
        and other bytes of the same items lie elsewhere.
        """
        seal = shard.place.read(SEAL)
        name = page_name(seal)
        place = self.place / f"{_folder_of(stream)}/shards/{name}"
        there = place.found()
        missing = [n for n, (size, _) in shard.seal.files.items() if there.get(n) != size]

        def send(file: str) -> None:
            check_file(shard, file)
            place.send(Path(shard.path, file), file)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            # All of them, or the first error.
            list(pool.map(send, missing))
        place.write(SEAL, seal)
        size = sum(size for size, _ in shard.seal.files.values()) + len(seal)
        listed = ListedShard(hashlib.sha256(seal).hexdigest(), size)
        self._new[f"{_folder_of(stream).removeprefix('streams/')}/{name}"] = listed

    def pack(self, stream: Stream, items: Sequence[NewItem], provenance: Mapping[str, Any]) -> None:
        """Write items as a new shard beside the store, and send that."""
        store = stream.store
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=store.path) as folder:
            self.put(stream, Shard(write_shard(Path(folder), items, provenance, store.format)))

    def finish(self, manifests: Iterable[Manifest]) -> tuple[str, ...]:
        """Add a page to the catalogue."""
        known, changed = self._known.manifests, dict[str, "Manifest"]()
        for manifest in manifests:
            old = known.get(manifest.name)
            if old is None or joined(old, manifest) != old:
                changed[manifest.name] = manifest
        settle(self.place, Catalogue(shards=self._new, manifests=changed))
        return tuple(changed)


def _folder_of(stream: Stream) -> str:
    """Give a stream's folder in any store."""
    return f"streams/{stream.name}@{stream.digest[:16]}"
