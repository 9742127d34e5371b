"""The manifest: the table of tracks of one data set edition, with the item key per stream."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .atomic import write_json
from .errors import StoreError

VERSION = 1
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
    """Digest of the tracks, their splits, rows and label bytes: first 12 hex digits."""
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
        """Write the manifest into a folder under its own name and give the path."""
        if not (NAME.fullmatch(self.dataset) and NAME.fullmatch(self.edition)):
            raise StoreError(
                f"manifest {self.name!r}: a data set's name may hold letters, digits, '.', '_' "
                "and '-' only; rename it in the configuration (data.name)"
            )
        path = folder / f"{self.name}.json"
        record = {
            "version": VERSION,
            "dataset": self.dataset,
            "edition": self.edition,
            "tracks": [asdict(track) for track in self.tracks],
        }
        write_json(path, record)
        return path


def load_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        StoreError: Not a manifest of a version that this program knows.
    """
    try:
        record: Any = json.loads(path.read_bytes())
        version = record["version"]
        if version != VERSION:
            raise StoreError(
                f"{path}: manifest version {version}, this program reads version {VERSION}; "
                "update concord"
            )
        tracks = tuple(ManifestTrack(**track) for track in record["tracks"])
        return Manifest(record["dataset"], record["edition"], tracks)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not a manifest: {error!r}") from error
