"""Rows on a clock of their own: an item of a film's frames, read at the rows' times."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import REPEATED, NewItem
from .rows import frames_of_rows, frames_shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .compute import Building

Make = Callable[[int, frozenset[int]], "Building"]


class ClockedItem:
    """An item in the making whose rows take the frames that are shown at their times."""

    def __init__(self, make: Make, at: NDArray[np.float64], stride: int = 1) -> None:
        """Prepare.

        Args:
            make: Given a number of frames and those that are wanted of them, begins an item whose
                rows are these frames.
            at: (rows,) seconds on the media's clock.
            stride: Rows from one whose frame is computed to the next.
        """
        self._make = make
        self._at = at
        self._stride = stride
        self._times = np.zeros(0)
        self.inner: Building | None = None
        """The item of the frames, once their times are known."""

    def begin(self, times: NDArray[np.float64]) -> None:
        """Take the times of all frames of the source."""
        self._times = times
        shown = frames_shown(times, self._at)
        wanted = {*shown[:: self._stride].tolist(), *shown[-1:].tolist()} - {-1}
        self.inner = self._make(max(wanted, default=0) + 1, frozenset(wanted))
        self.inner.begin(times)

    def add(self, chunk: Any) -> None:
        """Take the next pictures."""
        assert self.inner is not None, "times come first"
        self.inner.add(chunk)

    def end(self) -> None:
        """Take note that nothing more comes."""
        if self.inner is not None:
            self.inner.end()

    @property
    def empty(self) -> bool:
        """No picture has come that a row could be made of."""
        return self.inner is None or self.inner.empty

    @property
    def done(self) -> bool:
        """Everything has come, and was computed."""
        return self.inner is not None and self.inner.done

    def item(self) -> NewItem:
        """Give the item: rows before the first frame, or over 0.5 s past the end, are invalid."""
        assert self.inner is not None, "asked for before anything came"
        frames = self.inner.item()
        flags = np.zeros(len(frames.valid), np.uint8) if frames.flags is None else frames.flags
        own = frames.valid & (flags & REPEATED == 0)
        taken, repeated = frames_of_rows(own, self._times, self._at)
        valid = taken >= 0
        rows = frames.rows[taken]
        rows[~valid] = 0
        told = np.where(valid, flags[taken], 0).astype(np.uint8)
        told[repeated] |= REPEATED
        return NewItem(
            key=frames.key, track=frames.track, rows=rows, valid=valid, times=self._at, flags=told
        )
