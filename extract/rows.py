"""Rows: what belongs to a track's row i when a file holds more, fewer or broken frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import REPEATED, NewItem
from .windows import BLOCK_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPEAT_SECONDS = 0.5
"""Rows up to this long after the last decodable frame repeat it; later ones are invalid."""
LONE_FRAME_STEP = 1 / 30
"""Seconds between rows where a single frame tells no rate: the corpus' most frequent one."""
CLOCK_SLACK = 0.001
"""Seconds by which a frame may come after a row that it is shown at: containers round times to
milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowClock:
    """When rows are where they are not the frames themselves."""

    rate: float
    """Rows per second."""
    start_s: float = 0.0
    """Time of the first row in seconds on the media's clock."""

    def times(self, rows: int) -> NDArray[np.float64]:
        """Give (rows,) seconds: row i lies at `start_s + i / rate`."""
        return self.start_s + np.arange(rows) / self.rate


def row_times(frame_times: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """Give each row its time: frame i's for row i, continued at the median step past the end.

    Args:
        frame_times: (frames,) seconds, in display order; at least one.
        rows: Rows of the track; frames beyond them are dropped.

    Returns:
        (rows,) seconds.
    """
    known = frame_times[:rows]
    if len(known) == rows:
        return known
    step = float(np.median(np.diff(known))) if len(known) > 1 else LONE_FRAME_STEP
    beyond = np.arange(1, rows - len(known) + 1) * step
    return np.concatenate([known, known[-1] + beyond])


def settled(
    values: NDArray[Any], own: NDArray[np.bool_], times: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.uint8]]:
    """Say what rows without a frame of their own hold.

    Up to 0.5 s after the last row with one they repeat it, valid and flagged; later they are
    invalid, and so are all before the first, and all where there is no clock.

    Args:
        values: (rows, dim), overwritten; of rows without a frame, anything.
        own: (rows,) whether the row's own frame could be decoded.
        times: (rows,) seconds; NaN where there is no clock.

    Returns:
        Values (rows, dim), zeros where invalid; valid (rows,); flags (rows,).
    """
    last = np.maximum.accumulate(np.where(own, np.arange(len(own)), -1))
    repeated = ~own & (last >= 0) & (times - times[last] <= REPEAT_SECONDS)
    valid = own | repeated
    values[repeated] = values[last[repeated]]
    values[~valid] = 0
    return values, valid, np.where(repeated, REPEATED, 0).astype(np.uint8)


def frames_shown(frame_times: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.int64]:
    """Say which frame is on the screen at some times: the last one that began at or before.

    Args:
        frame_times: (frames,) seconds, ascending.
        at: (rows,) seconds.

    Returns:
        (rows,) frame numbers; -1 before the first frame.
    """
    return np.searchsorted(frame_times, at + CLOCK_SLACK, "right") - 1


def frames_of_rows(
    own: NDArray[np.bool_], frame_times: NDArray[np.float64], at: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Say which frame's value rows on a clock of their own take.

    A row takes the frame that is shown at its time. Where that frame has no value, or the film has
    ended, it repeats the last one that has, for up to 0.5 s.

    Args:
        own: (n,) whether a frame has a value; frames from n on have none.
        frame_times: (frames,) seconds of all frames of the file, ascending, at least one.
        at: (rows,) seconds.

    Returns:
        (rows,) frame numbers, -1 for rows without a value; (rows,) whether it is repeated.
    """
    shown = frames_shown(frame_times, at).clip(max=len(own) - 1)
    last = np.maximum.accumulate(np.where(own, np.arange(len(own)), -1))
    taken = np.where(shown >= 0, last[shown], -1)
    step = float(np.median(np.diff(frame_times))) if len(frame_times) > 1 else LONE_FRAME_STEP
    ended = at >= frame_times[-1] + step - CLOCK_SLACK
    repeated = (taken >= 0) & ((taken != shown) | ended)
    gone = repeated & (at - frame_times[taken] > REPEAT_SECONDS)
    return np.where(gone, -1, taken), repeated & ~gone


def new_item(
    key: str,
    track: str,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    times: NDArray[np.float64],
    flags: NDArray[np.uint8] | None = None,
    dtype: str = "float16",
) -> NewItem:
    """Make a stored item: values clipped to what the type can hold, zeros where invalid."""
    limit = float(np.finfo(dtype).max)
    stored = np.empty(values.shape, dtype)
    for first in range(0, len(values), BLOCK_ROWS):
        rows = slice(first, first + BLOCK_ROWS)
        stored[rows] = np.clip(values[rows], -limit, limit)
    stored[~valid] = 0
    return NewItem(key=key, track=track, rows=stored, valid=valid, times=times, flags=flags)
