"""Chunks of a Zarr file, looked at before zarr decodes them.

zarr takes any order of chunks, gives zeros for one that is marked empty, and takes as much memory
as a compressed chunk says that it holds. So where chunks lie, and what they claim, is checked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from google_crc32c import value as crc32c

from .layout import CRC_BYTES, ENTRY_BYTES, DamagedRowsError, Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .place import Place

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
HEAD_BYTES = 18
"""Longest header of a zstd frame: magic, descriptor, window, dictionary, content size."""


class Chunks:
    """The chunks of one array's file, each checked once."""

    def __init__(self, place: Place, layout: Layout, compression: str | None) -> None:
        self._place = place
        self._layout = layout
        self._compressed = compression is not None
        self._seen = bytearray(layout.chunks)
        self._entries: NDArray[np.uint64] | None = None

    def check(self, first: int, stop: int) -> None:
        """Check the chunks that hold rows `first` to before `stop`.

        Raises:
            DamagedRowsError: They lie elsewhere than one after another, are marked empty, or do
                not say that they hold what a chunk holds.
            OSError: The file cannot be read.
        """
        step = self._layout.chunk_rows
        low, high = first // step, (stop - 1) // step + 1
        if self._seen.find(0, low, high) < 0:
            return
        entries = self._places()
        for chunk in range(low, high):
            if self._compressed and not self._seen[chunk]:
                start, size = entries[chunk].tolist()
                self._check_frame(chunk, start, size)
            self._seen[chunk] = 1

    def _places(self) -> NDArray[np.uint64]:
        """Give offset and size of each chunk, (chunks, 2)."""
        if self._entries is None:
            size = self._place.sizes([self._layout.file])[self._layout.file] or 0
            if self._layout.kind == "single":
                self._entries = np.array([[0, size]], np.uint64)
            else:
                self._entries = self._read_index(size)
        return self._entries

    def _read_index(self, size: int) -> NDArray[np.uint64]:
        layout = self._layout
        start = size - layout.chunks * ENTRY_BYTES - CRC_BYTES
        if start < 0:
            raise self._damaged("the chunks' index is cut off")
        content = self._place.read_range(layout.file, start, size)
        if not self._compressed:
            layout.check_index(content)
        entries, crc = content[:-CRC_BYTES], content[-CRC_BYTES:]
        if crc32c(entries) != int.from_bytes(crc, "little"):
            raise self._damaged("the chunks' index is damaged")
        found = np.frombuffer(entries, "<u8").reshape(-1, 2).astype(np.uint64)
        ends = [int(at) + int(length) for at, length in found.tolist()]
        begins = [int(at) for at in found[:, 0].tolist()]
        # Any order without overlap is Zarr; a chunk marked empty lies at the largest number.
        order = np.argsort(found[:, 0], kind="stable").tolist()
        last = 0
        for chunk in order:
            if begins[chunk] < last or ends[chunk] > start:
                raise self._damaged("chunks overlap, are missing, or lie beyond the file")
            last = ends[chunk]
        return found

    def _check_frame(self, chunk: int, start: int, size: int) -> None:
        """Compare what a zstd frame says that it holds with what a chunk holds."""
        head = self._place.read_range(
            self._layout.file, start, start + min(HEAD_BYTES, max(size - CRC_BYTES, 0))
        )
        expected = self._layout.chunk_rows * self._layout.row_bytes
        if content_size(head) != expected:
            raise self._layout.damaged(chunk, f"is no zstd frame of {expected} bytes")

    def _damaged(self, problem: str) -> DamagedRowsError:
        return DamagedRowsError(0, self._layout.rows, problem)


def content_size(head: bytes) -> int | None:
    """Give the content size that a zstd frame's header states (RFC 8878, section 3.1.1.1).

    Args:
        head: The first 18 bytes of the frame, or all of it if it is shorter.

    Returns:
        Bytes; None where the header states none, or is none.
    """
    if len(head) < 5 or head[:4] != ZSTD_MAGIC:
        return None
    descriptor = head[4]
    single = descriptor >> 5 & 1
    width = (single, 2, 4, 8)[descriptor >> 6]
    at = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    if not width or len(head) < at + width:
        return None
    return int.from_bytes(head[at : at + width], "little") + (256 if width == 2 else 0)
