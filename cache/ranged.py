"""Arrays read by ranges of bytes: what a store at a URL is read through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import take_by_reading
from .layout import CRC_BYTES, DamagedRowsError, Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .place import Place


class RangedArray:
    """An array read by ranges of bytes, one request per read; every chunk is checked each time."""

    def __init__(self, place: Place, layout: Layout) -> None:
        self._place = place
        self._layout = layout

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Give rows, copied."""
        layout = self._layout
        out = np.empty((stop - first, *layout.shape[1:]), layout.dtype)
        if first == stop:
            out.flags.writeable = False
            return out
        low, high = first // layout.chunk_rows, (stop - 1) // layout.chunk_rows + 1
        start, end = (layout.offset + chunk * layout.stride for chunk in (low, high))
        if layout.kind == "contiguous":
            end = min(end, layout.offset + layout.rows * layout.row_bytes)
        try:
            content = np.frombuffer(self._place.read_range(layout.file, start, end), np.uint8)
        except FileNotFoundError as error:
            raise DamagedRowsError(first, stop, "the file is gone") from error
        if len(content) != end - start:
            raise DamagedRowsError(first, stop, f"{end - start - len(content)} bytes are missing")
        for chunk in range(low, high):
            at = (chunk - low) * layout.stride
            part = content[at : at + layout.stride]
            layout.check_chunk(chunk, part)
            payload = part if layout.kind == "contiguous" else part[:-CRC_BYTES]
            rows = np.ndarray(
                (len(payload) // layout.row_bytes, *layout.shape[1:]),
                layout.dtype,
                buffer=payload.tobytes(),
            )
            base = chunk * layout.chunk_rows
            here = rows[max(first - base, 0) : stop - base]
            to = max(base - first, 0)
            out[to : to + len(here)] = here
        out.flags.writeable = False
        return out

    def read_into(self, first: int, stop: int, out: NDArray[Any]) -> None:
        """Copy rows into an array of their shape."""
        out[...] = self.read(first, stop)

    def take(self, numbers: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the rows of these numbers into an array."""
        take_by_reading(self, numbers, out)
