"""The engine: brings a store up to date with one part of a data set.

What the store already holds under the same key is skipped; a source that cannot be read goes to
quarantine with its reason; whatever is finished is published even when the run is broken off.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import DataError, FeatureStore, Identity, MediaError
from .compute import Job, Known, Labels, Workers, label_item, load_labels, row_map
from .feeds import Pool
from .inputs import input_digests
from .keeping import Keeping, item_record
from .parts import sources_of_part
from .receipt import ItemRecord, Quarantined, Receipt, TrackRecord
from .settings import LABELS

if TYPE_CHECKING:
    import torch

    from .dataset import Dataset, Track
    from .keeping import Result
    from .settings import StreamSettings

    Results = Callable[[Iterator[list[Job]]], Iterator[Result]]

Progress = Callable[[int, int, str], None]


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
    run = Run(dataset, workers.known(streams), store, part, str(device))
    with Pool(workers, run.root, decoders, answer_seconds) as pool:
        return run.go(lambda sources: run.keeping.kept(pool.compute(sources)), progress)


def _quiet(_done: int, _total: int, _text: str) -> None:
    """Report nothing."""


class Run:
    """One part's work in progress, wherever its items are computed."""

    def __init__(
        self,
        dataset: Dataset,
        known: Known,
        store: FeatureStore,
        part: tuple[int, int],
        device: str,
    ) -> None:
        """Prepare.

        Args:
            dataset: The tracks.
            known: The streams asked for.
            store: Where rows go.
            part: (i, n), i from 1.
            device: Where items are computed, for their provenance.
        """
        dataset.refuse_leaks()
        self.root = Path(dataset.root)
        self.known = known
        self.digests = store.digests
        chosen = sources_of_part(dataset.sources, *part)
        self.tracks: dict[str, list[Track]] = {source: [] for source in chosen}
        for track in dataset.tracks:
            if track.source in self.tracks:
                self.tracks[track.source].append(track)
        self.streams = {
            name: store.create_stream(name, recipe) for name, recipe in known.recipes.items()
        }
        self.receipt = Receipt(
            dataset=dataset.name, part=f"{part[0]}/{part[1]}", release=dataset.release
        )
        self.receipt.streams = {name: stream.digest for name, stream in self.streams.items()}
        self.receipt.items = {name: {} for name in self.streams}
        self.records: dict[tuple[str, str], ItemRecord] = {}
        self.failures: dict[tuple[str, str], MediaError] = {}
        self.sharing: dict[tuple[str, str], list[Track]] = {}
        """Stream and key to the tracks that have this item."""
        self.left: Counter[str] = Counter()
        """Source to the number of its items that are not finished."""
        self.keeping = Keeping(known, self.streams, self.root, self.digests, device)

    def go(self, results: Results, progress: Progress | None) -> Receipt:
        """Have computed what the store lacks.

        Args:
            results: Takes the jobs of one source after another, gives what became of each.
            progress: As for `extract`.
        """
        told = _Told(progress or _quiet, len(self.tracks))
        with self.keeping:
            for jobs, outcome in results(self._sources(told)):
                self._settle(jobs, outcome, told)
        self._fill_receipt()
        told.end()
        return self.receipt

    def _sources(self, told: _Told) -> Iterator[list[Job]]:
        """Look at one source after another, and give the jobs that are to be computed of it."""
        for source, tracks in self.tracks.items():
            todo = self._todo(list(self._jobs(tracks)))
            for job in [job for job in todo if job.stream == LABELS]:
                self.records[job.stream, job.key] = self.keeping.keep(job, label_item(job))
                told.rows(job.rows)
            media = [job for job in todo if job.stream != LABELS]
            if media:
                self.left[source] = len(media)
                yield media
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
                self.records[job.stream, job.key] = item_record(job, known.valid, known.flags)
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
                if name == LABELS and track.labels is None:
                    continue  # A test track: its rows are known, its labels are nobody's.
                try:
                    inputs = self._inputs(name, track, len(labels.values))
                except (MediaError, OSError) as error:
                    self._quarantine([track], name, error, self.known.reads[name])
                    continue
                recipe = self.streams[name].digest
                # Face crops are numbered by row, whatever the clock.
                at = None if self.known.reads[name] == "faces" else labels.times
                identity = Identity(
                    recipe=recipe, rows=len(labels.values), row_map=row_map(at), inputs=inputs
                )
                yield Job(name, track, identity, labels)

    def _inputs(self, stream: str, track: Track, rows: int) -> dict[str, str]:
        return input_digests(self.known.reads[stream], track, rows, self.root, self.digests)

    def _settle(self, jobs: Sequence[Job], outcome: ItemRecord | MediaError, told: _Told) -> None:
        """Take note of what became of some jobs of one source."""
        for job in jobs:
            if isinstance(outcome, ItemRecord):
                self.records[job.stream, job.key] = outcome
                told.rows(job.rows)
            else:
                self.failures[job.stream, job.key] = outcome
        source = jobs[0].track.source
        self.left[source] -= len(jobs)
        if not self.left[source]:
            told.source(source)

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
            failure = self.failures.get((stream, key))
            if failure:
                for _, own in groupby(tracks, key=lambda track: track.source):
                    self._quarantine(list(own), stream, failure, self.known.reads[stream])


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
