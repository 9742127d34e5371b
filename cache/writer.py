"""Writing a stream: whole items, published in shards at least every 30 s or 16 items."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .new_shard import NewItem, write_shard

if TYPE_CHECKING:
    from collections.abc import Callable

    from .store import FeatureStore, Stream

PUBLISH_SECONDS = 30.0
PUBLISH_ITEMS = 16
PUBLISH_BYTES = 96 << 20


class StreamWriter:
    """Collects finished items and publishes them; what is finished when it closes is published.

    An item is added when it is done, so the unpublished work is what was finished within 30 s of
    the last publishing: a kill costs no more than that and the item in progress. Leaving the block
    publishes the rest, also when it is left by an exception or Ctrl-C.
    """

    def __init__(
        self,
        store: FeatureStore,
        stream: Stream,
        provenance: dict[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to write.

        Args:
            store: The store.
            stream: The stream, opened by `store.create_stream`.
            provenance: Library versions, device and the like; the recipe is added here.
            clock: Seconds; given by tests.
        """
        self._folder = store.shard_folder(stream)
        self._format = store.format
        self._provenance = {**provenance, "recipe": stream.recipe, "stream": stream.name}
        self._clock = clock
        self._waiting: list[NewItem] = []
        self._published_at = clock()

    def add(self, item: NewItem) -> None:
        """Take a finished item, and publish if enough has gathered or enough time has passed."""
        self._waiting.append(item)
        size = sum(waiting.rows.nbytes for waiting in self._waiting)
        if len(self._waiting) >= PUBLISH_ITEMS or size >= PUBLISH_BYTES:
            self.publish()
        self.publish_if_late()

    def publish_if_late(self) -> None:
        """Publish if the last time was 30 s ago; for who waits long between two items."""
        if self._clock() - self._published_at >= PUBLISH_SECONDS:
            self.publish()

    def publish(self) -> None:
        """Publish what has gathered as one shard."""
        if self._waiting:
            write_shard(self._folder, self._waiting, self._provenance, self._format)
        self._waiting = []
        self._published_at = self._clock()

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.publish()
