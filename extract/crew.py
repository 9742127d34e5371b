"""The crew: the workers of a Dask cluster that take part in a run, and what each has at hand.

Each bundle is bound to one worker, one at a time. Left to itself, Dask would give what a worker
was killed by to the next worker, and hold it against whatever else it had; bound to a worker that
is gone, a task waits until we take it back and decide ourselves.
"""

from __future__ import annotations

import time
import uuid
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed import Future, KilledWorker, wait

from ..cache import ConfigError
from ..cache.digests import digest
from ..cache.errors import ClusterError
from .cluster_worker import (
    SessionLostError,
    introduce,
    open_session,
    stop,
    work,
)

if TYPE_CHECKING:
    from distributed import Client

    from .bundles import Bundle
    from .cluster_worker import Order, Worked
    from .compute import Known

LOOK_SECONDS = 1.0
"""From one look at who is there to the next."""
WAIT_SECONDS = 600.0
"""Longest time without any worker."""
ANSWER_SECONDS = 10.0
"""Longest wait for an answer that is ready; its worker may just have died."""
READY = ("finished", "error", "cancelled")
STOP_SECONDS = 30.0
"""Longest wait for workers to publish when a run is broken off."""
MOST_FALSE_STARTS = 6
"""Workers that may die one after another while they load the backbones, none being ready."""


@dataclass(eq=False, slots=True)
class Member:
    """A worker, and what it has at hand."""

    address: str
    session: Future[Any]
    introduced: Future[Any]
    token: str = ""
    """Empty until it has loaded the backbones."""
    bundle: Bundle | None = None
    task: Future[Any] | None = None


class Crew:
    """The workers of a cluster that take part in a run.

    Leaving the block ends their sessions; left by an exception or Ctrl-C, it has them publish what
    is finished before.
    """

    def __init__(self, client: Client, order: Order, device: str) -> None:
        """Prepare.

        Args:
            client: Connected.
            order: What is asked of each worker.
            device: cpu: any worker serves; cuda or cuda:N: those that offer a `GPU`; auto: those
                that do, where the first that are there offer one, else any.
        """
        self._client = client
        self._order = order
        self._gpu: bool | None = None if device == "auto" else device != "cpu"
        self._members: dict[str, Member] = {}
        self._known: Known | None = None
        self._looked = 0.0
        self._manned = time.monotonic()
        self._false_starts = 0

    def __len__(self) -> int:
        """Workers that have loaded the backbones."""
        return sum(bool(member.token) for member in self._members.values())

    @property
    def busy(self) -> bool:
        """Some worker has a bundle."""
        return any(member.bundle for member in self._members.values())

    @property
    def idle(self) -> list[Member]:
        """Workers that are ready for a bundle."""
        return [member for member in self._members.values() if member.token and not member.bundle]

    def known(self) -> Known:
        """Wait until a worker has loaded the backbones; gives what is to be known of the streams.

        Raises:
            ClusterError: No worker in ten minutes, or those that came died.
        """
        while self._known is None:
            self.poll(LOOK_SECONDS)
        return self._known

    def give(self, member: Member, bundle: Bundle) -> None:
        """Have a worker compute a bundle."""
        member.bundle = bundle
        member.task = self._submit(
            member.address, work, member.session, member.token, bundle.sources
        )

    def poll(self, seconds: float) -> tuple[list[tuple[Bundle, Worked]], list[Bundle]]:
        """See what has happened.

        Args:
            seconds: How long to wait for something to happen.

        Returns:
            Bundles that were computed, with what became of them; and those of workers that died.

        Raises:
            ClusterError: The scheduler is gone, no worker came for ten minutes, or workers die
                before they have loaded the backbones.
            Exception: What a worker could not go on with: a full disk, memory, settings.
        """
        self._wait(seconds)
        lost = self._look() if time.monotonic() - self._looked >= LOOK_SECONDS else []
        finished: list[tuple[Bundle, Worked]] = []
        for member in list(self._members.values()):
            if not member.token:
                self._welcome(member)
            elif member.bundle and member.task and member.task.status in READY:
                worked = self._result(member, member.task)
                if worked is None:
                    lost.append(member.bundle)
                    self._dismiss(member)
                else:
                    finished.append((member.bundle, worked))
                    member.bundle = member.task = None
        return finished, lost

    def _wait(self, seconds: float) -> None:
        pending = [m.task if m.token else m.introduced for m in self._members.values()]
        waiting = [future for future in pending if future is not None]
        if not seconds:
            return
        if not waiting:
            time.sleep(seconds)
            return
        # Who was lost tells by its absence.
        with suppress(TimeoutError, CancelledError), self._client.as_current():
            wait(waiting, timeout=seconds, return_when="FIRST_COMPLETED")

    def _look(self) -> list[Bundle]:
        """See who is there: welcome who came, and give what those had who are gone."""
        self._looked = time.monotonic()
        there = self._workers()
        lost: list[Bundle] = []
        for member in list(self._members.values()):
            if member.address in there:
                continue
            if member.bundle:
                lost.append(member.bundle)
            if not member.token:
                self._false_starts += 1
            self._dismiss(member)
        for address in there - set(self._members):
            session = self._submit(address, open_session, self._order)
            introduced = self._submit(address, introduce, session)
            self._members[address] = Member(address, session, introduced)
        self._check()
        return lost

    def _workers(self) -> set[str]:
        """Addresses of the workers that may take part."""
        if self._client.status != "running":
            raise self._gone()
        try:
            # Not `scheduler_info`, whose cache a timer empties of workers even while it is read.
            scheduler: Any = self._client.scheduler
            identity: Any = self._client.sync(scheduler.identity, n_workers=-1)
        except OSError as error:
            raise self._gone() from error
        info: dict[str, Any] = identity["workers"]
        # One that is closing keeps its place until it is gone: it may still finish.
        offering = {address for address, worker in info.items() if worker["resources"].get("GPU")}
        if self._gpu is None and info:
            self._gpu = bool(offering)
        return offering if self._gpu else set(info)

    def _gone(self) -> ClusterError:
        return ClusterError(
            "the Dask scheduler is gone; what was finished is kept, run the same command to go on"
        )

    def _check(self) -> None:
        now = time.monotonic()
        if self._members:
            self._manned = now
        if now - self._manned > WAIT_SECONDS:
            wanted = "that offers a GPU (dask worker --resources GPU=1) " if self._gpu else ""
            raise ClusterError(
                f"no worker {wanted}for {WAIT_SECONDS:g} s; what was finished is kept, start "
                "workers and run the same command to go on"
            )
        if self._false_starts >= MOST_FALSE_STARTS and not len(self):
            raise ClusterError(
                f"{self._false_starts} workers died one after another while they loaded the "
                "backbones; see their logs, often it is memory: fewer workers, or fewer streams"
            )

    def _welcome(self, member: Member) -> None:
        """Take in a worker that has loaded the backbones."""
        if member.introduced.status not in READY:
            return
        answer = self._result(member, member.introduced)
        if answer is None:
            self._dismiss(member)
            return
        known: Known
        member.token, known = answer
        self._false_starts = 0
        self._known = self._known or known
        for name, recipe in self._known.recipes.items():
            if digest(known.recipes[name]) != digest(recipe):
                raise ConfigError(
                    f"worker {member.address} would compute {name} by another recipe than the "
                    "others; use the same versions and weights on all workers: "
                    f"{known.recipes[name]!r}, others {recipe!r}"
                )

    def _result(self, member: Member, future: Future[Any]) -> Any:
        """Give a task's result; None where the worker was lost.

        Raises:
            Exception: The task's own.
        """
        try:
            return future.result(ANSWER_SECONDS)
        except (SessionLostError, KilledWorker, TimeoutError, CancelledError):
            return None
        except Exception as error:
            error.add_note(f"on worker {member.address}")
            raise

    def _submit(self, address: str, task: Any, *arguments: Any) -> Future[Any]:
        return self._client.submit(
            task,
            *arguments,
            key=f"concord-{task.__name__}-{uuid.uuid4().hex}",
            workers=[address],
            allow_other_workers=False,
            pure=False,
            resources={"GPU": 1} if self._gpu else None,
        )

    def _dismiss(self, member: Member) -> None:
        """Let go of a worker; of what it had, nothing shall be run again."""
        del self._members[member.address]
        held = (member.task, member.introduced, member.session)
        self._client.cancel([future for future in held if future is not None], force=True)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(OSError, CancelledError):
            if kind is not None:
                self._stop()
            for member in list(self._members.values()):
                self._dismiss(member)

    def _stop(self) -> None:
        """Have workers publish what is finished."""
        tasks = [member.task for member in self._members.values() if member.task]
        if tasks and self._client.status == "running":
            busy = [member.address for member in self._members.values() if member.task]
            self._client.run(stop, self._order.run, workers=busy, on_error="ignore")
            with self._client.as_current():
                wait(tasks, timeout=STOP_SECONDS)
