"""Computing: the backbones of all streams asked for, and the items that they make."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..cache import DataError, digest
from ..cache.digests import canonical
from .clocked import ClockedItem
from .label_tables import read_label_table
from .labels import read_labels
from .rows import new_item
from .settings import LABELS, AudioSettings, StreamSettings, TextSettings
from .templates import count_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from ..cache import Identity, NewItem
    from ..cache.digests import DigestMemory
    from .audio import AudioStream
    from .dataset import Track
    from .decoder import Answer
    from .text import TextStream
    from .visual import VisualStream

LABEL_RECIPE = {"columns": ["valence", "arousal"], "unlabelled": -5, "version": 1}


@dataclass(frozen=True, slots=True)
class Labels:
    """A track's label file, read."""

    values: NDArray[np.float64]
    valid: NDArray[np.bool_]
    sha256: str
    """Of the file, and of how it is read where that is not as Aff-Wild2's; empty without a file."""
    times: NDArray[np.float64] | None = None
    """(rows,) seconds on the media's clock, where the data set states them."""


@dataclass(frozen=True, slots=True)
class Job:
    """One item to compute."""

    stream: str
    track: Track
    identity: Identity
    labels: Labels

    @property
    def key(self) -> str:
        """The item's key."""
        return self.identity.key

    @property
    def rows(self) -> int:
        """Rows of the track, as its label file has them."""
        return len(self.labels.values)


class Building(Protocol):
    """An item in the making."""

    def begin(self, times: NDArray[np.float64]) -> None:
        """Take the times of all frames of the source."""
        ...

    def add(self, chunk: Any) -> None:
        """Take the next pictures or sound."""
        ...

    def end(self) -> None:
        """Take note that nothing more comes."""
        ...

    @property
    def empty(self) -> bool:
        """Nothing has come that a row could be made of."""
        ...

    @property
    def done(self) -> bool:
        """Everything has come, and was computed."""
        ...

    def item(self) -> NewItem:
        """Give the item."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """What is to be known of streams where their backbones are not loaded."""

    recipes: dict[str, Any]
    """Stream to everything that determines its numbers, as plain values."""
    reads: dict[str, str]
    """Stream to what its items are read from."""


class Workers:
    """The backbones of the streams asked for, loaded once."""

    def __init__(
        self, streams: dict[str, StreamSettings | None], device: str | torch.device
    ) -> None:
        self.visual: dict[str, VisualStream] = {}
        self.audio: dict[str, AudioStream] = {}
        self.text: dict[str, TextStream] = {}
        for name, settings in streams.items():
            if settings is not None:
                self._load(name, settings, device)

    def _load(self, name: str, settings: StreamSettings, device: str | torch.device) -> None:
        import torch

        if isinstance(settings, AudioSettings):
            from .audio import AudioStream

            self.audio[name] = AudioStream(name, settings, torch.device(device))
        elif isinstance(settings, TextSettings):
            from .text import TextStream

            self.text[name] = TextStream(name, settings, torch.device(device))
        elif settings.window.dense:
            from .dense_stream import DenseStream

            self.visual[name] = DenseStream(name, settings, torch.device(device))
        else:
            from .visual import VisualStream

            self.visual[name] = VisualStream(name, settings, torch.device(device))

    def recipe(self, stream: str) -> Any:
        """Everything that determines a stream's numbers."""
        if stream == LABELS:
            return LABEL_RECIPE
        return self._worker(stream).recipe

    def reads(self, stream: str) -> str:
        """What a stream's items are read from.

        One of: labels, faces, boxes, video, sound, transcript.
        """
        return "labels" if stream == LABELS else self._worker(stream).reads

    def _worker(self, stream: str) -> VisualStream | AudioStream | TextStream:
        return self.visual.get(stream) or self.audio.get(stream) or self.text[stream]

    def known(self, streams: Iterable[str]) -> Known:
        """Say what is to be known of some streams."""
        names = list(streams)
        recipes = {name: json.loads(canonical(self.recipe(name))) for name in names}
        return Known(recipes, {name: self.reads(name) for name in names})

    def build(self, job: Job, root: Path) -> Building:
        """Begin a job's item.

        Raises:
            MediaError: The track's box file or transcript cannot be read.
        """
        if job.stream in self.audio:
            return self.audio[job.stream].begin(job.key, job.track.name, job.rows)
        if job.stream in self.text:
            from .transcripts import read_transcript

            told = read_transcript(root / str(job.track.transcript))
            return self.text[job.stream].begin(job.key, job.track.name, job.rows, told)
        boxes = None
        if self.reads(job.stream) == "boxes":
            from .boxes import read_boxes

            # Where rows have a clock, boxes are numbered by frame.
            last = job.rows if job.labels.times is None else sys.maxsize
            boxes = read_boxes(root / str(job.track.boxes), last)
        worker = self.visual[job.stream]
        # A face folder and a box file show the person already.
        region = job.track.region if worker.reads == "video" else "whole"
        begin = partial(worker.begin, job.key, job.track.name, region=region, boxes=boxes)
        at = job.labels.times
        # Face crops are numbered by row, so they need no clock.
        if at is None or worker.reads == "faces":
            return begin(job.rows)
        return ClockedItem(lambda n, wanted: begin(n, wanted=wanted), at, worker.stride)

    def forget(self, items: Iterable[Building]) -> None:
        """Drop what waits of items that are given up."""
        for item in items:
            own = item.inner if isinstance(item, ClockedItem) else item
            for worker in self.visual.values():
                worker.forget(own)  # pyright: ignore[reportArgumentType] - compared by identity

    def flush(self) -> None:
        """Compute what waits for a full batch."""
        for worker in self.visual.values():
            worker.flush()


def give(building: Building, answer: Answer, at: NDArray[np.float64] | None = None) -> None:
    """Hand a decoder's answer to an item in the making.

    Args:
        building: The item.
        answer: The answer.
        at: (rows,) seconds, where the data set states when rows are.
    """
    from .decoder import FrameChunk, FrameTimes, SoundChunk

    if isinstance(answer, FrameTimes):
        # An item of pictures looks its rows up among the frames.
        clocked = isinstance(building, ClockedItem)
        building.begin(answer.times if at is None or clocked else at)
    elif isinstance(answer, (FrameChunk, SoundChunk)):
        building.add(answer)


def label_item(job: Job) -> NewItem:
    """Make the item of a label file; Aff-Wild2's carry no clock, only the order of their rows."""
    times = np.full(job.rows, np.nan) if job.labels.times is None else job.labels.times
    values, valid = job.labels.values, job.labels.valid
    return new_item(job.key, job.track.name, values, valid, times, dtype="float64")


def load_labels(track: Track, root: Path, digests: DigestMemory) -> Labels:
    """Read a track's label file; of a test track, how many rows it has.

    Raises:
        DataError: Nothing tells its rows, or a file is malformed.
    """
    if track.labels is None:
        rows = stated_rows(track, root)
        times = track.clock.times(rows) if track.clock else None
        return Labels(np.zeros((rows, 2)), np.zeros(rows, np.bool_), "", times)
    path = root / track.labels
    if track.form is None:
        values, valid = read_labels(path)
        times = track.clock.times(len(values)) if track.clock else None
        return Labels(values, valid, digests.file(path), times)
    table = read_label_table(path, track.form, track.clock)
    sha256 = digest([digests.file(path), digest(track.form)])
    return Labels(table.values, table.valid, sha256, table.times)


def stated_rows(track: Track, root: Path) -> int:
    """Give the rows of a track without labels.

    Raises:
        DataError: Neither a template nor a table of tracks states them.
    """
    if track.rows is not None:
        return track.rows
    if track.template is None:
        raise DataError(f"{track.name}: has no label file, so its rows are not known")
    return count_rows(root / track.template)


def row_map(times: NDArray[np.float64] | None) -> str | None:
    """Give the digest of the rows' times; None where row i is frame i."""
    return None if times is None else hashlib.sha256(times.astype("<f8").tobytes()).hexdigest()
