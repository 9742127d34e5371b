"""Rows of many items as one array, end to end, of which any rows can be copied at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import StoreError
from .gather import OUTSIDE
from .layout import DamagedRowsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .item import Item
    from .stream import Stream


class JoinedRows:
    """Items of one stream end to end: N rows.

    `joined.take(numbers)` costs about as much as NumPy's fancy indexing of an array in memory: rows
    are copied shard by shard, whatever items and windows they belong to.
    """

    def __init__(self, stream: Stream, items: Sequence[Item | None], rows: Sequence[int]) -> None:
        """Join items.

        Args:
            stream: Theirs.
            items: In their order; None gives rows of zeros.
            rows: Rows of each.

        Raises:
            StoreError: An item has another number of rows.
        """
        self.stream = stream
        self.items = list(items)
        self.dim, self.dtype = stream.dim, stream.dtype
        for item, count in zip(items, rows, strict=True):
            if item is not None and item.entry.rows != count:
                raise StoreError(
                    f"{stream.full_name[:60]}: track {item.entry.track!r} has {item.entry.rows} "
                    f"rows, expected {count}; index the data set again"
                )
        ends = np.cumsum(np.asarray(rows, np.int64))
        self._firsts = ends - rows
        self._rows = int(ends[-1]) if len(ends) else 0
        self._shards = list({id(i.shard): i.shard for i in items if i is not None}.values())
        places = {id(shard): at for at, shard in enumerate(self._shards)}
        self._shard = np.array([-1 if i is None else places[id(i.shard)] for i in items], np.int64)
        inside = np.array([0 if i is None else i.entry.first for i in items], np.int64)
        self._shift = inside - self._firsts

    def __len__(self) -> int:
        return self._rows

    @property
    def spans(self) -> list[slice]:
        """Where each item's rows are."""
        stops = [*self._firsts[1:].tolist(), self._rows]
        return [slice(a, b) for a, b in zip(self._firsts.tolist(), stops, strict=True)]

    def take(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Copy rows.

        Args:
            numbers: Of any shape, 0 to N - 1; -1 stands for a row outside, which is zeros.

        Returns:
            (…, dim) of the stream's type.

        Raises:
            IndexError: A number beyond the rows.
            StoreError: Rows are damaged.
        """
        flat = np.ascontiguousarray(numbers).reshape(-1)
        if flat.size and (flat.min() < OUTSIDE or flat.max() >= self._rows):
            message = f"rows {flat.min()} to {flat.max()} of {self._rows}"
            raise IndexError(message)
        out = np.zeros((len(flat), self.dim), self.dtype)
        item = np.searchsorted(self._firsts, flat, "right") - 1
        # Small numbers are sorted several times as fast.
        shard = np.where(flat == OUTSIDE, -1, self._shard[item]).astype(np.int16)
        order = np.argsort(shard, kind="stable")
        bounds = np.searchsorted(shard[order], np.arange(len(self._shards) + 1))
        whole = np.dtype((np.void, out.shape[1] * out.itemsize))
        elements = out.view(whole)[:, 0]
        for at in np.flatnonzero(np.diff(bounds)):
            chosen = order[bounds[at] : bounds[at + 1]]
            found = self._copied(int(at), flat[chosen], item[chosen])
            elements[chosen] = found.view(whole)[:, 0]
        return out.reshape(*numbers.shape, self.dim)

    def _copied(self, at: int, numbers: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[Any]:
        shard, rows = self._shards[at], numbers + self._shift[item]
        found = np.empty((len(rows), self.dim), self.dtype)
        try:
            shard.arrays["x"].take(rows, found)
        except DamagedRowsError as error:
            hit = (rows >= error.first) & (rows < error.stop)
            owner = self.items[int(item[hit.argmax()])]
            assert owner is not None
            raise shard.damaged("x", owner.entry, error) from error
        return found
