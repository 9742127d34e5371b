"""An item: one track's rows of one stream, read when they are asked for."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from .errors import StoreError
from .layout import DamagedRowsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .entries import Entry
    from .shard import Shard


@dataclass(frozen=True, eq=False)
class ItemRows(NDArrayOperatorsMixin):
    """The rows of an item, (rows, dim), as an array that reads what it is asked for.

    `rows[a:b]` and `np.asarray(rows)` give read-only arrays: views of the mapped file where the
    shard is local and uncompressed (in Zarr, within 256 rows of one chunk), copies elsewhere.
    Arithmetic, comparison and an array's methods read all rows.
    """

    shard: Shard
    entry: Entry

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, dim)."""
        return (self.entry.rows, self.shard.dim)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.shard.dtype

    @property
    def ndim(self) -> int:
        """Two: rows and dimensions."""
        return 2

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.entry.rows * self.shard.dim * self.dtype.itemsize

    def __len__(self) -> int:
        return self.entry.rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        rows = self.shard.read("x", self.entry)
        if copy:
            return np.array(rows, dtype=dtype)
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(each) if isinstance(each, ItemRows) else each for each in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __getitem__(self, key: Any) -> Any:
        """Give rows by number, slice, or anything else that NumPy takes."""
        if isinstance(key, slice):
            first, stop, step = key.indices(self.entry.rows)
            if step == 1:
                return self.shard.read("x", self.entry, first, max(first, stop))
        elif not isinstance(key, (tuple, list, np.ndarray)) and hasattr(key, "__index__"):
            row = operator.index(key)
            row += self.entry.rows if row < 0 else 0
            if not 0 <= row < self.entry.rows:
                message = f"row {key} of {self.entry.rows}"
                raise IndexError(message)
            return self.shard.read("x", self.entry, row, row + 1)[0]
        return np.asarray(self)[key]

    def read_into(self, first: int, out: NDArray[Any]) -> None:
        """Copy the rows from `first` on into `out`, (T, dim), and convert to its type.

        Raises:
            IndexError: The item ends before.
            StoreError: The rows are damaged.
        """
        entry = self.entry
        stop = first + len(out)
        if first < 0 or stop > entry.rows:
            message = f"rows {first} to {stop} of track {entry.track!r}, which has {entry.rows}"
            raise IndexError(message)
        try:
            self.shard.arrays["x"].read_into(entry.first + first, entry.first + stop, out)
        except DamagedRowsError as error:
            raise self.shard.damaged("x", entry, error) from error

    def take(self, numbers: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the rows of some numbers, (T,), into `out`, (T, dim).

        Raises:
            StoreError: The rows are damaged.
        """
        try:
            self.shard.arrays["x"].take(numbers + self.entry.first, out)
        except DamagedRowsError as error:
            raise self.shard.damaged("x", self.entry, error) from error


@dataclass(frozen=True, slots=True)
class Item:
    """One track's rows of one stream."""

    shard: Shard
    entry: Entry

    @property
    def rows(self) -> ItemRows:
        """(rows, dim) values, read when they are indexed; zeros where `valid` is False."""
        return ItemRows(self.shard, self.entry)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows,) False where the row has no value."""
        return self.shard.read("valid", self.entry)

    @property
    def flags(self) -> NDArray[np.uint8]:
        """(rows,) 1 where the row repeats the last decodable frame, plus 2 where interpolated."""
        return self.shard.read("flags", self.entry)

    @property
    def times(self) -> NDArray[np.float64]:
        """(rows,) seconds on the container's clock; NaN where the input carries no clock."""
        return self.shard.read("times", self.entry)

    @property
    def key(self) -> str:
        """The digest of everything that the numbers depend on."""
        return self.entry.key

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the key is the digest of: recipe digest, number of rows, digests of inputs."""
        return self.entry.identity

    @property
    def provenance(self) -> dict[str, Any]:
        """Recipe, library versions, device and timings."""
        return self.shard.provenance

    def check(self) -> None:
        """Read the whole item and compare it with its checksum.

        Raises:
            StoreError: It is damaged; names file, track and rows.
        """
        from .new_shard import item_crc32c

        entry = self.entry
        found = item_crc32c(self.shard.read(name, entry) for name in self.shard.arrays)
        if entry.crc32c is not None and found != entry.crc32c:
            raise StoreError(
                f"{self.shard.path}: rows 0 to {entry.rows}, track {entry.track!r}, "
                "are damaged: the item's crc32c differs"
            )
