"""The engine: brings a store up to date with one part of a data set.

What the store already holds under the same key is skipped; a source that cannot be read goes to
quarantine with its reason; whatever is finished is published even when the run is broken off.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import REPEATED, DataError, FeatureStore, Identity, MediaError, NewItem, StreamWriter
from .compute import Job, Labels, Workers, load_labels
from .decoder import Decoder
from .inputs import input_digests
from .parts import sources_of_part
from .receipt import ItemRecord, Quarantined, Receipt, TrackRecord

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from .dataset import Dataset, Track
    from .settings import StreamSettings

Progress = Callable[[int, int, str], None]
LIBRARIES = ("concord", "torch", "torchvision", "torchaudio", "av", "numpy", "zarr")


def extract(
    dataset: Dataset,
    streams: dict[str, StreamSettings | None],
    store: FeatureStore,
    *,
    part: tuple[int, int] = (1, 1),
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Receipt:
    """Compute what the store lacks of some streams for one part of a data set.

    Args:
        dataset: The tracks.
        streams: Stream name to settings; None for `labels/va`, which has none.
        store: Where rows go.
        part: (i, n), i from 1: the sources of this part are chosen by a stable hash of their names.
        device: Where the backbones run.
        progress: Called with (sources done, sources in all, the source that comes next).

    Returns:
        The receipt; sources that could not be read are in its quarantine.
    """
    run = _Run(dataset, Workers(streams, device), list(streams), store, part, str(device))
    return run.go(progress or _quiet)


def _quiet(_done: int, _total: int, _text: str) -> None:
    """Report nothing."""


class _Run:
    """One part's work in progress."""

    def __init__(
        self,
        dataset: Dataset,
        workers: Workers,
        names: Sequence[str],
        store: FeatureStore,
        part: tuple[int, int],
        device: str,
    ) -> None:
        self.dataset = dataset
        self.root = Path(dataset.root)
        self.workers = workers
        self.store = store
        self.part = part
        self.streams = {name: store.create_stream(name, workers.recipe(name)) for name in names}
        self.provenance: dict[str, Any] = {
            "versions": {name: version(name) for name in LIBRARIES},
            "python": platform.python_version(),
            "device": device,
        }
        self.receipt = Receipt(dataset=dataset.name, part=f"{part[0]}/{part[1]}")
        self.receipt.streams = {name: stream.digest for name, stream in self.streams.items()}
        self.receipt.items = {name: {} for name in self.streams}
        self.records: dict[tuple[str, str], ItemRecord] = {}
        self.writers: dict[str, StreamWriter] = {}

    def go(self, progress: Progress) -> Receipt:
        chosen = sources_of_part(self.dataset.sources, *self.part)
        with ExitStack() as stack:
            for name, stream in self.streams.items():
                writer = StreamWriter(self.store, stream, self.provenance)
                self.writers[name] = stack.enter_context(writer)
            decoder = stack.enter_context(Decoder())
            for done, source in enumerate(chosen):
                progress(done, len(chosen), source)
                self._source([t for t in self.dataset.tracks if t.source == source], decoder)
        progress(len(chosen), len(chosen), "done")
        return self.receipt

    def _source(self, tracks: Sequence[Track], decoder: Decoder) -> None:
        jobs = list(self._jobs(tracks))
        # Tracks with equal inputs share an item, so the first one's job serves all.
        todo: dict[tuple[str, str], Job] = {}
        for job in jobs:
            known = self.streams[job.stream].items.get(job.key)
            if known:
                self._record(job, known.valid, known.flags)
            elif (job.stream, job.key) not in self.records:
                todo.setdefault((job.stream, job.key), job)
        for done, outcome in self.workers.compute(list(todo.values()), self.root, decoder):
            if isinstance(outcome, NewItem):
                job = done[0]
                self.writers[job.stream].add(replace(outcome, identity=job.identity.record()))
                self._record(job, outcome.valid, outcome.flags)
            else:
                self._quarantine_jobs(done, jobs, outcome)
        for job in jobs:
            record = self.records.get((job.stream, job.key))
            if record:
                self.receipt.items[job.stream][job.track.name] = record

    def _jobs(self, tracks: Sequence[Track]) -> Iterator[Job]:
        digests = self.store.digests
        for track in tracks:
            try:
                labels = load_labels(track, self.root, digests)
            except (DataError, OSError) as error:
                for name in self.streams:
                    self._quarantine([track], name, error, "labels")
                continue
            self.receipt.tracks[track.name] = _track_record(track, labels)
            for name, stream in self.streams.items():
                try:
                    reads = self.workers.reads(name)
                    inputs = input_digests(reads, track, len(labels.values), self.root, digests)
                except (MediaError, OSError) as error:
                    self._quarantine([track], name, error, self.workers.reads(name))
                    continue
                identity = Identity(recipe=stream.digest, rows=len(labels.values), inputs=inputs)
                yield Job(name, track, identity, labels)

    def _record(self, job: Job, valid: NDArray[Any], flags: NDArray[Any] | None) -> None:
        self.records[job.stream, job.key] = ItemRecord(
            key=job.key,
            rows=job.rows,
            invalid=int((~valid).sum()),
            repeated=0 if flags is None else int((flags == REPEATED).sum()),
        )

    def _quarantine_jobs(
        self, failed: Sequence[Job], jobs: Sequence[Job], error: MediaError
    ) -> None:
        """Quarantine the failed items, with every track that would have shared them."""
        for name in sorted({job.stream for job in failed}):
            keys = {job.key for job in failed if job.stream == name}
            tracks = [job.track for job in jobs if job.stream == name and job.key in keys]
            self._quarantine(tracks, name, error, self.workers.reads(name))

    def _quarantine(
        self, tracks: Sequence[Track], stream: str, error: Exception, place: str
    ) -> None:
        self.receipt.quarantine.append(
            Quarantined(
                source=tracks[0].source,
                tracks=tuple(track.name for track in tracks),
                stream=stream,
                error=type(error).__name__,
                # A receipt's bytes must not depend on where the data set lies.
                message=str(error).replace(f"{self.root}/", ""),
                place=place,
            )
        )


def _track_record(track: Track, labels: Labels) -> TrackRecord:
    return TrackRecord(
        source=track.source,
        split=track.split,
        family=track.family,
        rows=len(labels.values),
        labelled=int(labels.valid.sum()),
        labels_sha256=labels.sha256,
    )
