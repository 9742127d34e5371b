"""Reading whole chunks: a file's bytes go straight into the caller's array, and are checked there.

For rows that are read once, from end to end, this spares a memory map's page faults and a copy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google_crc32c import value as crc32c

from .layout import CRC_BYTES, Layout

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
    parts: Any = list(content)
    start, wanted = layout.offset + first * layout.stride, len(parts) * layout.stride
    if layout.kind == "contiguous":
        found = os.preadv(handle, parts, start)
        expected = list(layout.checksums[first : first + len(parts)])
    else:
        stored = np.empty(len(parts), "<u4")
        crcs = stored.view(np.uint8).reshape(-1, CRC_BYTES)
        buffers: Any = [x for pair in zip(parts, crcs, strict=True) for x in pair]
        found = os.preadv(handle, buffers, start)
        expected = stored.tolist()
    if found != wanted:
        raise layout.damaged(first, "the file is shorter than it was")
    for number, (part, crc) in enumerate(zip(parts, expected, strict=True), first):
        if crc32c(part) != crc:  # pyright: ignore[reportArgumentType] - takes any buffer
            raise layout.damaged(number, "crc32c differs")
