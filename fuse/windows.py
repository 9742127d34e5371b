"""Windows are index arithmetic: a window is its first row, and row numbers are made when needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .settings import Tail, WindowSettings

OUTSIDE = -1
"""Number of a row that lies outside its track."""


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows over tracks that lie end to end; W in all."""

    starts: NDArray[np.int64]
    """(W,) number of the first row."""
    ends: NDArray[np.int64]
    """(W,) number of the row after the last one of the window's track."""
    tracks: NDArray[np.int64]
    """(W,) place of the window's track in the list that was cut."""
    length: int
    """Rows per window; 0 for whole tracks."""
    dilation: int

    def __len__(self) -> int:
        return len(self.starts)

    def rows(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the row numbers of some windows.

        Args:
            chosen: Numbers of B windows, of any shape (…, B).

        Returns:
            (…, B, T) row numbers, `OUTSIDE` where a window has left its track. Whole tracks are as
            long as the longest of those chosen.
        """
        starts, ends = self.starts[chosen][..., None], self.ends[chosen][..., None]
        length = self.length or int((ends - starts).max())
        numbers = starts + np.arange(length) * self.dilation
        return np.where(numbers < ends, numbers, OUTSIDE)


def cut(
    firsts: Sequence[int], rows: Sequence[int], window: WindowSettings, *, scoring: bool = False
) -> Windows:
    """Cut tracks into windows.

    A window of dilation D holds every D-th row. D of them, each starting a row after the one
    before, make a group that spans length x D rows; the hop is from group to group, so with a hop
    of one span every row is in one window. Without dilation a group is a window.

    Args:
        firsts: Number of the first row of each track.
        rows: Rows of each track, at least 1.
        window: Length, hop, dilation, tail; resolved.
        scoring: For prediction: the hop is `hop_scoring`, and no row is dropped.
    """
    parts = [_starts(count, window, scoring=scoring) for count in rows]
    sizes = [len(part) for part in parts]
    first, count = np.asarray(firsts, np.int64), np.asarray(rows, np.int64)
    at = np.repeat(np.arange(len(parts)), sizes)
    starts = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return Windows(starts + first[at], (first + count)[at], at, window.length, window.dilation)


def _starts(rows: int, window: WindowSettings, *, scoring: bool) -> NDArray[np.int64]:
    """Number the first rows of one track's windows, from 0."""
    if not window.length:
        return np.zeros(1, np.int64)
    span = window.length * window.dilation
    hop = window.hop_scoring if scoring else window.hop
    tail: Tail = "pad" if scoring and window.tail == "drop" else window.tail
    if tail == "align":
        last = max(0, rows - span)
        groups = np.unique(np.append(np.arange(0, last + 1, hop), last))
    else:
        # The last group is the first that reaches the end.
        groups = np.arange(0, max(0, rows - span) + hop, hop)
    starts = (groups[:, None] + np.arange(window.dilation)).ravel()
    if tail == "drop":
        return starts[starts + (window.length - 1) * window.dilation < rows]
    return starts[starts < rows]
