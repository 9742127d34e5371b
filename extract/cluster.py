"""Extraction over a Dask cluster: the sources of a part are spread over its workers.

The client decides what is to be done, exactly as a run on one machine does, and the workers compute
and publish. What they publish and what the receipt says is the same. No state lies in the cluster:
a source is done when its items are in the store, so whatever dies, the rest is computed again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import FeatureStore, MediaError
from .bundles import MOST_DEATHS, Bundle, Bundles
from .cluster_worker import Order
from .crew import LOOK_SECONDS, Crew
from .engine import Run
from .keeping import item_record
from .settings import TENSOR_FILES

if TYPE_CHECKING:
    from distributed import Client

    from .bundles import Source
    from .cluster_worker import SetUp, Worked
    from .compute import Job, Known
    from .dataset import Dataset
    from .engine import Progress
    from .keeping import Result
    from .receipt import Receipt
    from .settings import StreamSettings


class WorkerKilledError(MediaError):
    """Workers die of a source."""


def extract_on(
    client: Client,
    dataset: Dataset,
    streams: dict[str, StreamSettings | None],
    store: FeatureStore,
    *,
    set_up: SetUp,
    device: str = "auto",
    part: tuple[int, int] = (1, 1),
    decoders: int = 0,
    answer_seconds: float = 60.0,
    progress: Progress | None = None,
) -> Receipt:
    """Compute what the store lacks of some streams for one part of a data set, on a cluster.

    All workers see data set, weights and store under the same paths, and have the same packages.

    Args:
        client: Connected to the cluster, see `connected`.
        dataset: The tracks.
        streams: Stream name to settings; None for `labels/va`.
        store: Where rows go.
        set_up: Run on each worker with its number of threads: prepares the process and gives the
            device. It travels by its name, so it has to be importable there.
        device: Which workers serve: cpu: all; cuda or cuda:N: those that offer the resource `GPU`,
            of which each task takes one; auto: those that do, or all where none does.
        part: (i, n), i from 1.
        decoders: Files decoded at the same time on each worker; 0: one less than its threads.
        answer_seconds: Longest wait for a decoder's answer before its source is given up.
        progress: As for `extract`.

    Returns:
        The receipt, of the same content as that of `extract`.

    Raises:
        ClusterError: The cluster has no workers, or lost its scheduler.
    """
    root = Path(dataset.root).absolute()
    order = Order(
        run=uuid.uuid4().hex,
        root=root,
        store=store.path.absolute(),
        streams={name: _located(settings) for name, settings in streams.items()},
        set_up=set_up,
        decoders=decoders,
        answer_seconds=answer_seconds,
    )
    with Crew(client, order, device) as crew:
        known = crew.known()
        run = Run(replace(dataset, root=str(root)), known, store, part, "cpu")
        return run.go(lambda sources: _results(crew, sources, store, known), progress)


def _located(settings: StreamSettings | None) -> StreamSettings | None:
    """Give weights that are a file by their whole path: a worker has a folder of its own."""
    if settings is None:
        return None
    kind, inflated, name = settings.weights.rpartition("inflate:")
    if Path(name).suffix not in TENSOR_FILES and not Path(name).exists():
        return settings
    return replace(settings, weights=f"{kind}{inflated}{Path(name).absolute()}")


def _results(
    crew: Crew, sources: Iterator[Source], store: FeatureStore, known: Known
) -> Iterator[Result]:
    """Spread sources over the crew; gives what became of them."""
    bundles = Bundles(sources)
    while crew.busy or not bundles.empty:
        for member in crew.idle:
            bundle = bundles.next(len(crew))
            if bundle is None:
                break
            crew.give(member, bundle)
        finished, lost = crew.poll(0 if bundles.look(len(crew)) else LOOK_SECONDS)
        for bundle, worked in finished:
            bundles.worked(bundle, worked.seconds)
            yield from _finished(bundle, worked)
        for bundle in lost:
            left: list[Job] = []
            yield from _published(bundle, store, known, left)
            for jobs in bundles.lost(bundle, _by_source(left)):
                yield jobs, _killed(jobs[0].track.source)


def _finished(bundle: Bundle, worked: Worked) -> Iterator[Result]:
    jobs = {(job.stream, job.key): job for job in bundle.jobs}
    for keys, outcome in worked.results:
        yield [jobs[key] for key in keys], outcome


def _published(
    bundle: Bundle, store: FeatureStore, known: Known, left: list[Job]
) -> Iterator[Result]:
    """Give what a worker published before it died; `left` gets the other jobs."""
    streams = {
        name: store.create_stream(name, known.recipes[name])
        for name in {job.stream for job in bundle.jobs}
    }
    for job in bundle.jobs:
        item = streams[job.stream].items.get(job.key)
        if item is None:
            left.append(job)
        else:
            yield [job], item_record(job, item.valid, item.flags)


def _by_source(jobs: list[Job]) -> list[Source]:
    return [list(own) for _, own in groupby(jobs, key=lambda job: job.track.source)]


def _killed(source: str) -> WorkerKilledError:
    return WorkerKilledError(
        f"{source}: {MOST_DEATHS} workers died while they computed this source alone; "
        "look for a file or a backbone that takes all memory or crashes"
    )
