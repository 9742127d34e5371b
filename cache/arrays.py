"""Arrays of a shard: rows of plain bytes at a fixed stride, every chunk checked by its crc32c.

An uncompressed Zarr shard cut along time only, and a contiguous HDF5 data set, both are such rows,
so both are read through a memory map at its speed; over a URL the same arithmetic gives one range
request per read.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .errors import StoreError
from .layout import DamagedRowsError, Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray


LONG = 1 << 20
"""Bytes of whole chunks, not yet checked, from which on they are read without the map."""
MOST_MAPS = 256
"""Maps held open at once: each holds a file descriptor, of which a process may have 1,024."""


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


@dataclass(frozen=True, slots=True)
class _Mapped:
    """A mapped file, seen in three ways."""

    content: NDArray[np.uint8]
    chunks: NDArray[Any]
    """(rows, …), or (chunks, chunk rows, …) between checksums."""
    rows: NDArray[Any]
    """Rows of one element each."""


class MappedArray:
    """An array read through a memory map; chunks are checked when they are first touched."""

    def __init__(self, folder: str, layout: Layout) -> None:
        """Prepare; the file is mapped when it is first read."""
        self._folder = folder
        self._layout = layout
        self._seen = bytearray(layout.chunks)
        self._mapped: _Mapped | None = None

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
        step = self._layout.chunk_rows
        low, high = -(-first // step), stop // step
        fits = out.flags.c_contiguous and out.dtype == self._layout.dtype
        long = (high - low) * step * self._layout.row_bytes >= LONG
        if not (fits and long) or self._seen.find(0, low, high) < 0:
            self._copy_into(first, stop, out)
            return
        self._copy_into(first, low * step, out[: low * step - first])
        self._read_chunks(low, out[low * step - first : high * step - first])
        self._copy_into(high * step, stop, out[high * step - first :])

    def _copy_into(self, first: int, stop: int, out: NDArray[Any]) -> None:
        if first == stop:
            return
        chunks = self._touch(first, stop)
        if self._layout.kind == "contiguous":
            out[...] = chunks[first:stop]
        else:
            self._copy(chunks, first, stop, out)

    def _read_chunks(self, first: int, out: NDArray[Any]) -> None:
        from .bulk import read_chunks

        if self._mapped is None:
            self._map()  # with its checks of the file as a whole
        path = Path(self._folder, self._layout.file)
        try:
            read_chunks(path, self._layout, first, out)
        except OSError as error:
            raise self._layout.damaged(first, f"cannot be read: {error.strerror}") from error
        count = len(out) // self._layout.chunk_rows
        self._seen[first : first + count] = b"\1" * count

    def take(self, numbers: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the rows of these numbers into an array."""
        if not len(numbers):
            return
        layout = self._layout
        # Held here, since another thread may close this array meanwhile.
        mapped = self._mapped or self._map()
        chunk, row = np.divmod(numbers, layout.chunk_rows)
        self._check_some(chunk, mapped.content)
        if not (out.flags.c_contiguous and out.dtype == layout.dtype):
            of_chunks = mapped.chunks
            contiguous = layout.kind == "contiguous"
            out[...] = of_chunks[numbers] if contiguous else of_chunks[chunk, row]
            return
        places = chunk * (layout.stride // layout.unit) + row * (layout.row_bytes // layout.unit)
        out.reshape(len(numbers), -1).view(mapped.rows.dtype)[:, 0] = mapped.rows[places]

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

    def _touch(self, first: int, stop: int) -> NDArray[Any]:
        """Map the file if need be, and check the chunks of these rows if they are new."""
        mapped = self._mapped or self._map()
        step = self._layout.chunk_rows
        low, high = first // step, (stop - 1) // step + 1
        if self._seen.find(0, low, high) >= 0:
            self._check(range(low, high), mapped.content)
        return mapped.chunks

    def _check_some(self, chunks: NDArray[np.int64], content: NDArray[np.uint8]) -> None:
        if self._seen.find(0) >= 0:
            new = chunks[~np.frombuffer(self._seen, np.bool_)[chunks]]
            if new.size:
                self._check(np.unique(new).tolist(), content)

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

    def _map(self) -> _Mapped:
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
        mapped = self._mapped = _Mapped(
            content, _chunks(content, layout), _elements(content, layout)
        )
        _MAPS.add(self)
        return mapped

    def close(self) -> None:
        """Let go of the map; views that a caller still holds keep it alive."""
        self._mapped = None

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedArray, (self._folder, self._layout)


def _chunks(content: NDArray[np.uint8], layout: Layout) -> NDArray[Any]:
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


def _elements(content: NDArray[np.uint8], layout: Layout) -> NDArray[Any]:
    """View a file's bytes as rows of one element each, one at every `unit` bytes of the layout.

    Only some of the places are rows; an element is copied at the speed of memory.
    """
    contiguous = layout.kind == "contiguous"
    size = layout.rows * layout.row_bytes if contiguous else layout.chunks * layout.stride
    whole = np.dtype((np.void, layout.row_bytes))
    count = max(0, (size - layout.row_bytes) // layout.unit + 1)
    return np.ndarray((count,), whole, content.data, layout.offset, (layout.unit,))


def take_by_reading(array: StoredArray, numbers: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Copy rows of some numbers out of the one stretch that holds them all."""
    if len(numbers):
        first = int(numbers.min())
        out[...] = array.read(first, int(numbers.max()) + 1)[numbers - first]
