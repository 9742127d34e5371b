"""The feature store: streams by name and recipe, items by track or key."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import write_json
from .digests import DigestMemory, canonical, digest
from .errors import NotInStoreError, StoreError
from .manifest import Manifest, load_manifest
from .shard import Entry, Shard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = {"format": "concord store", "version": 1}
STREAM_NAME = re.compile(r"[a-z0-9_]+/[a-z0-9_.-]+")
DIGEST_IN_NAME = 16


@dataclass(frozen=True, slots=True)
class Item:
    """One track's rows of one stream."""

    shard: Shard
    entry: Entry

    @property
    def rows(self) -> NDArray[Any]:
        """(rows, dim) values; zeros where `valid` is False."""
        return self.shard.read("x", self.entry)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows,) False where the row has no value."""
        return self.shard.read("valid", self.entry)

    @property
    def flags(self) -> NDArray[np.uint8]:
        """(rows,) 1 where the row repeats the last decodable frame."""
        return self.shard.read("flags", self.entry)

    @property
    def times(self) -> NDArray[np.float64]:
        """(rows,) seconds on the container's clock; NaN where the input carries no clock."""
        return self.shard.read("times", self.entry)

    @property
    def provenance(self) -> dict[str, Any]:
        """Recipe, library versions, device and timings."""
        return self.shard.provenance


class Stream:
    """A named sequence of vectors under one recipe."""

    def __init__(self, store: FeatureStore, name: str, recipe_digest: str, path: Path) -> None:
        self.store = store
        self.name = name
        self.digest = recipe_digest
        self._path = path

    @property
    def full_name(self) -> str:
        """`name@digest` with the whole digest, as manifests carry it."""
        return f"{self.name}@{self.digest}"

    @functools.cached_property
    def recipe(self) -> dict[str, Any]:
        """Everything that determines this stream's numbers."""
        return json.loads((self._path / "recipe.json").read_bytes())["recipe"]

    @functools.cached_property
    def shards(self) -> tuple[Shard, ...]:
        """Published shards, by name; unfinished ones and other hidden entries are not seen."""
        folders = sorted((self._path / "shards").glob("*"))
        return tuple(Shard(folder) for folder in folders if not folder.name.startswith("."))

    @functools.cached_property
    def items(self) -> dict[str, Item]:
        """Item key to item; the first shard by name wins where two hold the same key."""
        found: dict[str, Item] = {}
        for shard in self.shards:
            for key, entry in shard.entries.items():
                found.setdefault(key, Item(shard, entry))
        return found

    @property
    def dim(self) -> int:
        """Width of a row."""
        if not self.shards:
            raise NotInStoreError(f"{self.store.path}: stream {self.full_name} holds no shard yet")
        return self.shards[0].dim

    def of(self, manifest: str) -> TracksOfStream:
        """Choose a data set's edition: `stream.of("demo@3fa9c1")["video3"]`."""
        return TracksOfStream(self, (self.store.manifest(manifest),))

    def __getitem__(self, track: str) -> Item:
        return TracksOfStream(self, self.store.manifests())[track]


@dataclass(frozen=True, slots=True)
class TracksOfStream:
    """A stream's items by track, as some manifests name them."""

    stream: Stream
    manifests: tuple[Manifest, ...]

    def __getitem__(self, track: str) -> Item:
        name = self.stream.full_name
        choices = {
            row.items[name]: manifest.name
            for manifest in self.manifests
            for row in manifest
            if row.track == track and name in row.items
        }
        where = f"{self.stream.store.path}: stream {self.stream.name}, track {track!r}"
        if not choices:
            known = ", ".join(manifest.name for manifest in self.manifests) or "no manifest"
            raise NotInStoreError(f"{where}: not in {known}")
        if len(choices) > 1:
            listed = ", ".join(sorted(choices.values()))
            raise NotInStoreError(
                f"{where}: several data sets or editions hold a track of that name: {listed}; "
                'choose with stream.of("dataset@edition")'
            )
        key = next(iter(choices))
        try:
            return self.stream.items[key]
        except KeyError:
            raise NotInStoreError(f"{where}: item {key[:12]} is listed but not stored") from None


class FeatureStore:
    """A folder of streams and manifests.

    `FeatureStore("store")["visual/resnet18"]["video3"].rows` gives a track's features.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a store.

        Raises:
            StoreError: No store is there, or it is of an unknown version.
        """
        self.path = Path(path)
        mark = self.path / "store.json"
        try:
            found = json.loads(mark.read_bytes())
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self.path}: no store here ({error}); "
                "run the extraction, or give the folder that holds store.json"
            ) from error
        if found != FORMAT:
            raise StoreError(f"{mark}: expected {FORMAT}, found {found}; update concord")

    @classmethod
    def create(cls, path: str | Path) -> FeatureStore:
        """Open a store, making an empty one where there is none."""
        mark = Path(path) / "store.json"
        if not mark.exists():
            write_json(mark, FORMAT)
        return cls(path)

    @property
    def digests(self) -> DigestMemory:
        """Digests of inputs that this store's writers have read."""
        return DigestMemory(self.path / "inputs")

    def streams(self) -> tuple[Stream, ...]:
        """All streams, by name and digest."""
        found: list[Stream] = []
        for path in sorted((self.path / "streams").glob("*/*@*/recipe.json")):
            folder = path.parent
            name = f"{folder.parent.name}/{folder.name.partition('@')[0]}"
            found.append(Stream(self, name, json.loads(path.read_bytes())["digest"], folder))
        return tuple(found)

    def __getitem__(self, name: str) -> Stream:
        base, _, start = name.partition("@")
        found = [s for s in self.streams() if s.name == base and s.digest.startswith(start)]
        if len(found) == 1:
            return found[0]
        if not found:
            known = ", ".join(sorted({s.name for s in self.streams()})) or "none"
            raise NotInStoreError(f"{self.path}: no stream {name!r}; streams here: {known}")
        listed = ", ".join(f"{s.name}@{s.digest[:8]}" for s in found)
        raise NotInStoreError(
            f"{self.path}: stream {name!r} exists under several recipes: {listed}; "
            "name one by the start of its digest"
        )

    def create_stream(self, name: str, recipe: Any) -> Stream:
        """Open the stream of a recipe, making it where it is new.

        Args:
            name: `modality/backbone`, such as `visual/resnet18`.
            recipe: Frozen dataclass or plain value; its canonical form is its identity.
        """
        if not STREAM_NAME.fullmatch(name):
            raise StoreError(
                f"stream name {name!r}: expected modality/backbone in lower case, "
                "such as visual/resnet18"
            )
        value, plain = digest(recipe), json.loads(canonical(recipe))
        path = self.path / "streams" / f"{name}@{value[:DIGEST_IN_NAME]}"
        if not (path / "recipe.json").exists():
            write_json(path / "recipe.json", {"name": name, "digest": value, "recipe": plain})
        return Stream(self, name, value, path)

    def shard_folder(self, stream: Stream) -> Path:
        """Folder that a stream's shards are published in."""
        return self.path / "streams" / f"{stream.name}@{stream.digest[:DIGEST_IN_NAME]}" / "shards"

    def manifests(self) -> tuple[Manifest, ...]:
        """All manifests, by name."""
        paths = sorted((self.path / "manifests").glob("*.json"))
        return tuple(load_manifest(path) for path in paths)

    def manifest(self, name: str) -> Manifest:
        """Give the manifest of a data set: `demo`, or `demo@3fa9c1` where it has several editions.

        Raises:
            NotInStoreError: No such manifest, or several; the message lists them.
        """
        dataset, _, start = name.partition("@")
        every = self.manifests()
        found = [m for m in every if m.dataset == dataset and m.edition.startswith(start)]
        if len(found) == 1:
            return found[0]
        listed = ", ".join(m.name for m in found or every) or "none"
        problem = "several editions" if found else "no manifest"
        raise NotInStoreError(f"{self.path}: {problem} of {name!r}; there is: {listed}")

    def save_manifest(self, manifest: Manifest) -> Path:
        """Publish a manifest.

        One of the same data set and edition is replaced, but for its items of streams that the
        new one does not know: rows under an older recipe stay within reach.
        """
        known = {stream for track in manifest for stream in track.items}
        for old in self.manifests():
            if old.name == manifest.name:
                manifest = manifest.with_items_of(old, known)
        return manifest.save(self.path / "manifests")
