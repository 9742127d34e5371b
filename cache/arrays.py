"""Arrays of a shard: rows of plain bytes at a fixed stride, every chunk checked by its crc32c.

An uncompressed Zarr shard cut along time only, and a contiguous HDF5 data set, both are such rows,
so both are read through a memory map at its speed; over a URL the same arithmetic gives one range
request per read.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from google_crc32c import extend
from google_crc32c import value as crc32c

from .errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray


CRC_BYTES = 4
ENTRY_BYTES = 16
"""Offset and length of one chunk in a Zarr shard's index, 64 bits each."""
MOST_MAPS = 256
"""Maps held open at once: each holds a file descriptor, of which a process may have 1,024."""


def stretches(parts: Sequence[NDArray[Any]], rows: int) -> Iterator[list[NDArray[np.uint8]]]:
    """Cut arrays that lie end to end into stretches of so many rows, as bytes, copying nothing.

    Args:
        parts: (n, ...) each, of one type and width.
        rows: Rows of a stretch; the last one may have fewer.

    Yields:
        Bytes of the pieces of one stretch.
    """
    pieces: list[NDArray[np.uint8]] = []
    filled = 0
    for part in parts:
        content = np.ascontiguousarray(part)
        at = 0
        while at < len(content):
            count = min(rows - filled, len(content) - at)
            pieces.append(content[at : at + count].reshape(-1).view(np.uint8))
            at += count
            filled += count
            if filled == rows:
                yield pieces
                pieces, filled = [], 0
    if pieces:
        yield pieces


def crc32c_of(pieces: Iterable[NDArray[np.uint8]]) -> int:
    """Give the crc32c of some bytes, one array after another."""
    value = 0
    for piece in pieces:
        value = extend(value, piece)  # pyright: ignore[reportArgumentType] - takes any buffer
    return value


class DamagedRowsError(Exception):
    """Rows whose bytes do not have the checksum that was written with them."""

    def __init__(self, first: int, stop: int, problem: str) -> None:
        super().__init__(problem)
        self.first = first
        self.stop = stop


class StoredArray(Protocol):
    """One array of a shard, (rows, ...), whichever way it is read."""

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Give rows `first` to before `stop`: read-only, a view where no copy is needed.

        Raises:
            DamagedRowsError: The rows are not what was written.
        """
        ...

    def read_into(self, first: int, stop: int, out: NDArray[Any]) -> None:
        """Copy rows into an array of their shape.

        Raises:
            DamagedRowsError: The rows are not what was written.
        """
        ...

    def take(self, numbers: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the rows of these numbers into an array.

        Raises:
            DamagedRowsError: The rows are not what was written.
        """
        ...


@dataclass(frozen=True)
class Layout:
    """Where an array's bytes lie in a file."""

    file: str
    """Name in the shard's folder."""
    kind: Literal["sharded", "single", "contiguous"]
    """A Zarr shard object with its index at the end; a Zarr chunk; an HDF5 data set."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    """(rows, dim) or (rows,)."""
    chunk_rows: int
    """Rows that one crc32c covers."""
    offset: int = 0
    """First byte of the array in the file."""
    checksums: tuple[int, ...] = ()
    """crc32c of every chunk (HDF5); in Zarr it follows the chunk's own bytes."""

    @property
    def rows(self) -> int:
        """Rows of the array."""
        return self.shape[0]

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        width = self.dtype.itemsize
        for size in self.shape[1:]:
            width *= size
        return width

    @cached_property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.rows // self.chunk_rows)

    @cached_property
    def stride(self) -> int:
        """Bytes from the start of a chunk to the start of the next."""
        crc = 0 if self.kind == "contiguous" else CRC_BYTES
        return self.chunk_rows * self.row_bytes + crc

    @cached_property
    def size(self) -> int:
        """Bytes that the file must have (HDF5: at least)."""
        if self.kind == "contiguous":
            return self.offset + self.rows * self.row_bytes
        index = self.chunks * ENTRY_BYTES + CRC_BYTES if self.kind == "sharded" else 0
        return self.chunks * self.stride + index

    def check_size(self, found: int, where: str) -> None:
        """Compare with the size of the file.

        Raises:
            StoreError: Another size.
        """
        if found != self.size and not (self.kind == "contiguous" and found > self.size):
            raise StoreError(
                f"{where}: rows {self.shape} of {self.dtype} take {self.size} bytes, "
                f"found {found}; index and data disagree"
            )

    def check_chunk(self, chunk: int, content: NDArray[np.uint8]) -> None:
        """Compare a chunk's bytes, as they lie in the file, with their checksum.

        Raises:
            DamagedRowsError: They differ.
        """
        if self.kind == "contiguous":
            expected = self.checksums[chunk]
        else:
            expected = int.from_bytes(content[-CRC_BYTES:].tobytes(), "little")
            content = content[:-CRC_BYTES]
        if crc32c(content) != expected:  # pyright: ignore[reportArgumentType] - takes any buffer
            raise self.damaged(chunk, "crc32c differs")

    def damaged(self, chunk: int, problem: str) -> DamagedRowsError:
        """Make the error of a damaged chunk."""
        first = chunk * self.chunk_rows
        return DamagedRowsError(first, min(first + self.chunk_rows, self.rows), problem)

    def check_index(self, content: bytes) -> None:
        """Check that a Zarr shard's index puts the chunks one after another.

        Raises:
            DamagedRowsError: It does not, or its own checksum differs.
        """
        entries, crc = content[:-CRC_BYTES], content[-CRC_BYTES:]
        if crc32c(entries) != int.from_bytes(crc, "little"):
            raise DamagedRowsError(0, self.rows, "the chunks' index is damaged")
        found = np.frombuffer(entries, "<u8").reshape(-1, 2)
        at = np.arange(self.chunks, dtype=np.uint64) * self.stride
        if not (np.array_equal(found[:, 0], at) and (found[:, 1] == self.stride).all()):
            raise DamagedRowsError(0, self.rows, "the chunks are not one after another")


class Closable(Protocol):
    """Something that holds a file open."""

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        ...


class OpenFiles:
    """At most so many files open at once; the one opened first is closed first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: deque[Closable] = deque()

    def add(self, opened: Closable) -> None:
        """Count one more, and close the oldest if it is one too many."""
        self._open.append(opened)
        if len(self._open) > self._most:
            self._open.popleft().close()


_MAPS = OpenFiles(MOST_MAPS)


class MappedArray:
    """An array read through a memory map; chunks are checked when they are first touched."""

    def __init__(self, folder: str, layout: Layout) -> None:
        """Prepare; the file is mapped when it is first read."""
        self._folder = folder
        self._layout = layout
        self._seen = bytearray(layout.chunks)
        self._mapped: tuple[NDArray[Any], NDArray[np.uint8]] | None = None

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Give rows: a view inside one chunk or in HDF5, a copy across Zarr's checksums."""
        chunks = self._touch(first, stop)
        step = self._layout.chunk_rows
        if self._layout.kind == "contiguous":
            return chunks[first:stop]
        chunk = min(first // step, self._layout.chunks - 1)
        if stop <= (chunk + 1) * step:
            return chunks[chunk, first - chunk * step : stop - chunk * step]
        out = np.empty((stop - first, *self._layout.shape[1:]), self._layout.dtype)
        self._copy(chunks, first, stop, out)
        out.flags.writeable = False
        return out

    def read_into(self, first: int, stop: int, out: NDArray[Any]) -> None:
        """Copy rows into an array of their shape."""
        chunks = self._touch(first, stop)
        if self._layout.kind == "contiguous":
            out[...] = chunks[first:stop]
        else:
            self._copy(chunks, first, stop, out)

    def take(self, numbers: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the rows of these numbers into an array."""
        if not len(numbers):
            return
        step = self._layout.chunk_rows
        chunks = self._touch(int(numbers.min()), int(numbers.max()) + 1, numbers // step)
        if self._layout.kind == "contiguous":
            out[...] = chunks[numbers]
        else:
            out[...] = chunks[numbers // step, numbers % step]

    def _copy(self, chunks: NDArray[Any], first: int, stop: int, out: NDArray[Any]) -> None:
        step = self._layout.chunk_rows
        at = 0
        chunk, start = divmod(first, step)
        while first < stop:
            count = min(step - start, stop - first)
            out[at : at + count] = chunks[chunk, start : start + count]
            at += count
            first += count
            chunk, start = chunk + 1, 0

    def _touch(
        self, first: int, stop: int, numbers: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map the file if need be, and check the chunks of these rows if they are new."""
        # Held here, since another thread may close this array meanwhile.
        chunks, content = self._mapped or self._map()
        step = self._layout.chunk_rows
        low, high = first // step, (stop - 1) // step + 1
        if self._seen.find(0, low, high) >= 0:
            wanted = range(low, high) if numbers is None else np.unique(numbers).tolist()
            self._check(wanted, content)
        return chunks

    def _check(self, chunks: Iterable[int], content: NDArray[np.uint8]) -> None:
        layout = self._layout
        end = layout.offset + layout.rows * layout.row_bytes
        for chunk in chunks:
            if not self._seen[chunk]:
                start = layout.offset + chunk * layout.stride
                stop = start + layout.stride
                part = content[start : min(stop, end) if layout.kind == "contiguous" else stop]
                layout.check_chunk(chunk, part)
                self._seen[chunk] = 1

    def _map(self) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        layout, path = self._layout, Path(self._folder, self._layout.file)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise DamagedRowsError(0, layout.rows, "the file is gone") from error
        except OSError as error:
            problem = f"the file cannot be opened: {error.strerror}"
            raise DamagedRowsError(0, layout.rows, problem) from error
        try:
            size = os.fstat(handle).st_size
            layout.check_size(size, str(path))
            content = np.frombuffer(mmap.mmap(handle, 0, prot=mmap.PROT_READ), np.uint8)
        except StoreError as error:
            raise DamagedRowsError(0, layout.rows, str(error)) from error
        finally:
            os.close(handle)
        if layout.kind == "sharded":
            layout.check_index(content[layout.chunks * layout.stride :].tobytes())
        mapped = self._mapped = _rows(content, layout), content
        _MAPS.add(self)
        return mapped

    def close(self) -> None:
        """Let go of the map; views that a caller still holds keep it alive."""
        self._mapped = None

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedArray, (self._folder, self._layout)


def _rows(content: NDArray[np.uint8], layout: Layout) -> NDArray[Any]:
    """View a file's bytes as (rows, ...), or as (chunks, chunk rows, ...) between checksums."""
    contiguous = layout.kind == "contiguous"
    shape = layout.shape if contiguous else (layout.chunks, layout.chunk_rows, *layout.shape[1:])
    strides = (layout.row_bytes, layout.dtype.itemsize)[: len(layout.shape)]
    return np.ndarray(
        shape,
        layout.dtype,
        buffer=content.data,
        offset=layout.offset,
        strides=strides if contiguous else (layout.stride, *strides),
    )


def take_by_reading(array: StoredArray, numbers: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Copy rows of some numbers out of the one stretch that holds them all."""
    if len(numbers):
        first = int(numbers.min())
        out[...] = array.read(first, int(numbers.max()) + 1)[numbers - first]
