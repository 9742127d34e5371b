"""The rows of a run, gathered once from the store and kept in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..cache import DataError, FeatureStore, Manifest, ManifestTrack, NotInStoreError, Stream
from ..cache.stream import TracksOfStream
from .windows import OUTSIDE, windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = "labels/va"
BLOCK_ROWS = 65_536


@dataclass(slots=True)
class Rows:
    """Rows of some tracks end to end; N in all."""

    tracks: tuple[ManifestTrack, ...]
    first: tuple[int, ...]
    """First row of each track."""
    features: dict[str, Tensor]
    """Stream to (N, dim) float32; zeros where there is no value."""
    valid: dict[str, Tensor]
    """Stream to (N,) bool."""
    labels: Tensor
    """(N, 2) float32, valence first; zeros where there is no label."""
    labelled: Tensor
    """(N,) bool."""
    times: NDArray[np.float64]
    """(N,) seconds on the container's clock; NaN where no stream carries one."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def dims(self) -> dict[str, int]:
        """Stream to feature width."""
        return {stream: x.shape[1] for stream, x in self.features.items()}

    def of_streams(self, streams: Sequence[str]) -> Rows:
        """Choose streams, in this order; nothing is copied."""
        features = {stream: self.features[stream] for stream in streams}
        valid = {stream: self.valid[stream] for stream in streams}
        return Rows(
            self.tracks, self.first, features, valid, self.labels, self.labelled, self.times
        )

    def to(self, device: str) -> Rows:
        """Copy the tensors to a device; on the same one, nothing is copied."""
        return Rows(
            self.tracks,
            self.first,
            {stream: x.to(device) for stream, x in self.features.items()},
            {stream: ok.to(device) for stream, ok in self.valid.items()},
            self.labels.to(device),
            self.labelled.to(device),
            self.times,
        )

    def windows(self, length: int, hop: int) -> Tensor:
        """(windows, length) numbers of rows in N; -1 where a window leaves its track."""
        parts = []
        for track, first in zip(self.tracks, self.first, strict=True):
            numbers = windows(track.rows, length, hop)
            parts.append(np.where(numbers == OUTSIDE, OUTSIDE, numbers + first))
        return torch.from_numpy(np.concatenate(parts)).to(self.labels.device)

    def gather(self, numbers: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Give features {stream: (B, T, d)}, valid {stream: (B, T)} and rows (B, T) of windows."""
        inside = numbers != OUTSIDE
        at = numbers.clamp(min=0)
        features = {stream: x[at] for stream, x in self.features.items()}
        valid = {stream: ok[at] & inside for stream, ok in self.valid.items()}
        return features, valid, inside


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean and spread of each stream's features over the training rows that have a value."""

    mean: dict[str, Tensor]
    std: dict[str, Tensor]

    @classmethod
    def of(cls, rows: Rows) -> Scaling:
        """Measure (population moments; a constant dimension keeps its scale)."""
        mean: dict[str, Tensor] = {}
        std: dict[str, Tensor] = {}
        for stream, x in rows.features.items():
            ok = rows.valid[stream]
            count = int(ok.sum())
            if not count:
                raise DataError(f"stream {stream!r} has no value in any training row")
            # In blocks, so that the features are not held a second time; invalid rows are zero.
            total = torch.zeros(x.shape[1], dtype=torch.float64)
            for part in _blocks(ok):
                total += x[part].double().sum(0)
            middle = total / count
            square = torch.zeros_like(total)
            for part in _blocks(ok):
                square += (x[part].double() - middle).square().sum(0)
            mean[stream] = middle.float()
            spread = (square / count).sqrt().float()
            std[stream] = torch.where(spread > 0, spread, 1.0)
        return cls(mean, std)

    def apply(self, rows: Rows) -> None:
        """Scale in place; rows without a value stay zero."""
        for stream, x in rows.features.items():
            x.sub_(self.mean[stream]).div_(self.std[stream])
            x[~rows.valid[stream]] = 0


def _blocks(ok: Tensor) -> tuple[Tensor, ...]:
    return torch.nonzero(ok)[:, 0].split(BLOCK_ROWS)


def load_rows(
    store: FeatureStore,
    manifest: Manifest,
    split: str,
    streams: Mapping[str, Stream],
    labels: Stream,
) -> Rows:
    """Gather the rows of a split from the store.

    A track without an item in a stream (it is in quarantine) has no value there.

    Args:
        store: The store.
        manifest: The data set's edition.
        split: train or val.
        streams: Name in the experiment to stream.
        labels: The stream of valence and arousal.

    Raises:
        NotInStoreError: The split holds no track, or a listed item is not stored.
    """
    tracks = manifest.split(split)
    if not tracks:
        raise NotInStoreError(f"{store.path}: {manifest.name} has no track in split {split!r}")
    first = np.concatenate([[0], np.cumsum([track.rows for track in tracks])])
    total = int(first[-1])
    times = np.full(total, np.nan)
    features: dict[str, Tensor] = {}
    valid: dict[str, Tensor] = {}
    for name, stream in {**streams, LABELS: labels}.items():
        x = torch.zeros(total, stream.dim)
        ok = torch.zeros(total, dtype=torch.bool)
        items = TracksOfStream(stream, (manifest,))
        for track, start in zip(tracks, first, strict=False):
            if stream.full_name in track.items:
                item = items[track.track]
                here = slice(int(start), int(start) + track.rows)
                item.rows.read_into(0, x[here].numpy())
                ok[here].numpy()[...] = item.valid
                times[here] = np.where(np.isnan(times[here]), item.times, times[here])
        features[name], valid[name] = x, ok
    values, labelled = features.pop(LABELS), valid.pop(LABELS)
    starts = tuple(int(start) for start in first[:-1])
    return Rows(tracks, starts, features, valid, values, labelled, times)
