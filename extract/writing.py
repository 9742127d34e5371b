"""Writing while others compute: finished items are published by a thread of their own."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from ..cache import NewItem, StreamWriter

MOST_WAITING = 8
"""Items that may wait for the disk before computing waits too."""
LOOK_SECONDS = 1.0


class Writing:
    """The writers of some streams, at work in one thread.

    What is finished is published within the writer's rhythm even while nothing new is finished.
    Leaving the block publishes all that was added, also when it is left by an exception or Ctrl-C.
    """

    def __init__(self, writers: Mapping[str, StreamWriter]) -> None:
        self._writers = writers
        self._queue: Queue[tuple[str, NewItem]] = Queue(MOST_WAITING)
        self._failure: Exception | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._work, name="publish", daemon=True)

    def add(self, stream: str, item: NewItem) -> None:
        """Hand over a finished item.

        Raises:
            StoreError: One that was handed over before could not be written.
        """
        while True:
            if self._failure is not None:
                raise self._failure
            try:
                self._queue.put((stream, item), timeout=LOOK_SECONDS)
            except Full:
                continue
            return

    def _work(self) -> None:
        try:
            while not (self._leaving.is_set() and self._queue.empty()):
                try:
                    stream, item = self._queue.get(timeout=LOOK_SECONDS)
                except Empty:
                    for writer in self._writers.values():
                        writer.publish_if_late()
                    continue
                self._writers[stream].add(item)
        except Exception as failure:  # noqa: BLE001 - raised again where the caller can see it
            self._failure = failure

    def __enter__(self) -> Writing:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.set()
        self._thread.join()
        with ExitStack() as stack:
            for writer in self._writers.values():
                stack.callback(writer.publish)
        if self._failure is not None and kind is None:
            raise self._failure
