"""Rows: what belongs to a track's row i when a file holds more, fewer or broken frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import REPEATED, NewItem

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPEAT_SECONDS = 0.5
"""Rows up to this long after the last decodable frame repeat it; later ones are invalid."""
LONE_FRAME_STEP = 1 / 30
"""Seconds between rows where a single frame tells no rate: the corpus' most frequent one."""


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


def rows_from_frames(
    features: NDArray[Any], frame_times: NDArray[np.float64], rows: int
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.float64], NDArray[np.uint8]]:
    """Fit the features of decoded frames to a track's rows.

    Args:
        features: (frames, dim).
        frame_times: (frames,) seconds.
        rows: Rows of the track.

    Returns:
        Values (rows, dim), valid (rows,), times (rows,) and flags (rows,).
    """
    times = row_times(frame_times, rows)
    count = min(len(features), rows)
    valid = times <= times[count - 1] + REPEAT_SECONDS
    values = features[np.minimum(np.arange(rows), count - 1)]
    values[~valid] = 0
    flags = np.where(valid & (np.arange(rows) >= count), REPEATED, 0).astype(np.uint8)
    return values, valid, times, flags


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
    stored = np.clip(values, -limit, limit).astype(dtype)
    stored[~valid] = 0
    return NewItem(key=key, track=track, rows=stored, valid=valid, times=times, flags=flags)
