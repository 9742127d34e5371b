"""A stream as one dask array: computed chunk by chunk, whatever its size."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .digests import digest

if TYPE_CHECKING:
    import dask.array
    from numpy.typing import NDArray

    from .item import Item
    from .stream import Stream

CHUNK_BYTES = 64 << 20
"""Most bytes of a chunk: what a task holds, and large enough that tasks are few."""


def stream_to_dask(stream: Stream, keys: Sequence[str]) -> dask.array.Array:
    """Give items end to end as one dask array, (rows, dim), in the order of their keys.

    A chunk holds as many whole items as 64 MiB take; an item that is larger is cut. Slices are
    read alone: `array[100:200, :8]` reads 100 rows. A task carries names only, so it also runs in
    another process or on another machine that sees the store under the same path.

    Raises:
        NotInStoreError: An item is not stored.
        StoreError: An item's shard is damaged; while computing, damaged rows.
    """
    import dask.array as da

    rows = EndToEnd(stream, tuple(keys))
    if not keys:
        return da.zeros((0, stream.dim), dtype=stream.dtype)
    counts = tuple(stop - first for first, stop in rows.stretches(CHUNK_BYTES))
    return da.from_array(
        rows,
        chunks=(counts, (stream.dim,)),  # pyright: ignore[reportArgumentType] - any of its forms
        name=f"concord-{rows.token}",
        meta=np.empty((0, 0), stream.dtype),
    )


@dataclass(frozen=True, eq=False)
class EndToEnd:
    """Items of a stream end to end, (rows, dim), as an array that reads what it is asked for.

    In this process it reads the stream it was made of; pickled, it is names alone.
    """

    stream: Stream
    keys: tuple[str, ...]

    @functools.cached_property
    def items(self) -> tuple[Item, ...]:
        """The items, in the order of their keys."""
        return tuple([self.stream.item(key) for key in self.keys])

    @functools.cached_property
    def starts(self) -> NDArray[np.int64]:
        """(items + 1,) first row of each item, and last the number of all rows."""
        counts = [item.entry.rows for item in self.items]
        return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)

    @functools.cached_property
    def token(self) -> str:
        """Name of these rows: other items, other values or another store give another."""
        names = [str(self.stream.store.place), self.stream.full_name]
        return digest([*names, *([item.key, item.entry.crc32c] for item in self.items)])[:32]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, dim)."""
        return (int(self.starts[-1]), self.stream.dim)

    @property
    def ndim(self) -> int:
        """Two: rows and dimensions."""
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.stream.dtype

    def stretches(self, most: int) -> Iterator[tuple[int, int]]:
        """Cut the rows into stretches of at most `most` bytes, between items where possible.

        Yields:
            First row, and row before which to stop; at least one row.
        """
        limit = max(1, most // (self.stream.dim * self.dtype.itemsize))
        begun = 0
        for first, stop in itertools.pairwise(self.starts.tolist()):
            if stop - begun > limit and first > begun:
                yield begun, first
                begun = first
            while stop - begun > limit:
                yield begun, begun + limit
                begun += limit
        if begun < self.shape[0]:
            yield begun, self.shape[0]

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Give rows `first` to before `stop`: a read-only view where one item can give it.

        Raises:
            StoreError: The rows are damaged; names file, track and rows.
        """
        pieces = list(self._pieces(first, stop))
        if len(pieces) == 1:
            item, low, high = pieces[0]
            return item.rows[low:high]
        out = np.empty((stop - first, self.stream.dim), self.dtype)
        at = 0
        for item, low, high in pieces:
            item.rows.read_into(low, out[at : at + high - low])
            at += high - low
        return out

    def read_beside(self, name: str, first: int, stop: int) -> NDArray[Any]:
        """Give what lies beside the rows, (stop - first,): `valid`, `flags` or `times`.

        Raises:
            StoreError: It is damaged; names file, track and rows.
        """
        pieces = self._pieces(first, stop)
        return np.concatenate(
            [item.shard.read(name, item.entry, low, high) for item, low, high in pieces]
        )

    def track(self, row: int) -> str:
        """Name the track that a row belongs to."""
        return self.items[self._number(row)].entry.track

    def _number(self, row: int) -> int:
        return int(np.searchsorted(self.starts, row, "right")) - 1

    def _pieces(self, first: int, stop: int) -> Iterator[tuple[Item, int, int]]:
        """Items that hold these rows, with the rows counted in the item."""
        number = self._number(first)
        while first < stop:
            start, end = self.starts[number : number + 2].tolist()
            high = min(stop, end)
            yield self.items[number], first - start, high - start
            first, number = high, number + 1

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Give rows by a number, slice or list, then columns likewise: what dask asks for."""
        chosen, *columns = key
        first, stop, within = _stretch(chosen, self.shape[0])
        return self.read(first, stop)[within][(..., *columns)]

    def __reduce__(self) -> tuple[Any, ...]:
        where = (str(self.stream.store.place), self.stream.full_name, self.stream.store.mapped)
        shards = frozenset(item.shard.name for item in self.items)
        return _elsewhere, (*where, shards, self.keys)

    def __dask_tokenize__(self) -> str:
        return self.token


def _stretch(chosen: Any, rows: int) -> tuple[int, int, Any]:
    """Give the stretch, (first, stop), that holds some rows of an array, and their place in it."""
    if isinstance(chosen, slice):
        numbers = range(*chosen.indices(rows))
        if not numbers:
            return 0, 0, slice(None)
        return *_ends(numbers[0], numbers[-1]), slice(None, None, numbers.step)
    numbers = np.asarray(chosen, np.intp)
    if not numbers.size:
        return 0, 0, numbers
    first, stop = _ends(numbers.min(), numbers.max())
    return first, stop, numbers - first


def _ends(one: Any, other: Any) -> tuple[int, int]:
    return int(min(one, other)), int(max(one, other)) + 1


def _elsewhere(
    store: str, stream: str, mapped: bool, shards: frozenset[str], keys: tuple[str, ...]
) -> EndToEnd:
    """Find the same items in another process, which opens a stream once for all its tasks."""
    opened = _open(store, stream, mapped)
    if not shards <= {shard.name for shard in opened.shards}:
        # Written or merged since this process opened the stream for an earlier task.
        _open.cache_clear()
        opened = _open(store, stream, mapped)
    return EndToEnd(opened, keys)


@functools.lru_cache(maxsize=32)
def _open(store: str, stream: str, mapped: bool) -> Stream:
    from .store import FeatureStore

    return FeatureStore(store, mapped=mapped)[stream]
