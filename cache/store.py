"""The feature store: streams by name and recipe, manifests of tracks, in a folder or at a URL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .atomic import write_json
from .catalogued_place import catalogued
from .digests import DigestMemory, canonical, digest
from .entries import FORMATS, check_version
from .errors import ConcordError, NotInStoreError, StoreError
from .manifest import Manifest, parse_manifest
from .new_shard import ShardFormat
from .place import LocalPlace, Place, open_place, parse_record, read_record
from .stream import Stream

NAME = "concord store"
VERSION = 2
MARK = "store.json"
STREAM_NAME = re.compile(r"[a-z0-9_]+/[a-z0-9_.-]+")
STREAM_FOLDER = re.compile(r"([a-z0-9_.-]+)@([0-9a-f]{16})")
DIGEST_IN_NAME = 16


def mark_of(how: ShardFormat) -> dict[str, Any]:
    """Give the content of a store's store.json."""
    record = {"format": NAME, "version": VERSION, "shards": how.name}
    return {**record, "compressed": how.compressed}


class FeatureStore:
    """Streams and manifests in a folder, or at a URL that fsspec can open (read-only).

    `FeatureStore("store")["visual/resnet18"]["video3"].rows` gives a track's features.
    """

    def __init__(self, path: str | Path, *, mapped: bool = True) -> None:
        """Open a store.

        Args:
            path: Folder that holds store.json, or a URL such as `s3://bucket/store`.
            mapped: Read local, uncompressed shards through memory maps; False leaves all reading
                to zarr and h5py, slower by far and with the same results.

        Raises:
            StoreError: No store is there, or it is of a version that this program does not know.
        """
        self.place: Place = catalogued(open_place(path))
        self.mapped = mapped
        where = f"{self.place}/{MARK}"
        try:
            mark = parse_record(self.place.read(MARK), where)
        except OSError as error:
            if isinstance(error, ConcordError):
                raise
            raise StoreError(
                f"{self.place}: no store here ({error}); "
                "run the extraction, or give the folder that holds store.json"
            ) from error
        version = check_version(mark, where, VERSION)
        shards = mark.get("shards") if version > 1 else "zarr"
        if mark.get("format") != NAME or shards not in FORMATS:
            raise StoreError(f"{where}: expected the mark of a {NAME}, found {mark!r:.200}")
        self.format = ShardFormat(shards, compressed=mark.get("compressed") is True)
        self._parsed: dict[str, tuple[bytes, Manifest]] = {}

    @classmethod
    def create(cls, path: str | Path, shards: ShardFormat | None = None) -> FeatureStore:
        """Open a store, making an empty one where there is none.

        Args:
            path: Folder.
            shards: How shards are written: `ShardFormat("hdf5")`. By default as the store that is
                there does, and uncompressed Zarr in a new one.

        Raises:
            StoreError: A store that writes other shards is there, or the path is a URL.
        """
        if not isinstance(open_place(path), LocalPlace):
            raise StoreError(f"{path}: a store at a URL can only be read")
        mark = Path(path) / MARK
        if not mark.exists():
            write_json(mark, mark_of(shards or ShardFormat()))
        store = cls(path)
        if shards not in (None, store.format):
            raise StoreError(
                f"{path}: expected a store of {shards}, found {store.format}; use another folder, "
                "or convert it: concord cache convert"
            )
        return store

    @property
    def path(self) -> Path:
        """The store's folder.

        Raises:
            StoreError: The store is at a URL, which can only be read.
        """
        if not isinstance(self.place, LocalPlace):
            raise StoreError(f"{self.place}: a store at a URL can only be read")
        return Path(self.place.path)

    @property
    def digests(self) -> DigestMemory:
        """Digests of inputs that this store's writers have read."""
        return DigestMemory(self.path / "inputs")

    def streams(self) -> tuple[Stream, ...]:
        """All streams, by name and digest.

        Raises:
            StoreError: A stream's folder and recipe contradict each other.
        """
        return tuple(self._stream(name, start) for name, start in self._stream_folders())

    def _stream_folders(self) -> Iterator[tuple[str, str]]:
        root = self.place / "streams"
        for modality in root.folders():
            for folder in (root / modality).folders():
                parts = STREAM_FOLDER.fullmatch(folder)
                if not (parts and STREAM_NAME.fullmatch(f"{modality}/{parts[1]}")):
                    continue
                # A stream begins with its recipe: without one it is being made, or was repaired.
                if (root / modality / folder).sizes(["recipe.json"])["recipe.json"] is not None:
                    yield f"{modality}/{parts[1]}", parts[2]

    def _stream(self, name: str, start: str) -> Stream:
        place = self.place / "streams" / f"{name}@{start}"
        record = read_record(place, "recipe.json")
        whole = record.get("digest")
        sound = isinstance(whole, str) and re.fullmatch("[0-9a-f]{64}", whole)
        if record.get("name") != name or not sound or not str(whole).startswith(start):
            raise StoreError(
                f"{place}/recipe.json: expected stream {name!r} with a digest that starts with "
                f"{start}, found {record.get('name')!r:.80} and {whole!r:.80}"
            )
        return Stream(self, name, str(whole), place)

    def __getitem__(self, name: str) -> Stream:
        base, _, start = name.partition("@")
        named = [self._stream(*parts) for parts in self._stream_folders() if parts[0] == base]
        found = [stream for stream in named if stream.digest.startswith(start)]
        if len(found) == 1:
            return found[0]
        if not found:
            known = ", ".join(f"{name}@{start[:8]}" for name, start in self._stream_folders())
            known = known or "none"
            raise NotInStoreError(f"{self.place}: no stream {name!r}; streams here: {known}")
        listed = ", ".join(f"{s.name}@{s.digest[:8]}" for s in found)
        raise NotInStoreError(
            f"{self.place}: stream {name!r} exists under several recipes: {listed}; "
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
        record = {"name": name, "digest": value, "recipe": plain}
        if not _holds(path / "recipe.json", record):
            write_json(path / "recipe.json", record)
        return Stream(self, name, value, LocalPlace(str(path)))

    def shard_folder(self, stream: Stream) -> Path:
        """Folder that a stream's shards are published in."""
        return self.path / "streams" / f"{stream.name}@{stream.digest[:DIGEST_IN_NAME]}" / "shards"

    def manifests(self) -> tuple[Manifest, ...]:
        """All manifests, by name."""
        place = self.place / "manifests"
        names = [name for name in place.files() if name.endswith(".json")]
        return tuple(self._manifest(place, name) for name in names)

    def _manifest(self, place: Place, name: str) -> Manifest:
        """Read a manifest; every stream asks for it, so it is parsed again only if it changed."""
        content = place.read(name)
        known = self._parsed.get(name)
        if known is None or known[0] != content:
            known = self._parsed[name] = content, parse_manifest(content, f"{place}/{name}")
        return known[1]

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
        raise NotInStoreError(f"{self.place}: {problem} of {name!r}; there is: {listed}")

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


def _holds(path: Path, record: dict[str, Any]) -> bool:
    """Say whether a file holds this record; a damaged one does not."""
    try:
        return json.loads(path.read_bytes()) == record
    except (FileNotFoundError, ValueError):
        return False
