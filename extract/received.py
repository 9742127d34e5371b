"""Received rows: the receipt of what a manifest lists and a store holds, computed elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..cache import REPEATED, StoreError, digest
from .receipt import ItemRecord, Quarantined, Receipt, TrackRecord
from .settings import LABELS

if TYPE_CHECKING:
    from ..cache import Item, Manifest, ManifestTrack, Stream

PART = "fetched"


def receipt_of(
    manifest: Manifest,
    streams: Mapping[str, Stream],
    keys: Mapping[str, Mapping[str, str]],
    unlisted: Mapping[str, Iterable[ManifestTrack]],
) -> Receipt:
    """Make the receipt that an extraction of these rows would have left.

    Args:
        manifest: Of the edition.
        streams: Stream name to the stream in the store that holds its items.
        keys: Stream name to track to item key.
        unlisted: Stream name to tracks that have no item, as if in quarantine.

    Raises:
        StoreError: An item does not say what it was made of, so its labels are not known.
    """
    receipt = Receipt(
        dataset=manifest.dataset,
        part=PART,
        release=manifest.edition.rpartition("-")[0],
        edition=manifest.edition,
    )
    receipt.streams = {name: stream.digest for name, stream in streams.items()}
    receipt.items = {
        name: {track: _item_record(stream.item(keys[name][track])) for track in sorted(keys[name])}
        for name, stream in streams.items()
    }
    if LABELS in streams:
        found = {track: streams[LABELS].item(key) for track, key in keys[LABELS].items()}
        receipt.tracks = {row.track: _track_record(row, found.get(row.track)) for row in manifest}
    for stream, rows in unlisted.items():
        by_source: dict[str, list[str]] = {}
        for row in rows:
            by_source.setdefault(row.source, []).append(row.track)
        receipt.quarantine += [
            Quarantined(
                source=source,
                tracks=tuple(tracks),
                stream=stream,
                error="NotInStoreError",
                message=f"{source}: not listed in {manifest.name}: it was in quarantine where the "
                "rows were computed, or has not been pushed",
                place="manifest",
            )
            for source, tracks in sorted(by_source.items())
        ]
    return receipt


def _item_record(item: Item) -> ItemRecord:
    return ItemRecord(
        key=item.key,
        rows=item.entry.rows,
        invalid=int((~item.valid).sum()),
        repeated=int((item.flags & REPEATED != 0).sum()),
    )


def _track_record(row: ManifestTrack, labels: Item | None) -> TrackRecord:
    """Say of a track what its label item tells; a test track has none."""
    return TrackRecord(
        source=row.source,
        split=row.split,
        family=row.family,
        rows=row.rows,
        labelled=0 if labels is None else int(labels.valid.sum()),
        labels_sha256="" if labels is None else labels_digest(row.track, labels),
    )


def labels_digest(track: str, labels: Item) -> str:
    """Give the digest of a track's labels, as the name of its edition has it.

    Raises:
        StoreError: The item was written without its identity (version 1).
    """
    inputs = labels.identity.get("inputs", {})
    if "labels" not in inputs:
        raise StoreError(
            f"{labels.shard.path}: track {track!r}: which label file these rows were read from is "
            "not recorded; give your own labels (labels: FOLDER)"
        )
    file = str(inputs["labels"])
    return digest([file, inputs["form"]]) if "form" in inputs else file
