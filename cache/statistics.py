"""Statistics of a stream's rows: computed by dask, piece by piece, whatever its size."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .lazily import EndToEnd
from .moments import Moments
from .new_shard import REPEATED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .stream import Stream

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""

PIECE_BYTES = 16 << 20
"""Rows that one task reads."""
BLOCK_VALUES = 1 << 17
"""Values in float64 at a time: they stay in a core's cache."""
ROUND = 64
"""Tasks given to dask at once; what they return is joined before the next."""


@dataclass(frozen=True, eq=False)
class StreamStatistics:
    """What the values of a stream's valid rows are like.

    Mean, spread and range are over finite values alone; NaN and infinite values are counted.
    """

    stream: str
    """Full name."""
    items: int
    rows: int
    valid_rows: int
    """Rows that have a value: all the rest is over these."""
    repeated_rows: int
    """Rows that repeat the last decodable frame."""
    dimensions: Moments
    """(dim,) per dimension."""

    @functools.cached_property
    def overall(self) -> Moments:
        """Of all dimensions' values together, (1,)."""
        return self.dimensions.overall()

    @property
    def dead(self) -> NDArray[np.bool_]:
        """(dim,) True where every valid row holds exactly zero."""
        return self._same & (self.dimensions.minimum == 0)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """(dim,) True where every valid row holds the same value, other than zero."""
        return self._same & (self.dimensions.minimum != 0)

    @property
    def _same(self) -> NDArray[np.bool_]:
        each = self.dimensions
        return (each.minimum == each.maximum) & (each.count == self.valid_rows)

    def record(self) -> dict[str, Any]:
        """Give the statistics as plain values for JSON: None where there is no finite number."""
        overall = {name: values[0] for name, values in _record(self.overall).items()}
        return {
            "stream": self.stream,
            "items": self.items,
            "rows": self.rows,
            "valid_rows": self.valid_rows,
            "repeated_rows": self.repeated_rows,
            "overall": overall,
            "dead": np.flatnonzero(self.dead).tolist(),
            "constant": np.flatnonzero(self.constant).tolist(),
            "dimensions": _record(self.dimensions),
        }


def statistics(
    stream: Stream, keys: Sequence[str] | None = None, progress: Progress | None = None
) -> StreamStatistics:
    """Compute the statistics of a stream in one pass, in bounded memory.

    Runs where dask does: on threads, or on the cluster of the current client. The result does not
    depend on which.

    Args:
        stream: The stream.
        keys: Item keys; by default all that are stored.
        progress: Called with (rows done, all rows, the next item's track).

    Raises:
        NotInStoreError: An item is not stored, or the stream holds none at all.
        StoreError: Rows are damaged; names file, track and rows.
    """
    from dask.base import compute
    from dask.delayed import delayed

    rows = EndToEnd(stream, tuple(stream.items if keys is None else keys))
    total = _Part(0, 0, Moments.none(stream.dim))
    source = delayed(rows, name=f"rows-{rows.token}", traverse=False)
    part = delayed(_part, pure=True)
    stretches = rows.stretches(PIECE_BYTES)
    while batch := list(itertools.islice(stretches, ROUND)):
        if progress:
            progress(batch[0][0], rows.shape[0], rows.track(batch[0][0]))
        tasks = [part(source, first, stop) for first, stop in batch]
        total = _joined([total, *compute(*tasks)])
    if progress:
        progress(rows.shape[0], rows.shape[0], "done")
    return StreamStatistics(
        stream=stream.full_name,
        items=len(rows.keys),
        rows=rows.shape[0],
        valid_rows=total.valid,
        repeated_rows=total.repeated,
        dimensions=total.moments,
    )


@dataclass(frozen=True, eq=False)
class _Part:
    valid: int
    repeated: int
    moments: Moments


def _part(rows: EndToEnd, first: int, stop: int) -> _Part:
    """Take the statistics of a stretch of rows: what one task does."""
    values = rows.read(first, stop)
    valid = rows.read_beside("valid", first, stop)
    repeated = rows.read_beside("flags", first, stop) & REPEATED != 0
    step = max(1, BLOCK_VALUES // values.shape[1])
    parts = [
        Moments.of(_doubles(values[at : at + step][valid[at : at + step]]))
        for at in range(0, len(values), step)
    ]
    moments = functools.reduce(Moments.joined, parts)
    return _Part(int(valid.sum()), int(repeated.sum()), moments)


def _doubles(values: NDArray[Any]) -> NDArray[np.float64]:
    """Convert to float64, into new memory."""
    if values.dtype.itemsize == 2:
        return np.take(_halves(), values.view("<u2"), mode="clip")
    return _wide(values)


@functools.cache
def _halves() -> NDArray[np.float64]:
    """Every float16 as float64; NumPy's own conversion is ten times slower where zeros abound."""
    return _wide(np.arange(1 << 16, dtype="<u2").view("<f2"))


def _wide(values: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # A signalling NaN.
        return values.astype(np.float64)


def _joined(parts: Iterable[_Part]) -> _Part:
    return functools.reduce(
        lambda a, b: _Part(a.valid + b.valid, a.repeated + b.repeated, a.moments.joined(b.moments)),
        parts,
    )


def _record(moments: Moments) -> dict[str, list[Any]]:
    found = moments.count > 0
    floats = {
        "mean": moments.mean,
        "std": moments.std,
        "min": moments.minimum,
        "max": moments.maximum,
    }
    counts = {"values": moments.count, "nan": moments.nan, "infinite": moments.infinite}
    return {
        **{name: _plain(np.where(found, values, np.nan)) for name, values in floats.items()},
        **{name: values.tolist() for name, values in counts.items()},
    }


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
