"""The engine: brings a store up to date with one part of a data set.

What the store already holds under the same key is skipped; a source that cannot be read goes to
quarantine with its reason; whatever is finished is published even when the run is broken off.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import REPEATED, DataError, FeatureStore, Identity, MediaError, NewItem
from .compute import Job, Labels, Workers, label_item, load_labels
from .feeds import Feed, Pool, feeds_of
from .inputs import input_digests
from .parts import sources_of_part
from .receipt import ItemRecord, Quarantined, Receipt, TrackRecord
from .settings import LABELS
from .writing import Writing

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from .dataset import Dataset, Track
    from .settings import StreamSettings

Progress = Callable[[int, int, str], None]
LIBRARIES = ("concord", "torch", "torchvision", "torchaudio", "av", "decord", "numpy", "zarr")


def extract(
    dataset: Dataset,
    streams: dict[str, StreamSettings | None],
    store: FeatureStore,
    *,
    part: tuple[int, int] = (1, 1),
    device: str | torch.device = "cpu",
    decoders: int = 0,
    answer_seconds: float = 60.0,
    progress: Progress | None = None,
) -> Receipt:
    """Compute what the store lacks of some streams for one part of a data set.

    Args:
        dataset: The tracks.
        streams: Stream name to settings; None for `labels/va`, which has none.
        store: Where rows go.
        part: (i, n), i from 1: the sources of this part are chosen by a stable hash of their names.
        device: Where the backbones run.
        decoders: Files decoded at the same time; 0: one less than there are processors.
        answer_seconds: Longest wait for a decoder's answer before its source is given up.
        progress: Called with (sources done, sources in all, what was done last, and how fast).

    Returns:
        The receipt; sources that could not be read are in its quarantine.
    """
    workers = Workers(streams, device)
    run = _Run(dataset, workers, list(streams), store, part, str(device))
    pool = Pool(workers, Path(dataset.root), decoders, answer_seconds)
    return run.go(pool, progress or _quiet)


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
        self.root = Path(dataset.root)
        self.workers = workers
        self.digests = store.digests
        chosen = sources_of_part(dataset.sources, *part)
        self.tracks: dict[str, list[Track]] = {source: [] for source in chosen}
        for track in dataset.tracks:
            if track.source in self.tracks:
                self.tracks[track.source].append(track)
        self.streams = {name: store.create_stream(name, workers.recipe(name)) for name in names}
        self.receipt = Receipt(dataset=dataset.name, part=f"{part[0]}/{part[1]}")
        self.receipt.streams = {name: stream.digest for name, stream in self.streams.items()}
        self.receipt.items = {name: {} for name in self.streams}
        self.records: dict[tuple[str, str], ItemRecord] = {}
        self.sharing: dict[tuple[str, str], list[Track]] = {}
        """Stream and key to the tracks that have this item."""
        self.left: Counter[str] = Counter()
        """Source to the number of its items that are not finished."""
        provenance: dict[str, Any] = {
            "versions": {name: version(name) for name in LIBRARIES},
            "python": platform.python_version(),
            "device": device,
        }
        self.writing = Writing({n: s.writer(provenance) for n, s in self.streams.items()})

    def go(self, pool: Pool, progress: Progress) -> Receipt:
        told = _Told(progress, len(self.tracks))
        with ExitStack() as stack:
            stack.enter_context(self.writing)
            for jobs, outcome in pool.outcomes(self._feeds(told)):
                self._settle(jobs, outcome, told)
        self._fill_receipt()
        told.end()
        return self.receipt

    def _feeds(self, told: _Told) -> Iterator[Feed]:
        """Look at one source after another, and give what of it is to be decoded."""
        for source, tracks in self.tracks.items():
            todo = self._todo(list(self._jobs(tracks)))
            for job in [job for job in todo if job.stream == LABELS]:
                self._keep(job, label_item(job))
                told.rows(job.rows)
            media = [job for job in todo if job.stream != LABELS]
            if media:
                self.left[source] = len(media)
                yield from feeds_of(media, self.workers, self.root)
            else:
                told.source(source)

    def _todo(self, jobs: Sequence[Job]) -> list[Job]:
        """Choose the jobs whose items are neither stored nor under way.

        Tracks with equal inputs share an item, so the first one's job serves all.
        """
        todo: list[Job] = []
        for job in jobs:
            sharing = self.sharing.setdefault((job.stream, job.key), [])
            sharing.append(job.track)
            known = self.streams[job.stream].items.get(job.key)
            if known:
                self._record(job, known.valid, known.flags)
            elif len(sharing) == 1:
                todo.append(job)
        return todo

    def _jobs(self, tracks: Sequence[Track]) -> Iterator[Job]:
        for track in tracks:
            try:
                labels = load_labels(track, self.root, self.digests)
            except (DataError, OSError) as error:
                for name in self.streams:
                    self._quarantine([track], name, error, "labels")
                continue
            self.receipt.tracks[track.name] = _track_record(track, labels)
            for name in self.streams:
                try:
                    inputs = self._inputs(name, track, len(labels.values))
                except (MediaError, OSError) as error:
                    self._quarantine([track], name, error, self.workers.reads(name))
                    continue
                recipe = self.streams[name].digest
                identity = Identity(recipe=recipe, rows=len(labels.values), inputs=inputs)
                yield Job(name, track, identity, labels)

    def _inputs(self, stream: str, track: Track, rows: int) -> dict[str, str]:
        return input_digests(self.workers.reads(stream), track, rows, self.root, self.digests)

    def _settle(self, jobs: Sequence[Job], outcome: NewItem | MediaError, told: _Told) -> None:
        """Keep a finished item, or put its tracks into quarantine."""
        if isinstance(outcome, NewItem):
            (job,) = jobs
            try:
                changed = self._inputs(job.stream, job.track, job.rows) != job.identity.inputs
            except (MediaError, OSError):
                changed = True
            if changed:
                outcome = MediaError(f"{job.track.source}: changed while it was read; run again")
            else:
                self._keep(job, outcome)
                told.rows(job.rows)
        if isinstance(outcome, MediaError):
            for job in jobs:
                tracks = self.sharing[job.stream, job.key]
                self._quarantine(tracks, job.stream, outcome, self.workers.reads(job.stream))
        source = jobs[0].track.source
        self.left[source] -= len(jobs)
        if not self.left[source]:
            told.source(source)

    def _keep(self, job: Job, item: NewItem) -> None:
        self.writing.add(job.stream, replace(item, identity=job.identity.record()))
        self._record(job, item.valid, item.flags)

    def _record(self, job: Job, valid: NDArray[Any], flags: NDArray[Any] | None) -> None:
        self.records[job.stream, job.key] = ItemRecord(
            key=job.key,
            rows=job.rows,
            invalid=int((~valid).sum()),
            repeated=0 if flags is None else int((flags & REPEATED != 0).sum()),
        )

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

    def _fill_receipt(self) -> None:
        for (stream, key), tracks in self.sharing.items():
            record = self.records.get((stream, key))
            if record:
                self.receipt.items[stream] |= {track.name: record for track in tracks}


class _Told:
    """What the caller is told of progress: sources done, and rows per second."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = self._rows = 0
        self._begun = time.monotonic()
        progress(0, total, "begin")

    def rows(self, count: int) -> None:
        """Count rows that were computed."""
        self._rows += count

    def source(self, name: str) -> None:
        """Tell that a source is done; the last one is told with the end."""
        self._done += 1
        if self._done < self._total:
            self._progress(self._done, self._total, f"{name}, {self._speed()}")

    def end(self) -> None:
        """Tell that all is done and published."""
        self._progress(self._total, self._total, f"done, {self._speed()}")

    def _speed(self) -> str:
        spent = max(time.monotonic() - self._begun, 1e-9)
        return f"{self._rows / spent:.1f} rows/s"


def _track_record(track: Track, labels: Labels) -> TrackRecord:
    return TrackRecord(
        source=track.source,
        split=track.split,
        family=track.family,
        rows=len(labels.values),
        labelled=int(labels.valid.sum()),
        labels_sha256=labels.sha256,
    )
