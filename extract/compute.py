"""Computing: the items of one source, each file decoded once for all streams that read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import DataError, MediaError, NewItem
from .decoder import DecoderCrashedError, DecoderLostError
from .labels import read_labels
from .rows import new_item
from .settings import LABELS, AudioSettings, StreamSettings

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ..cache import Identity
    from ..cache.digests import DigestMemory
    from .audio import AudioStream
    from .dataset import Track
    from .decoder import Decoder
    from .media import Sound
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


Outcome = tuple[Sequence[Job], NewItem | MediaError]
"""A finished item with its job, or why some jobs could not be done."""


class Workers:
    """The backbones of the streams asked for, loaded once."""

    def __init__(
        self, streams: dict[str, StreamSettings | None], device: str | torch.device
    ) -> None:
        self._visual: dict[str, VisualStream] = {}
        self._audio: dict[str, AudioStream] = {}
        for name, settings in streams.items():
            if settings is not None:
                self._load(name, settings, device)

    def _load(self, name: str, settings: StreamSettings, device: str | torch.device) -> None:
        import torch

        if isinstance(settings, AudioSettings):
            from .audio import AudioStream

            self._audio[name] = AudioStream(name, settings, torch.device(device))
        else:
            from .visual import VisualStream

            self._visual[name] = VisualStream(name, settings, torch.device(device))

    def recipe(self, stream: str) -> Any:
        """Everything that determines a stream's numbers."""
        if stream == LABELS:
            return LABEL_RECIPE
        return (self._visual.get(stream) or self._audio[stream]).recipe

    def reads(self, stream: str) -> str:
        """What a stream's items are read from: labels, faces, video or sound."""
        if stream == LABELS:
            return "labels"
        return self._visual[stream].reads if stream in self._visual else "sound"

    def compute(self, jobs: Sequence[Job], root: Path, decoder: Decoder) -> Iterator[Outcome]:
        """Compute the jobs of one source; a decoder that crashes gets a second try."""
        kinds = {
            "labels": self._labels,
            "faces": self._faces,
            "video": self._video,
            "sound": self._sound,
        }
        for reads, work in kinds.items():
            group = [job for job in jobs if self.reads(job.stream) == reads]
            if group:
                outcomes = list(work(group, root, decoder))
                if any(isinstance(outcome, DecoderCrashedError) for _, outcome in outcomes):
                    outcomes = list(work(group, root, decoder))
                yield from outcomes

    def _labels(self, jobs: Sequence[Job], _root: Path, _decoder: Decoder) -> Iterator[Outcome]:
        for job in jobs:
            # A label file carries no clock, only the order of its rows.
            times = np.full(job.rows, np.nan)
            values, valid = job.labels.values, job.labels.valid
            yield [job], new_item(job.key, job.track.name, values, valid, times, dtype="float64")

    def _faces(self, jobs: Sequence[Job], root: Path, _decoder: Decoder) -> Iterator[Outcome]:
        for job in jobs:
            folder = root / str(job.track.faces)
            worker = self._visual[job.stream]
            try:
                yield [job], worker.from_crops(job.key, job.track.name, job.rows, folder)
            except MediaError as error:
                yield [job], error

    def _video(self, jobs: Sequence[Job], root: Path, decoder: Decoder) -> Iterator[Outcome]:
        items = [
            self._visual[job.stream].begin(job.key, job.track.name, job.rows, job.track.region)
            for job in jobs
        ]
        decoded = False
        try:
            for chunk in decoder.video(root / str(jobs[0].track.media)):
                decoded = True
                for item in items:
                    item.add(chunk)
        except MediaError as error:
            # What was decoded before the damage is kept; rows after it are invalid. A child that
            # was lost may have been killed from outside: the next run may get more.
            if not decoded or isinstance(error, DecoderLostError):
                yield jobs, error
                return
        if not decoded:
            yield jobs, MediaError(f"{jobs[0].track.source}: holds no frame")
            return
        for job, item in zip(jobs, items, strict=True):
            yield [job], item.finish()

    def _sound(self, jobs: Sequence[Job], root: Path, decoder: Decoder) -> Iterator[Outcome]:
        from .spectrogram import join

        path = root / str(jobs[0].track.media)
        sounds: list[Sound] = []
        times = np.zeros(0)
        try:
            times = decoder.probe(path).frame_times
            for sound in decoder.audio(path):
                sounds.append(sound)  # noqa: PERF402 - what came before an error is kept
        except MediaError as error:
            if not sounds or isinstance(error, DecoderLostError):
                yield jobs, error
                return
        if not (len(times) and sounds):
            missing = "sound" if len(times) else "frame, so its rows have no time"
            yield jobs, MediaError(f"{path.name}: holds no {missing}")
            return
        for job in jobs:
            worker = self._audio[job.stream]
            waveform = join(sounds, worker.preset.rate)
            yield [job], worker.item(job.key, job.track.name, job.rows, waveform, times)


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
