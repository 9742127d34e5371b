"""What a worker of a Dask cluster does: backbones loaded once, then bundles of sources.

A session lives in the worker's memory as the result of a Dask task, so Dask itself ends it: when
the client lets go of it, or is gone. With it go decoders, backbones and the lock of the GPU.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin, get_worker

from ..cache import FeatureStore
from .compute import Job, Known, Workers
from .feeds import MOST_DECODERS, Pool
from .keeping import Keeping

if TYPE_CHECKING:
    from ..cache import MediaError
    from .receipt import ItemRecord
    from .settings import StreamSettings

SetUp = Callable[[int], AbstractContextManager[str]]
"""Prepares a process to compute with so many threads, and holds a device: `cpu` or `cuda:N`."""

_stopped: set[str] = set()
"""Runs that are to end early."""


class SessionLostError(RuntimeError):
    """The worker is not the one that the client opened a session on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run asks of each worker."""

    run: str
    """Name of the run, its own."""
    root: Path
    """The data set's root; as all paths, the same on every machine."""
    store: Path
    streams: dict[str, StreamSettings | None]
    set_up: SetUp
    decoders: int
    """Files decoded at once; 0: one less than the worker has threads."""
    answer_seconds: float


@dataclass(frozen=True, slots=True)
class Worked:
    """What became of a bundle."""

    results: list[tuple[list[tuple[str, str]], ItemRecord | MediaError]]
    """Stream and key of some jobs of one source, and their outcome; items are published."""
    seconds: float


class Session:
    """A worker's share in a run.

    Dask may move it or write it to disk; a copy loads its backbones again when it is used.
    """

    def __init__(self, order: Order, token: str) -> None:
        self.order = order
        self.token = token
        """Tells it from one that another process opened under the same address."""

    @cached_property
    def opened(self) -> _Opened:
        """The backbones, decoders and streams.

        Raises:
            ConfigError: Device, backbone or weights are not to be had.
        """
        opened = _Opened(self.order)
        weakref.finalize(self, opened.stack.close)
        return opened

    def __reduce__(self) -> tuple[type[Session], tuple[Order, str]]:
        return Session, (self.order, self.token)


class _Opened:
    """What a session holds."""

    def __init__(self, order: Order) -> None:
        # Dask's nanny makes its workers daemons, which may not have children; decoders are some.
        multiprocessing.current_process().daemon = False
        threads: int = get_worker().state.nthreads
        with ExitStack() as stack:
            self.device = stack.enter_context(order.set_up(threads))
            if self.device != "cpu":
                stack.callback(_empty_cuda_cache)
            self.workers = Workers(order.streams, self.device)
            self.known = self.workers.known(order.streams)
            store = FeatureStore(order.store)
            self.digests = store.digests
            self.streams = {
                name: store.create_stream(name, recipe)
                for name, recipe in self.known.recipes.items()
            }
            decoders = order.decoders or max(1, min(MOST_DECODERS, threads - 1))
            pool = Pool(self.workers, order.root, decoders, order.answer_seconds)
            self.pool = stack.enter_context(pool)
            self.stack = stack.pop_all()


def _empty_cuda_cache() -> None:
    torch: Any = sys.modules["torch"]
    torch.cuda.empty_cache()


def open_session(order: Order) -> Session:
    """Load the backbones of a run."""
    session = Session(order, uuid.uuid4().hex)
    assert session.opened
    return session


def introduce(session: Session) -> tuple[str, Known]:
    """Give a session's token, and what is to be known of its streams."""
    return session.token, session.opened.known


def work(session: Session, token: str, sources: Sequence[Sequence[Job]]) -> Worked:
    """Compute the jobs of some sources, and publish their items.

    Raises:
        SessionLostError: The session is not the one of this token.
    """
    if session.token != token:
        raise SessionLostError(f"expected session {token}, found {session.token}")
    begun = time.monotonic()
    order, opened = session.order, session.opened
    results: list[tuple[list[tuple[str, str]], ItemRecord | MediaError]] = []
    keeping = Keeping(opened.known, opened.streams, order.root, opened.digests, opened.device)
    with keeping:
        for jobs, outcome in keeping.kept(opened.pool.compute(_until_stopped(sources, order.run))):
            results.append(([(job.stream, job.key) for job in jobs], outcome))
            if order.run in _stopped:
                break
    return Worked(results, time.monotonic() - begun)


def _until_stopped(sources: Sequence[Sequence[Job]], run: str) -> Iterator[Sequence[Job]]:
    for jobs in sources:
        if run in _stopped:
            return
        yield jobs


def stop(run: str) -> None:
    """Have a run end on this worker with what is finished; called beside its tasks."""
    _stopped.add(run)


class LocalWorker(WorkerPlugin):
    """Lets a worker on the command's own terminal live through Ctrl-C: the command ends it."""

    name = "concord-local"

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - Dask's
        """Run in the worker's main thread, before its first task."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
