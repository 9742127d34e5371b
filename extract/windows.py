"""Windows: which frames a row's clip is made of, and which rows are computed at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Anchor = Literal["centre", "end", "start"]
Edge = Literal["replicate", "reflect", "zero", "black"]
Fill = Literal["linear", "nearest"]
BLOCK_ROWS = 4096
"""Rows that are filled at once: the intermediate values of hours of rows take too much memory."""
OUTSIDE = -1
"""Number of a frame that a window wants before the first or after the last, and gets blank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The clip of a row: `length` frames, `spacing` apart, with the row's own frame at `anchor`."""

    length: int = 1
    spacing: int = 1
    anchor: Anchor = "centre"
    """Even lengths have no centre: theirs is the frame before it, so 16 gives -7 to 8."""
    edge: Edge = "replicate"
    """What stands for frames beyond the ends: the first or last one, a mirror, zeros after
    normalisation, or black pictures before it."""

    @property
    def offsets(self) -> tuple[int, ...]:
        """(length,) frame numbers relative to the row's own."""
        before = {"centre": (self.length - 1) // 2, "end": self.length - 1, "start": 0}[self.anchor]
        return tuple((step - before) * self.spacing for step in range(self.length))

    def numbers(self, frame: int, frames: int) -> NDArray[np.int64]:
        """Give the frames of a window.

        Args:
            frame: Number of the row's own frame, below `frames`.
            frames: How many frames there are.

        Returns:
            (length,) numbers from 0 to `frames` - 1, or OUTSIDE where the edge is blank.
        """
        wanted = frame + np.array(self.offsets, np.int64)
        if self.edge == "replicate":
            return wanted.clip(0, frames - 1)
        if self.edge == "reflect":
            return _mirrored(wanted, frames)
        return np.where((wanted >= 0) & (wanted < frames), wanted, OUTSIDE)

    def last_needed(self, frame: int) -> int:
        """Give the highest frame number that a window wants while the end is not known."""
        first, last = frame + self.offsets[0], frame + self.offsets[-1]
        return max(frame, last, -first if self.edge == "reflect" else 0)

    def first_kept(self, frame: int, seen: int) -> int:
        """Give the lowest frame number that windows from `frame` on may want, wherever the end is.

        Args:
            frame: Number of the next row's own frame.
            seen: Frames that have come so far.
        """
        mirrored = seen - 1 - self.offsets[-1] if self.edge == "reflect" else seen - 1
        return max(0, min(frame + self.offsets[0], mirrored))

    def wants(self, number: int, stride: int) -> bool:
        """Say whether a frame is in a window of some row that is a multiple of `stride`."""
        return any((number - offset) % stride == 0 for offset in self.offsets)


def _mirrored(numbers: NDArray[np.int64], frames: int) -> NDArray[np.int64]:
    """Reflect numbers at the first and last frame, which are not doubled."""
    if frames == 1:
        return np.zeros_like(numbers)
    period = 2 * (frames - 1)
    folded = numbers % period
    return np.where(folded < frames, folded, period - folded)


def interpolated(
    values: NDArray[Any], anchors: NDArray[np.int64], clock: NDArray[np.float64], fill: Fill
) -> NDArray[Any]:
    """Fill the rows between computed ones.

    Args:
        values: (anchors, dim) of the computed rows.
        anchors: (anchors,) their row numbers, ascending; at least one.
        clock: (rows,) ascending times of all rows, in seconds.
        fill: `linear` in time, or the `nearest` in time (of two equally near the earlier).

    Returns:
        (rows, dim); rows before the first and after the last computed one repeat it.
    """
    known = clock[anchors]
    after = np.searchsorted(known, clock, "left").clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    span = known[after] - known[before]
    share = np.divide(clock - known[before], span, out=np.zeros_like(clock), where=span > 0)
    share = share.clip(0, 1)
    share[(after == 0) | (clock >= known[-1])] = 1.0
    if fill == "nearest":
        share = (share > 0.5).astype(np.float64)
    share = share.astype(values.dtype)[:, None]
    mixed = np.empty((len(clock), values.shape[1]), values.dtype)
    for first in range(0, len(clock), BLOCK_ROWS):
        rows = slice(first, first + BLOCK_ROWS)
        lower, upper = values[before[rows]], values[after[rows]]
        mixed[rows] = lower * (1 - share[rows]) + upper * share[rows]
    # A computed row keeps its very value: 0 times what lies before it could be NaN.
    mixed[anchors] = values
    return mixed
