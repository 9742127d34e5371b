"""Windows are index arithmetic: vectors of row numbers, -1 where a window leaves its track."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTSIDE = -1


def windows(rows: int, length: int, hop: int) -> NDArray[np.int64]:
    """Cut a track into windows that cover every row.

    Args:
        rows: Rows of the track, at least 1.
        length: Rows per window.
        hop: Rows between starts; the last window is aligned to the track's end.

    Returns:
        (windows, length) row numbers from 0; -1 past the end of a track shorter than a window.
    """
    last = max(0, rows - length)
    starts = np.unique(np.append(np.arange(0, last + 1, hop), last))
    numbers = starts[:, None] + np.arange(length)
    return np.where(numbers < rows, numbers, OUTSIDE)
