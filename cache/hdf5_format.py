"""Shards as HDF5: one file of contiguous data sets, or chunked and compressed for an archive."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from google_crc32c import value as crc32c

from .arrays import OpenFiles, take_by_reading
from .entries import ARRAYS, CHUNK_ROWS, Index
from .layout import DamagedRowsError, Layout, crc32c_of, stretches

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from .place import Place

FILE = "shard.h5"
CACHE_BYTES = 4 << 20
"""HDF5 keeps this much of a data set's decoded chunks; its own default grows to the whole set."""
MOST_FILES = 32
ALIGNMENT = 64
"""Bytes: a data set starts at a multiple of them, so that its values can be mapped."""


def layouts(index: Index) -> dict[str, Layout]:
    """Say where an uncompressed shard's arrays lie."""
    return {
        array: Layout(
            file=FILE,
            kind="contiguous",
            dtype=index.type_of(array),
            shape=index.shape(array),
            chunk_rows=CHUNK_ROWS,
            offset=index.offsets[array],
            checksums=tuple(index.checksums[array]),
        )
        for array in ARRAYS
    }


class PatientFile(io.FileIO):
    """A file that the HDF5 library writes to, and to which no write seems to it to fail.

    The library crashes the process when it closes a file that could not be written, on a full disk
    say. So the first failure is kept, nothing more is written, and leaving the block raises it.
    """

    _failure: OSError | None = None

    def check(self) -> None:
        """Raise the failure.

        Raises:
            OSError: A write has failed.
        """
        if self._failure is not None:
            raise self._failure

    def write(self, content: Any) -> int:
        """Write all of it, unless a write has failed."""
        rest = memoryview(content)
        size = len(rest)
        while self._failure is None and rest:
            try:
                rest = rest[super().write(rest) :]
            except OSError as failure:
                self._failure = failure
        return size

    def truncate(self, size: int | None = None) -> int:
        """Cut or lengthen the file, unless a write has failed."""
        if self._failure is None:
            try:
                super().truncate(size)
            except OSError as failure:
                self._failure = failure
        return size or 0

    def __exit__(self, *error: object) -> None:
        self.close()
        self.check()


def write_arrays(
    path: Path, index: Index, parts: Mapping[str, Sequence[NDArray[Any]]]
) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Write a shard's HDF5 file.

    Args:
        path: The file.
        index: Shapes, types and compression.
        parts: Array to the rows of each item.

    Returns:
        First byte of each data set, and crc32c of every 256 rows of each.

    Raises:
        OSError: The file cannot be written; `errno` says why.
    """
    import h5py

    how: dict[str, Any] = {}
    if index.compression is not None:
        how = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
    offsets: dict[str, int] = {}
    # No attribute of HDF5's own that tells the time: the same rows give the same bytes. No lock: a
    # network file system may not know locks, and nobody else knows this file.
    same: dict[str, Any] = {"libver": ("v110", "v110"), "track_order": False, "locking": False}
    aligned: dict[str, Any] = {"alignment_threshold": 1, "alignment_interval": ALIGNMENT}
    with PatientFile(path, "x+") as disk, h5py.File(disk, "w", **same, **aligned) as file:
        for array in ARRAYS:
            shape = index.shape(array)
            chunks = {"chunks": (min(CHUNK_ROWS, index.rows), *shape[1:])} if how else {}
            data = file.create_dataset(array, shape, index.type_of(array), **chunks, **how)
            at = 0
            for rows in parts[array]:
                data[at : at + len(rows)] = rows
                disk.check()
                at += len(rows)
        file.flush()
        if not how:
            offsets = {array: int(_data(file, array).id.get_offset()) for array in ARRAYS}
    sums = {
        array: [crc32c_of(stretch) for stretch in stretches(parts[array], CHUNK_ROWS)]
        for array in ARRAYS
    }
    return offsets, sums


def _data(file: h5py.File, array: str) -> h5py.Dataset:
    return file[array]  # pyright: ignore[reportReturnType] - the probe made sure of its kind


_FILES = OpenFiles(MOST_FILES)


class Hdf5Array:
    """An array read by the HDF5 library; every 256 rows are checked against the index."""

    def __init__(self, place: Place, index: Index, array: str) -> None:
        """Prepare; the file is opened, in a child process first, when it is first read."""
        self._place, self._index, self._name = place, index, array
        self._file: h5py.File | None = None

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Give rows, copied."""
        low = first // CHUNK_ROWS * CHUNK_ROWS
        high = min(-(-stop // CHUNK_ROWS) * CHUNK_ROWS, self._index.rows)
        try:
            rows = _data(self._opened(), self._name)[low:high]
        except (ValueError, OSError, RuntimeError, KeyError, MemoryError) as error:
            raise DamagedRowsError(first, stop, str(error)) from error
        sums = self._index.checksums[self._name]
        for at in range(low, high, CHUNK_ROWS):
            part: Any = np.ascontiguousarray(rows[at - low : at - low + CHUNK_ROWS])
            if crc32c(part.view(np.uint8)) != sums[at // CHUNK_ROWS]:
                raise DamagedRowsError(at, min(at + CHUNK_ROWS, high), "crc32c differs")
        rows.flags.writeable = False
        return rows[first - low : stop - low]

    def read_into(self, first: int, stop: int, out: NDArray[Any]) -> None:
        """Copy rows into an array of their shape."""
        out[...] = self.read(first, stop)

    def take(self, numbers: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the rows of these numbers into an array."""
        take_by_reading(self, numbers, out)

    def _opened(self) -> h5py.File:
        file = self._file
        if file is None:
            import h5py

            from .probe import probe

            probe(self._place, self._index)
            # No lock: a network file system may not know locks, and nothing is ever modified.
            file = self._file = h5py.File(
                self._place.open(FILE), "r", locking=False, rdcc_nbytes=CACHE_BYTES
            )
            _FILES.add(self)
        return file

    def close(self) -> None:
        """Let go of the file: it is closed when no other thread is reading it."""
        self._file = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Hdf5Array, (self._place, self._index, self._name)
