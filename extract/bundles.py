"""Bundles: which sources a worker of a cluster takes next, and which of them workers die of.

A bundle is what one worker computes at a time: many sources, so that batches fill across them and
shards do not become tiny, yet about half a minute of work, so that little is lost with a worker.
When a worker dies, each source that it had is under suspicion. Those are computed one by one after
all others, and one of which a worker dies twice more, with nothing else at hand, is given up. So a
source that kills never takes another one along, and a kill from outside costs no source.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compute import Job

    Source = list[Job]
    """The jobs of one source."""

MOST_SOURCES = 16
"""As many as a writer publishes at once."""
SECONDS = 30.0
"""Work in a bundle, by the speed of those before; as long as a writer waits before it publishes."""
MOST_DEATHS = 2
"""Workers that a source may cost while it is computed alone."""


@dataclass(frozen=True, eq=False, slots=True)
class Bundle:
    """Sources for one worker."""

    sources: Sequence[Source]
    alone: bool = False
    """One source under suspicion."""

    @property
    def jobs(self) -> list[Job]:
        """The jobs of all sources."""
        return [job for jobs in self.sources for job in jobs]

    @property
    def rows(self) -> int:
        """Rows to compute, in all streams."""
        return sum(job.rows for job in self.jobs)


class Bundles:
    """Sources that wait for a worker."""

    def __init__(self, sources: Iterator[Source]) -> None:
        """Prepare.

        Args:
            sources: Looked at as they are wanted.
        """
        self._sources = sources
        self._exhausted = False
        self._fresh: deque[Source] = deque()
        self._suspects: deque[Source] = deque()
        self._deaths: Counter[str] = Counter()
        self._speed = 0.0
        """Rows per second of one worker; 0: not known yet."""

    @property
    def empty(self) -> bool:
        """Nothing waits, and nothing more comes."""
        return self._exhausted and not self._fresh and not self._suspects

    def look(self, workers: int) -> bool:
        """Look at one more source, unless enough wait already; says whether it did."""
        if self._exhausted or len(self._fresh) >= 2 * MOST_SOURCES * max(workers, 1):
            return False
        source = next(self._sources, None)
        if source is None:
            self._exhausted = True
        else:
            self._fresh.append(source)
        return True

    def next(self, workers: int) -> Bundle | None:
        """Give what a worker is to compute next; smaller bundles towards the end.

        Args:
            workers: How many share the work.
        """
        if not self._fresh:
            return Bundle([self._suspects.popleft()], alone=True) if self._suspects else None
        most = MOST_SOURCES
        if self._exhausted:
            most = min(most, math.ceil(len(self._fresh) / (2 * workers)))
        chosen = [self._fresh.popleft()]
        rows = Bundle(chosen).rows
        while self._fresh and len(chosen) < most:
            rows += Bundle([self._fresh[0]]).rows
            if rows > self._speed * SECONDS:
                break
            chosen.append(self._fresh.popleft())
        return Bundle(chosen)

    def worked(self, bundle: Bundle, seconds: float) -> None:
        """Take note of how long a worker took."""
        speed = bundle.rows / max(seconds, 1e-3)
        self._speed = (self._speed + speed) / 2 if self._speed else speed

    def lost(self, bundle: Bundle, left: Sequence[Source]) -> list[Source]:
        """Take back what a worker had when it died.

        Args:
            bundle: What it had.
            left: Those of its sources, and of their jobs, that are not in the store.

        Returns:
            The sources that are given up.
        """
        given_up: list[Source] = []
        for source in left:
            name = source[0].track.source
            self._deaths[name] += bundle.alone
            hopeless = self._deaths[name] >= MOST_DEATHS
            (given_up if hopeless else self._suspects).append(source)
        return given_up
