"""Verifying a store: every byte against its seal, and every item that is damaged by name."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .digests import parsed_digest
from .entries import INDEX, Entry, parse_index
from .errors import NotInStoreError, StoreError
from .finding import Finding, LostItem, Progress
from .manifest import VERSION as MANIFEST_VERSION
from .manifest import Manifest, parse_manifest
from .place import Place, parse_record, read_record
from .reading import Reading, read_shards, version
from .store import DIGEST_IN_NAME, STREAM_FOLDER, STREAM_NAME, FeatureStore

RECIPE = "recipe.json"


def verify(
    store: FeatureStore, progress: Progress | None = None, streams: Collection[str] | None = None
) -> list[Finding]:
    """Re-read all that a store holds and name what is damaged.

    Every file of every shard is compared with the SHA-256 in its seal; where one differs, each item
    of the shard is read and compared with its checksums. Manifests and recipes carry their own.

    Args:
        store: The store, local or at a URL.
        progress: Told of every shard that was read.
        streams: Verify these only: `visual/i3d`, or `visual/i3d@3fa9c1`; with all manifests.

    Returns:
        What is wrong; nothing where all is as it was written.

    Raises:
        NotInStoreError: No stream has a name in `streams`.
        StoreError: The store's folders cannot be listed, since something in them is a link.
    """
    folders = _chosen(list(stream_folders(store)), streams, store)
    manifests, findings = read_manifests(store)
    findings += [finding for folder in folders if (finding := folder.finding())]
    tracks = {key: row.track for each in manifests for row in each for key in row.items.values()}
    stored: dict[str, set[str]] = {folder.label: set() for folder in folders}
    todo = [(folder, name) for folder in folders for name in folder.shards.folders()]
    readings = read_shards([folder.shards / name for folder, name in todo])
    for done, ((folder, name), reading) in enumerate(zip(todo, readings, strict=True), 1):
        entries = reading.entries or _likely_entries(reading.place, name, tracks)
        stored[folder.label].update(entry.key for entry in entries)
        suspect = reading.problems or reading.unexpected
        # One that was replaced since it was listed, by compacting or by another writer, is no loss.
        if suspect and name in folder.shards.folders():
            findings += _findings_of(reading, folder.full_name, entries)
        if progress:
            progress(done, len(todo), f"{folder.label}/{name}")
    return findings + list(_missing(store, manifests, stored, everything=streams is None))


@dataclass(frozen=True)
class StreamFolder:
    """A stream's folder, whatever state its recipe is in."""

    name: str
    start: str
    """First 16 digits of the recipe's digest."""
    place: Place

    @property
    def label(self) -> str:
        """`name@start`."""
        return f"{self.name}@{self.start}"

    @property
    def shards(self) -> Place:
        """Folder of the shards."""
        return self.place / "shards"

    def recipe(self) -> tuple[str, Any]:
        """Give the recipe's digest and the recipe.

        Raises:
            FileNotFoundError: There is none.
            StoreError: It is damaged.
        """
        where = f"{self.place}/{RECIPE}"
        record = parse_record(self.place.read(RECIPE), where)
        whole = parsed_digest(record.get("recipe"), where)
        sound = record.get("name") == self.name and record.get("digest") == whole
        if not (sound and whole.startswith(self.start)):
            raise StoreError(
                f"{where}: damaged: expected stream {self.name!r} and a recipe whose digest starts "
                f"with {self.start}, found {record.get('name')!r:.80} and {whole}"
            )
        return whole, record["recipe"]

    @functools.cached_property
    def full_name(self) -> str:
        """`name@digest`, with the whole digest where it is known."""
        try:
            return f"{self.name}@{self.recipe()[0]}"
        except OSError:
            return self.label

    def finding(self) -> Finding | None:
        """Say what is wrong with the recipe."""
        path = f"{self.place}/{RECIPE}"
        try:
            self.recipe()
        except FileNotFoundError:
            problem = f"{path}: missing: repair it, or run the extraction again"
            return Finding("missing", path, problem, self.label)
        except OSError as error:
            kind = "unreadable" if isinstance(error, PermissionError) else "recipe"
            return Finding(kind, path, str(error), self.label)
        return None


def stream_folders(store: FeatureStore) -> Iterator[StreamFolder]:
    """List the folders of all streams, without opening any."""
    root = store.place / "streams"
    for modality in root.folders():
        for folder in (root / modality).folders():
            parts = STREAM_FOLDER.fullmatch(folder)
            if parts and STREAM_NAME.fullmatch(f"{modality}/{parts[1]}"):
                yield StreamFolder(f"{modality}/{parts[1]}", parts[2], root / modality / folder)


def _chosen(
    folders: list[StreamFolder], wanted: Collection[str] | None, store: FeatureStore
) -> list[StreamFolder]:
    if wanted is None:
        return folders
    chosen: dict[str, StreamFolder] = {}
    for name in wanted:
        base, _, start = name.partition("@")
        short = start[:DIGEST_IN_NAME]
        found = {f.label: f for f in folders if f.name == base and f.start.startswith(short)}
        if not found:
            known = ", ".join(folder.label for folder in folders) or "none"
            raise NotInStoreError(f"{store.place}: no stream {name!r}; streams here: {known}")
        chosen |= found
    return list(chosen.values())


def read_manifests(store: FeatureStore) -> tuple[list[Manifest], list[Finding]]:
    """Give the sound manifests, and what is wrong with the others."""
    place = store.place / "manifests"
    sound: list[Manifest] = []
    findings: list[Finding] = []
    for name in place.files():
        if not name.endswith(".json"):
            continue
        path = f"{place}/{name}"
        try:
            sound.append(parse_manifest(place.read(name), path))
        except OSError as error:
            newer = version(place, name) > MANIFEST_VERSION
            kind = "unreadable" if newer or isinstance(error, PermissionError) else "manifest"
            findings.append(Finding(kind, path, str(error)))
    return sound, findings


def _findings_of(reading: Reading, stream: str, entries: tuple[Entry, ...]) -> Iterator[Finding]:
    """Tell what is wrong with a shard; its items are read if one of its files is damaged."""
    for path in reading.unexpected:
        yield Finding("unexpected", path, f"{path!a}: not a file of this shard", stream)
    if not reading.problems:
        return
    if reading.shard is None:
        lost = [LostItem(entry.key, entry.track, ((0, entry.rows),)) for entry in entries]
    else:
        lost = [item for entry in entries if (item := reading.shard.lost(entry))]
    kind = "shard" if reading.readable else "unreadable"
    yield Finding(kind, str(reading.place), "; ".join(reading.problems), stream, tuple(lost))


def _likely_entries(place: Place, name: str, tracks: Mapping[str, str]) -> tuple[Entry, ...]:
    """Give the items of a shard whose seal or index is damaged, if its name vouches for their keys.

    Tracks are named by the manifests where these know the key.
    """
    try:
        items = parse_index(read_record(place, INDEX), name).items
    except OSError:
        return ()
    if not parsed_digest([entry.key for entry in items], name).startswith(name):
        return ()
    return tuple(replace(entry, track=tracks.get(entry.key, entry.track)) for entry in items)


def _missing(
    store: FeatureStore,
    manifests: list[Manifest],
    stored: Mapping[str, set[str]],
    *,
    everything: bool,
) -> Iterator[Finding]:
    """Find items that manifests list and no shard holds: one finding per manifest and stream."""
    for manifest in manifests:
        lost: dict[str, list[LostItem]] = {}
        for row in manifest:
            for stream, key in row.items.items():
                name, _, whole = stream.partition("@")
                label = f"{name}@{whole[:DIGEST_IN_NAME]}"
                if (everything or label in stored) and key not in stored.get(label, ()):
                    lost.setdefault(stream, []).append(LostItem(key, row.track, ((0, row.rows),)))
        path = f"{store.place}/manifests/{manifest.name}.json"
        for stream, items in sorted(lost.items()):
            problem = f"{path}: {len(items)} items of {stream} are not stored; extract again"
            yield Finding("missing", path, problem, stream, tuple(items))
