"""The rows of a run, gathered once from the store, and batches of windows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..cache import FeatureStore, Manifest, ManifestTrack, NotInStoreError, Stream
from ..cache.stream import TracksOfStream
from .sources import Mapped, Source, fits, reading, taken
from .windows import OUTSIDE, Windows, cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .settings import WindowSettings

LABELS = "labels/va"
SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Windows of rows, (…, B, T) each, as a head and the loss take them."""

    features: dict[str, Tensor]
    """Stream to (…, B, T, dim), as stored."""
    valid: dict[str, Tensor]
    """Stream to (…, B, T): it has a value there."""
    rows: Tensor
    """The row lies inside the track."""
    labels: Tensor
    """(…, B, T, 2)."""
    labelled: Tensor
    """The row has a label."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of some tracks end to end; N in all."""

    tracks: tuple[ManifestTrack, ...]
    firsts: tuple[int, ...]
    """First row of each track."""
    sources: dict[str, Source]
    """Stream to its rows."""
    valid: dict[str, Tensor]
    """Stream to (N,) bool."""
    labels: Tensor
    """(N, 2), valence first; zeros where there is no label."""
    labelled: Tensor
    """(N,) bool."""
    times: NDArray[np.float64]
    """(N,) seconds on the container's clock; NaN where no stream carries one."""
    face: NDArray[np.bool_]
    """(N,): a face is seen there."""
    absent: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Stream to the places of tracks that it has no item of: they are in quarantine."""
    told: str = ""
    """Where the rows lie, in a sentence."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self.labels.device

    def dims(self, streams: Sequence[str]) -> dict[str, int]:
        """Give stream to feature width."""
        return {stream: self.sources[stream].dim for stream in streams}

    def windows(
        self, tracks: Sequence[int], window: WindowSettings, *, scoring: bool = False
    ) -> Windows:
        """Cut some of the tracks, by their places, into windows; see `concord.fuse.windows.cut`."""
        firsts = [self.firsts[at] for at in tracks]
        rows = [self.tracks[at].rows for at in tracks]
        return cut(firsts, rows, window, scoring=scoring)

    def numbers(self, tracks: Sequence[int]) -> NDArray[np.int64]:
        """Number the rows of some tracks, in the order of the tracks."""
        spans = [np.arange(self.tracks[at].rows) + self.firsts[at] for at in tracks]
        return np.concatenate([*spans, np.empty(0, np.int64)])

    def batch(self, streams: Sequence[str], numbers: NDArray[np.int64]) -> Batch:
        """Gather windows of row numbers (…, B, T), `OUTSIDE` where they have left their track."""
        inside = torch.from_numpy(numbers != OUTSIDE).to(self.device)
        return Batch(
            features={stream: self.sources[stream].take(numbers) for stream in streams},
            valid={stream: taken(self.valid[stream], numbers) & inside for stream in streams},
            rows=inside,
            labels=taken(self.labels, numbers),
            labelled=taken(self.labelled, numbers) & inside,
        )


def load_rows(
    store: FeatureStore,
    manifest: Manifest,
    streams: Mapping[str, Stream],
    labels: Stream | None,
    *,
    faces: Stream | None = None,
    splits: Sequence[str] = SPLITS,
    device: str = "cpu",
    memory: float = 0.0,
) -> Rows:
    """Gather the rows of some splits from the store: into memory, or mapped where they are many.

    A track without an item in a stream (it is in quarantine) has no value there.

    Args:
        store: The store.
        manifest: The data set's edition.
        streams: Name in the experiment to stream.
        labels: The stream of valence and arousal; None for a data set without.
        faces: The stream that has a value where a face is seen; None where nobody asks.
        splits: Those that are wanted.
        device: Where batches are made.
        memory: GiB that the rows may take; 0 for half of what is free.

    Raises:
        NotInStoreError: A split holds no track, or a listed item is not stored.
    """
    for split in splits:
        if not manifest.split(split):
            raise NotInStoreError(f"{store.path}: {manifest.name} has no track in split {split!r}")
    tracks = tuple(track for split in splits for track in manifest.split(split))
    counts = np.array([track.rows for track in tracks], np.int64)
    firsts, total = np.cumsum(counts) - counts, int(counts.sum())
    items = {name: TracksOfStream(stream, (manifest,)) for name, stream in streams.items()}
    present = {name: _present(stream, tracks) for name, stream in streams.items()}
    size = sum(total * s.dim * s.dtype.itemsize for s in streams.values())
    held, told = fits(size, memory, device)
    joined = {
        name: stream.joined(
            [
                items[name][track.track] if there else None
                for track, there in zip(tracks, present[name], strict=True)
            ],
            counts.tolist(),
        )
        for name, stream in streams.items()
    }
    times, face = np.full(total, np.nan), np.zeros(total, bool)
    with reading(joined if held else {}, device) as sources:
        valid = {
            name: torch.from_numpy(_valid(items[name], tracks, present[name], firsts, times))
            for name in streams
        }
        values, labelled = _labels(labels, manifest, tracks, firsts, total)
        if faces:
            where = TracksOfStream(faces, (manifest,))
            face = _valid(where, tracks, _present(faces, tracks), firsts, times)
    if not held:
        sources |= {name: Mapped(rows, device) for name, rows in joined.items()}
    return Rows(
        tracks=tracks,
        firsts=tuple(firsts.tolist()),
        sources=sources,
        valid={name: ok.to(device) for name, ok in valid.items()},
        labels=torch.from_numpy(values).to(device, torch.get_default_dtype()),
        labelled=torch.from_numpy(labelled).to(device),
        times=times,
        face=face,
        absent={name: frozenset(np.flatnonzero(~ok).tolist()) for name, ok in present.items()},
        told=told,
    )


def _present(stream: Stream, tracks: Sequence[ManifestTrack]) -> NDArray[np.bool_]:
    """Say which tracks have an item of a stream."""
    return np.array([stream.full_name in track.items for track in tracks])


def _valid(
    items: TracksOfStream,
    tracks: Sequence[ManifestTrack],
    present: NDArray[np.bool_],
    firsts: NDArray[np.int64],
    times: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Say where a stream has a value (N,), and fill in the times that it knows."""
    ok = np.zeros(len(times), bool)
    for track, there, first in zip(tracks, present, firsts, strict=True):
        if there:
            item = items[track.track]
            here = slice(first, first + track.rows)
            ok[here] = item.valid
            times[here] = np.where(np.isnan(times[here]), item.times, times[here])
    return ok


def _labels(
    stream: Stream | None,
    manifest: Manifest,
    tracks: Sequence[ManifestTrack],
    firsts: NDArray[np.int64],
    total: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give labels (N, 2) and where there is one (N,)."""
    values, ok = np.zeros((total, 2)), np.zeros(total, bool)
    if stream is None:
        return values, ok
    items = TracksOfStream(stream, (manifest,))
    for track, first in zip(tracks, firsts, strict=True):
        if stream.full_name in track.items:
            item = items[track.track]
            here = slice(first, first + track.rows)
            item.rows.read_into(0, values[here])
            ok[here] = item.valid
    return values, ok
