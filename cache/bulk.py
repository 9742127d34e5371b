"""Reading whole chunks: a file's bytes go straight into the caller's array, and are checked there.

For rows that are read once, from end to end, this spares a memory map's page faults and a copy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .layout import CRC_BYTES, Layout, crc32c_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 1 << 20
"""Bytes per read: they are checked while they are in the processor's cache."""


def read_chunks(path: Path, layout: Layout, first: int, out: NDArray[Any]) -> None:
    """Read whole chunks and compare them with their checksums.

    Args:
        path: The array's file.
        layout: Of the array.
        first: Number of the first chunk.
        out: (chunks x rows of a chunk, …), contiguous and of the stored type.

    Raises:
        DamagedRowsError: A chunk is not what was written.
        OSError: The file cannot be read.
    """
    size = layout.chunk_rows * layout.row_bytes
    content = out.reshape(-1).view(np.uint8).reshape(-1, size)
    each = max(1, min(AT_ONCE // size, 256))
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for at in range(0, len(content), each):
            _read(handle, layout, first + at, content[at : at + each])
    finally:
        os.close(handle)


def _read(handle: int, layout: Layout, first: int, content: NDArray[np.uint8]) -> None:
    """Read chunks that follow each other into the rows of `content`."""
    crcs = np.empty((len(content), layout.stride - content.shape[1]), np.uint8)
    buffers = [part for pair in zip(content, crcs, strict=True) for part in pair if part.size]
    wanted = sum(part.size for part in buffers)
    if os.preadv(handle, buffers, layout.offset + first * layout.stride) != wanted:
        raise layout.damaged(first, "the file is shorter than it was")
    for number, (chunk, crc) in enumerate(zip(content, crcs, strict=True), first):
        expected = (
            int.from_bytes(crc.tobytes(), "little")
            if len(crc) == CRC_BYTES
            else layout.checksums[number]
        )
        if crc32c_of([chunk]) != expected:
            raise layout.damaged(number, "crc32c differs")
