"""Feeds: each file decoded once for all items that are made of it, several files at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from ..cache import MediaError, NewItem
from .affwild2_folders import is_sound
from .compute import Building, Job, Workers, give
from .decoder import (
    Decoder,
    DecoderCrashedError,
    DecoderLostError,
    Ended,
    FrameTimes,
    Request,
)

if TYPE_CHECKING:
    from .decoder import Answer

Outcome = tuple[Sequence[Job], NewItem | MediaError]
"""A finished item with its job, or why some jobs could not be done."""
READERS: tuple[Literal["pyav", "decord"], ...] = ("pyav", "decord")
MOST_DECODERS = 16
TRIES = 2
"""A child that died may have been killed from outside: its file gets a second try."""


@dataclass(eq=False)
class Feed:
    """One file, and the items that are made of it."""

    request: Request
    jobs: Sequence[Job]
    tries: int = 0
    given: int = 0
    """Answers with pictures or sound."""


def feeds_of(jobs: Sequence[Job], workers: Workers, root: Path) -> Iterator[Feed]:
    """Gather the jobs of one source into feeds, each file once.

    Args:
        jobs: Jobs of one source, none of labels.
        workers: The backbones.
        root: The data set's root.
    """
    video = [job for job in jobs if workers.reads(job.stream) in ("video", "boxes")]
    for reader in READERS:
        group = [job for job in video if workers.visual[job.stream].reader == reader]
        if group:
            yield Feed(_video(group, reader, root), group)
    sound = [job for job in jobs if workers.reads(job.stream) == "sound"]
    asked = [(workers.audio[job.stream].preset.rate, _spread(job)) for job in sound]
    for rate, frames in sorted(set(asked)):
        group = [job for job, own in zip(sound, asked, strict=True) if own == (rate, frames)]
        path = root / str(group[0].track.media)
        yield Feed(Request(kind="sound", path=path, rate=rate, frames=frames), group)
    text = [job for job in jobs if workers.reads(job.stream) == "transcript"]
    for frames in sorted({_spread(job) for job in text}):
        group = [job for job in text if _spread(job) == frames]
        path = root / str(group[0].track.media)
        yield Feed(Request(kind="times", path=path, frames=frames), group)
    faces = [job for job in jobs if workers.reads(job.stream) == "faces"]
    for folder, rows in sorted({(str(job.track.faces), job.rows) for job in faces}):
        group = [job for job in faces if (job.track.faces, job.rows) == (folder, rows)]
        yield Feed(Request(kind="faces", path=root / folder, frames=rows), group)


def _spread(job: Job) -> int:
    """Give the rows that sound alone is shared out to; 0 where frames say when rows are."""
    alone = job.labels.times is not None or is_sound(str(job.track.media))
    return job.rows if alone else 0


def _video(jobs: Sequence[Job], reader: Literal["pyav", "decord"], root: Path) -> Request:
    path = root / str(jobs[0].track.media)
    # Which frames rows on a clock of their own take is known when the file is open.
    frames = max(job.rows if job.labels.times is None else sys.maxsize for job in jobs)
    return Request(kind="video", path=path, reader=reader, frames=frames)


class Pool:
    """Decoders at work on feeds, and the items that come of them."""

    def __init__(
        self, workers: Workers, root: Path, decoders: int = 0, answer_seconds: float = 60.0
    ) -> None:
        """Prepare.

        Args:
            workers: The backbones.
            root: The data set's root.
            decoders: Files decoded at the same time; 0: one less than there are processors, at
                least 1 and at most 16.
            answer_seconds: Longest wait for a decoder's answer.
        """
        count = decoders or max(1, min(MOST_DECODERS, len(os.sched_getaffinity(0)) - 1))
        self._workers = workers
        self._root = root
        self._idle = [Decoder(answer_seconds) for _ in range(count)]
        self._busy: dict[Decoder, Feed] = {}
        self._building: dict[Feed, dict[Building, Job]] = {}
        self._ending: dict[Building, Job] = {}

    def compute(self, sources: Iterable[Sequence[Job]]) -> Iterator[Outcome]:
        """Decode sources, each given by its jobs, and compute their items."""
        return self.outcomes(
            feed for jobs in sources for feed in feeds_of(jobs, self._workers, self._root)
        )

    def outcomes(self, feeds: Iterator[Feed]) -> Iterator[Outcome]:
        """Decode feeds and compute their items; gives each as soon as it is finished.

        The decoders wait for more afterwards, unless it is broken off.
        """
        with ExitStack() as stack:
            stack.callback(self.close)
            again: list[Feed] = []
            while True:
                while self._idle and (feed := again.pop() if again else next(feeds, None)):
                    yield from self._start(feed)
                if not self._busy:
                    break
                for decoder in self._ready():
                    yield from self._receive(decoder, again)
                yield from self._finished()
            self._workers.flush()
            yield from self._finished()
            stack.pop_all()

    def close(self) -> None:
        """End the decoders."""
        for decoder in (*self._idle, *self._busy):
            decoder.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, feed: Feed) -> Iterator[Outcome]:
        """Begin a feed; jobs that cannot even begin are given up."""
        building: dict[Building, Job] = {}
        for job in feed.jobs:
            try:
                building[self._workers.build(job, self._root)] = job
            except MediaError as error:
                yield [job], error
        if not building:
            return
        decoder = self._idle.pop()
        feed.tries, feed.given = feed.tries + 1, 0
        self._building[feed] = building
        self._busy[decoder] = feed
        decoder.start(feed.request)

    def _ready(self) -> list[Decoder]:
        """Wait for decoders that have an answer, or have been silent for too long."""
        seconds = max(0.0, min(decoder.seconds_left for decoder in self._busy))
        pipes = {decoder.pipe: decoder for decoder in self._busy}
        ready = [pipes[pipe] for pipe in wait(list(pipes), seconds)]  # pyright: ignore[reportArgumentType]
        return ready or [decoder for decoder in self._busy if decoder.seconds_left <= 0]

    def _receive(self, decoder: Decoder, again: list[Feed]) -> Iterator[Outcome]:
        feed = self._busy[decoder]
        try:
            answer = decoder.receive()
        except DecoderLostError as error:
            yield from self._lost(decoder, error, again)
            return
        if isinstance(answer, Ended):
            self._free(decoder)
            yield from self._end(feed, answer)
        else:
            yield from self._give(feed, answer)

    def _give(self, feed: Feed, answer: Answer) -> Iterator[Outcome]:
        feed.given += not isinstance(answer, FrameTimes)
        building = self._building[feed]
        for each in list(building):
            try:
                give(each, answer, building[each].labels.times)
            except MediaError as error:
                self._workers.forget([each])
                yield [building.pop(each)], error

    def _free(self, decoder: Decoder) -> None:
        del self._busy[decoder]
        self._idle.append(decoder)

    def _lost(
        self, decoder: Decoder, error: DecoderLostError, again: list[Feed]
    ) -> Iterator[Outcome]:
        feed = self._busy[decoder]
        self._free(decoder)
        self._workers.forget(self._building.pop(feed))
        if isinstance(error, DecoderCrashedError) and feed.tries < TRIES:
            again.append(feed)
        else:
            # What came may have been cut short from outside: the next run may get more.
            yield feed.jobs, error

    def _end(self, feed: Feed, ended: Ended) -> Iterator[Outcome]:
        """Close a feed's items: what was decoded before any damage is kept."""
        for building, job in self._building.pop(feed).items():
            if building.empty or (ended.problem and not feed.given):
                name = feed.request.path.name
                yield [job], MediaError(ended.problem or f"{name}: holds nothing to see")
            else:
                building.end()
                self._ending[building] = job

    def _finished(self) -> Iterator[Outcome]:
        for building in [building for building in self._ending if building.done]:
            yield [self._ending.pop(building)], building.item()
