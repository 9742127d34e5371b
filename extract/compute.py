"""Computing: the backbones of all streams asked for, and the items that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..cache import DataError
from .labels import read_labels
from .rows import new_item
from .settings import LABELS, AudioSettings, StreamSettings

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
    from .visual import VisualStream

LABEL_RECIPE = {"columns": ["valence", "arousal"], "unlabelled": -5, "version": 1}


@dataclass(frozen=True, slots=True)
class Labels:
    """A track's label file, read."""

    values: NDArray[np.float64]
    valid: NDArray[np.bool_]
    sha256: str


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


class Workers:
    """The backbones of the streams asked for, loaded once."""

    def __init__(
        self, streams: dict[str, StreamSettings | None], device: str | torch.device
    ) -> None:
        self.visual: dict[str, VisualStream] = {}
        self.audio: dict[str, AudioStream] = {}
        for name, settings in streams.items():
            if settings is not None:
                self._load(name, settings, device)

    def _load(self, name: str, settings: StreamSettings, device: str | torch.device) -> None:
        import torch

        if isinstance(settings, AudioSettings):
            from .audio import AudioStream

            self.audio[name] = AudioStream(name, settings, torch.device(device))
        else:
            from .visual import VisualStream

            self.visual[name] = VisualStream(name, settings, torch.device(device))

    def recipe(self, stream: str) -> Any:
        """Everything that determines a stream's numbers."""
        if stream == LABELS:
            return LABEL_RECIPE
        return (self.visual.get(stream) or self.audio[stream]).recipe

    def reads(self, stream: str) -> str:
        """What a stream's items are read from: labels, faces, boxes, video or sound."""
        if stream == LABELS:
            return "labels"
        return self.visual[stream].reads if stream in self.visual else "sound"

    def build(self, job: Job, root: Path) -> Building:
        """Begin a job's item.

        Raises:
            MediaError: The track's box file cannot be read.
        """
        if job.stream in self.audio:
            return self.audio[job.stream].begin(job.key, job.track.name, job.rows)
        boxes = None
        if self.reads(job.stream) == "boxes":
            from .boxes import read_boxes

            boxes = read_boxes(root / str(job.track.boxes), job.rows)
        worker = self.visual[job.stream]
        # A face folder and a box file show the person already.
        region = job.track.region if worker.reads == "video" else "whole"
        return worker.begin(job.key, job.track.name, job.rows, region, boxes)

    def forget(self, items: Iterable[Building]) -> None:
        """Drop what waits of items that are given up."""
        for item in items:
            for worker in self.visual.values():
                worker.forget(item)  # pyright: ignore[reportArgumentType] - compared by identity

    def flush(self) -> None:
        """Compute what waits for a full batch."""
        for worker in self.visual.values():
            worker.flush()


def give(building: Building, answer: Answer) -> None:
    """Hand a decoder's answer to an item in the making."""
    from .decoder import FrameChunk, FrameTimes, SoundChunk

    if isinstance(answer, FrameTimes):
        building.begin(answer.times)
    elif isinstance(answer, (FrameChunk, SoundChunk)):
        building.add(answer)


def label_item(job: Job) -> NewItem:
    """Make the item of a label file, which carries no clock, only the order of its rows."""
    times = np.full(job.rows, np.nan)
    values, valid = job.labels.values, job.labels.valid
    return new_item(job.key, job.track.name, values, valid, times, dtype="float64")


def load_labels(track: Track, root: Path, digests: DigestMemory) -> Labels:
    """Read a track's label file.

    Raises:
        DataError: There is none, or it is malformed.
    """
    if track.labels is None:
        raise DataError(f"{track.name}: has no label file, so its rows are not known")
    path = root / track.labels
    values, valid = read_labels(path)
    return Labels(values, valid, digests.file(path))
