"""The manifest: the table of tracks of one data set edition, with the item key per stream."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .atomic import write_json
from .digests import digest, parsed_digest
from .entries import check_name, check_version
from .errors import StoreError
from .place import parse_record

VERSION = 2
"""Version of the manifest format; 1 had no checksum of its own."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestTrack:
    """One track: where it belongs and which item holds its rows in each stream."""

    track: str
    source: str
    split: str
    family: str
    rows: int
    rate: float | None
    """Rows per second as its container states it; None where no media could be read."""
    items: Mapping[str, str] = field(default_factory=dict)
    """Stream with full recipe digest (`visual/i3d@<64 hex>`) to item key."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All tracks of one edition of a data set, sorted by name."""

    dataset: str
    edition: str
    """Name of the label release where it is known, then a digest of the tracks, their splits, rows
    and label bytes: `ABAW6-3fa9c1d2e4b5`, or its 12 hex digits alone."""
    tracks: tuple[ManifestTrack, ...]

    @property
    def name(self) -> str:
        """`dataset@edition`, the name to choose this manifest by."""
        return f"{self.dataset}@{self.edition}"

    def split(self, split: str) -> tuple[ManifestTrack, ...]:
        """Tracks of one split, in order."""
        return tuple(track for track in self.tracks if track.split == split)

    def with_items_of(self, other: Manifest, known: Collection[str]) -> Manifest:
        """Take over the items that another manifest has of streams that are not in `known`."""
        older = {track.track: track.items for track in other}
        tracks = [
            replace(
                track,
                items={
                    **{s: k for s, k in older.get(track.track, {}).items() if s not in known},
                    **track.items,
                },
            )
            for track in self
        ]
        return replace(self, tracks=tuple(tracks))

    def __iter__(self) -> Iterator[ManifestTrack]:
        return iter(self.tracks)

    def save(self, folder: Path) -> Path:
        """Write the manifest into a folder under its own name and give the path.

        Raises:
            StoreError: A name is none that can be read again, or a track is there twice.
        """
        if not (NAME.fullmatch(self.dataset) and NAME.fullmatch(self.edition)):
            raise StoreError(
                f"manifest {self.name!r}: a data set's name may hold letters, digits, '.', '_' "
                "and '-' only; rename it in the configuration (data.name)"
            )
        _check_tracks(self.tracks, self.name)
        path = folder / f"{self.name}.json"
        write_json(path, self.record())
        return path

    def record(self) -> dict[str, Any]:
        """Give the manifest as it is written; its last field covers the others."""
        record = {
            "dataset": self.dataset,
            "edition": self.edition,
            "tracks": [asdict(track) for track in self.tracks],
        }
        return {"version": VERSION, **record, "sha256": digest(record)}


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Read a manifest.

    Raises:
        StoreError: Damaged, or not a manifest of a version that this program knows.
    """
    record = parse_record(content, where)
    version = check_version(record, where, VERSION)
    body = {name: record.get(name) for name in ("dataset", "edition", "tracks")}
    if version > 1 and record.get("sha256") != parsed_digest(body, where):
        raise StoreError(f"{where}: damaged: it does not have its own SHA-256; index again")
    try:
        tracks = tuple([ManifestTrack(**track) for track in record["tracks"]])
    except (KeyError, TypeError) as error:
        raise StoreError(f"{where}: not a manifest: {error!r}") from error
    for name in (body["dataset"], body["edition"]):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise StoreError(f"{where}: not a name of a data set or edition: {name!r:.80}")
    _check_tracks(tracks, where)
    return Manifest(record["dataset"], record["edition"], tracks)


def _check_tracks(tracks: tuple[ManifestTrack, ...], where: str) -> None:
    names: set[str] = set()
    for track in tracks:
        check_name(track.track, f"{where}: track")
        for name in (track.source, track.split, track.family):
            check_name(name, f"{where}: track {track.track!r:.80}")
        rate = track.rate is None or type(track.rate) in (int, float)
        if type(track.rows) is not int or track.rows < 0 or not rate:
            raise StoreError(f"{where}: track {track.track!r:.80}: rows or rate is no number")
        items = track.items.items() if isinstance(track.items, dict) else [(None, None)]
        for pair in items:
            for text in pair:
                check_name(text, f"{where}: track {track.track!r:.80}: stream or key")
        if track.track in names:
            raise StoreError(f"{where}: track {track.track!r:.80} is there twice")
        names.add(track.track)
