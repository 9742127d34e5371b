"""Where an array's bytes lie in a file, and the checksums that prove them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from google_crc32c import extend
from google_crc32c import value as crc32c

from .errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CRC_BYTES = 4
ENTRY_BYTES = 16
"""Offset and length of one chunk in a Zarr shard's index, 64 bits each."""


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
    def unit(self) -> int:
        """Bytes of which the places of all rows are multiples."""
        return math.gcd(self.stride, self.row_bytes)

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
