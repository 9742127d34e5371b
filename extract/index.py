"""The index: where the parts' receipts meet, become the manifest, and the budget is judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import (
    BudgetError,
    DataError,
    FeatureStore,
    Manifest,
    ManifestTrack,
    NotInStoreError,
    Stream,
    digest,
)
from .settings import LABELS

if TYPE_CHECKING:
    from .receipt import ItemRecord, Quarantined, Receipt, TrackRecord

VERSION = 1
EDITION_DIGITS = 12
SPLITS = ("train", "val", "test")


def edition_of(tracks: Mapping[str, TrackRecord], release: str) -> str:
    """Name an edition: the label release where it is known, and a digest of the labels.

    The digest is of tracks, splits, rows and label bytes: the same labels, the same edition.
    """
    parts = {
        name: [track.split, track.source, track.rows, track.labels_sha256]
        for name, track in tracks.items()
    }
    named = [release] if release else []
    return "-".join([*named, digest(parts)[:EDITION_DIGITS]])


class Index:
    """All that the receipts of a data set say together."""

    def __init__(self, receipts: Sequence[Receipt], store: FeatureStore) -> None:
        """Join receipts.

        Raises:
            DataError: They are of several data sets or editions, or name a stream under several
                recipes.
        """
        datasets = {receipt.dataset for receipt in receipts}
        if len(datasets) != 1:
            raise DataError(f"expected receipts of one data set, found {sorted(datasets)}")
        self.dataset = datasets.pop()
        releases = {receipt.release for receipt in receipts}
        if len(releases) != 1:
            raise DataError(
                f"expected receipts of one label release, found {sorted(releases)}; delete the "
                "receipts and run again"
            )
        self.release = releases.pop()
        self.tracks: dict[str, TrackRecord] = {}
        self.items: dict[str, dict[str, ItemRecord]] = {}
        self.quarantine: list[Quarantined] = []
        recipes: dict[str, str] = {}
        for receipt in receipts:
            self.tracks |= receipt.tracks
            for name, value in receipt.streams.items():
                if recipes.setdefault(name, value) != value:
                    raise DataError(
                        f"stream {name!r}: parts were computed under several recipes "
                        f"({recipes[name][:8]}, {value[:8]}); delete the receipts and run again"
                    )
                self.items.setdefault(name, {}).update(receipt.items[name])
            self.quarantine += receipt.quarantine
        self._check_edition({receipt.edition for receipt in receipts if receipt.edition})
        self.quarantine.sort(key=lambda entry: (entry.source, entry.stream))
        self.streams = {name: store[f"{name}@{value}"] for name, value in sorted(recipes.items())}

    def _check_edition(self, stated: set[str]) -> None:
        """Check that what was read here belongs to the edition that was fetched."""
        if stated - {self.edition}:
            raise DataError(
                f"{self.dataset}: what was fetched is of edition {', '.join(sorted(stated))}, but "
                f"the tracks and labels here make {self.edition}: tracks, splits, rows or label "
                "files differ; give the labels that belong to it (labels, data.path), or choose "
                "another edition (data.edition)"
            )

    @property
    def edition(self) -> str:
        """Digest of tracks, splits, rows and label bytes; the same labels, the same edition."""
        return edition_of(self.tracks, self.release)

    def manifest(self) -> Manifest:
        """Make the manifest, with each track's item keys and the rate its times show."""
        tracks = [
            ManifestTrack(
                track=name,
                source=track.source,
                split=track.split,
                family=track.family,
                rows=track.rows,
                rate=self._rate(name),
                items={
                    self.streams[stream].full_name: items[name].key
                    for stream, items in sorted(self.items.items())
                    if name in items
                },
            )
            for name, track in sorted(self.tracks.items())
        ]
        return Manifest(self.dataset, self.edition, tuple(tracks))

    def _rate(self, track: str) -> float | None:
        for name, items in self.items.items():
            if track not in items:
                continue
            item = self.streams[name].items.get(items[track].key)
            if item is None:
                raise NotInStoreError(
                    f"stream {name!r}, track {track!r}: its receipt lists an item that the store "
                    "does not hold; run again with --forcerun extract"
                )
            times = item.times
            if len(times) > 1 and np.isfinite(times).all() and times[-1] > times[0]:
                return round(float((len(times) - 1) / (times[-1] - times[0])), 6)
        return None

    def sources(self) -> set[str]:
        """Every source, readable or not."""
        return {track.source for track in self.tracks.values()} | self.bad_sources()

    def bad_sources(self) -> set[str]:
        """Sources of which some stream could not be computed."""
        return {entry.source for entry in self.quarantine}

    def budget(self, share: float) -> dict[str, int]:
        """Count sources: all, in quarantine, and how many may be there."""
        total = len(self.sources())
        return {
            "sources": total,
            "quarantined": len(self.bad_sources()),
            "allowed": math.floor(share * total + 1e-9),
        }

    def check_budget(self, share: float) -> None:
        """Judge the failure budget.

        Raises:
            BudgetError: More sources than `share` of all are in quarantine; says which and why.
        """
        budget = self.budget(share)
        if budget["quarantined"] > budget["allowed"]:
            listed = "\n".join(
                f"  {entry.source} ({entry.stream}): {entry.message}" for entry in self.quarantine
            )
            raise BudgetError(
                f"{budget['quarantined']} of {budget['sources']} sources are in quarantine, "
                f"failure_budget {share:g} allows {budget['allowed']}; repair these files, or "
                f"raise failure_budget:\n{listed}"
            )

    def coverage(self, share: float) -> dict[str, Any]:
        """Say what is there and what is missing, as the report shows it."""
        return {
            "version": VERSION,
            "dataset": self.dataset,
            "edition": self.edition,
            "splits": {
                split: self._split(split)
                for split in SPLITS
                if any(track.split == split for track in self.tracks.values())
            },
            "streams": {name: self._stream(stream) for name, stream in self.streams.items()},
            "tracks": [self._track(name, track) for name, track in sorted(self.tracks.items())],
            "quarantine": [asdict(entry) for entry in self.quarantine],
            "budget": self.budget(share),
        }

    def _split(self, split: str) -> dict[str, Any]:
        names = [name for name, track in self.tracks.items() if track.split == split]
        tracks = [self.tracks[name] for name in names]
        return {
            "tracks": len(tracks),
            "sources": len({track.source for track in tracks}),
            "families": len({track.family for track in tracks}),
            "rows": sum(track.rows for track in tracks),
            "labelled": sum(track.labelled for track in tracks),
            "labels": self._label_moments(names),
        }

    def _label_moments(self, tracks: Sequence[str]) -> dict[str, list[float]] | None:
        """Give mean and standard deviation of the labelled rows; None where there are none."""
        records, stream = self.items.get(LABELS, {}), self.streams.get(LABELS)
        if stream is None:
            return None
        items = [stream.items[records[track].key] for track in tracks if track in records]
        known = [np.asarray(item.rows)[np.asarray(item.valid)] for item in items]
        rows = np.concatenate(known).astype(np.float64) if known else np.empty((0, 2))
        if not len(rows):
            return None
        moments = np.stack([rows.mean(0), rows.std(0)], 1).round(4).tolist()
        return dict(zip(("valence", "arousal"), moments, strict=True))

    def _stream(self, stream: Stream) -> dict[str, Any]:
        items = self.items[stream.name].values()
        keys = {track: item.key for track, item in self.items[stream.name].items()}
        shards = stream.shards
        return {
            "digest": stream.digest,
            "dim": shards[0].dim if shards else 0,
            "dtype": str(shards[0].dtype) if shards else "",
            "items": len(items),
            "items_sha256": digest(keys),
            **_totals(items),
            "recipe": stream.recipe,
        }

    def _track(self, name: str, track: TrackRecord) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for stream, items in sorted(self.items.items()):
            item = items.get(name)
            found[stream] = item and {"invalid": item.invalid, "repeated": item.repeated}
        return {
            "track": name,
            "source": track.source,
            "split": track.split,
            "rows": track.rows,
            "labelled": track.labelled,
            "streams": found,
        }


def _totals(items: Iterable[ItemRecord]) -> dict[str, int]:
    every = list(items)
    return {
        "rows": sum(item.rows for item in every),
        "invalid": sum(item.invalid for item in every),
        "repeated": sum(item.repeated for item in every),
    }
