"""Receipts: what one part's job did, as small JSON with the same bytes for the same work.

No times and no host names: Snakemake compares receipts by content, so a job that found
everything in the store leaves what the job that computed it has left.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..cache import DataError
from ..cache.atomic import write_json

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackRecord:
    """A track as its label file gives it."""

    source: str
    split: str
    family: str
    rows: int
    labelled: int
    labels_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRecord:
    """One track's item in a stream."""

    key: str
    rows: int
    invalid: int
    """Rows without a value."""
    repeated: int
    """Rows that repeat the last decodable frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """One source that could not be computed in one stream: data, not an exception."""

    source: str
    tracks: tuple[str, ...]
    stream: str
    error: str
    message: str
    place: str


@dataclass(slots=True, kw_only=True)
class Receipt:
    """What one job of one part did."""

    dataset: str
    part: str
    release: str = ""
    """Name of the label release, where it is known."""
    edition: str = ""
    """The edition that all of this belongs to, where it was listed in a manifest."""
    tracks: dict[str, TrackRecord] = field(default_factory=dict)
    streams: dict[str, str] = field(default_factory=dict)
    """Stream name to full recipe digest."""
    items: dict[str, dict[str, ItemRecord]] = field(default_factory=dict)
    """Stream name to track to item."""
    quarantine: list[Quarantined] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write atomically, in canonical order."""
        self.quarantine.sort(key=lambda entry: (entry.stream, entry.source, entry.tracks))
        write_json(path, {**asdict(self), "version": VERSION})


def load_receipt(path: Path) -> Receipt:
    """Read a receipt.

    Raises:
        DataError: Not a receipt of this version.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        known = record.pop("version") == VERSION
        receipt = _receipt(record) if known else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a receipt: {error!r}; delete it and run again") from error
    if receipt is None:
        raise DataError(f"{path}: a receipt of another version; delete it and run again")
    return receipt


def _receipt(record: dict[str, Any]) -> Receipt:
    return Receipt(
        dataset=record["dataset"],
        part=record["part"],
        release=record.get("release", ""),
        edition=record.get("edition", ""),
        tracks={name: TrackRecord(**value) for name, value in record["tracks"].items()},
        streams=record["streams"],
        items={
            stream: {track: ItemRecord(**item) for track, item in items.items()}
            for stream, items in record["items"].items()
        },
        quarantine=[
            Quarantined(tracks=tuple(entry.pop("tracks")), **entry)
            for entry in record["quarantine"]
        ],
    )
