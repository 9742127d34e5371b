"""Sound lines: stretches of sound on one line of samples, of which only what is needed is kept."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .media import GAP_SECONDS
from .rows import REPEAT_SECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL = 4096
"""Samples up to which a piece is joined to the one before it, so that there are never many."""


class Stretch(Protocol):
    """A stretch of mono sound."""

    @property
    def start_s(self) -> float:
        """Time of the first sample in seconds on the container's clock."""
        ...

    @property
    def rate(self) -> int:
        """Samples per second."""
        ...

    @property
    def samples(self) -> NDArray[np.float32]:
        """(samples,)."""
        ...


class SoundLine:
    """A source's sound, sample 0 being the first that came; silence in gaps and outside.

    Small gaps between stretches are none (containers round times). Where stretches overlap, what
    came first stays. Samples that are not finite numbers, as a damaged file may hold, are silence.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        """Samples per second."""
        self.start_s: float | None = None
        """Time of sample 0 on the container's clock; None before there is one."""
        self.length = 0
        """Samples so far, gaps included."""
        self._run = (0.0, 0)
        """Time and place at which the present run of stretches without gaps began."""
        self._needed: tuple[int, int | None] = (0, None)
        self._pieces: deque[tuple[int, NDArray[np.float32]]] = deque()

    @property
    def end_s(self) -> float:
        """Time just after the last sample so far; the line has begun."""
        assert self.start_s is not None
        return self.start_s + self.length / self.rate

    def places(self, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give the samples nearest to some times, in seconds; the line has begun."""
        assert self.start_s is not None
        return np.rint((times - self.start_s) * self.rate).astype(np.int64)

    def heard(self, times: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say of some times, in seconds, whether they lie in the sound or 0.5 s after its end."""
        if self.start_s is None:
            return np.zeros(len(times), np.bool_)
        return (times >= self.start_s) & (times <= self.end_s + REPEAT_SECONDS)

    @property
    def kept(self) -> int:
        """Samples in memory."""
        return sum(len(samples) for _, samples in self._pieces)

    def add(self, sound: Stretch) -> None:
        """Take the next stretch.

        Raises:
            ValueError: It has another rate than the line.
        """
        if sound.rate != self.rate:
            raise ValueError(
                f"sound at {sound.start_s:.3f} s has {sound.rate} samples per second, "
                f"expected {self.rate}: resample it before"
            )
        if not len(sound.samples):
            return
        place = self._place(sound.start_s)
        fresh = max(0, self.length - place)
        if fresh < len(sound.samples):
            self._store(place + fresh, sound.samples[fresh:])
            self.length = place + len(sound.samples)

    def _place(self, start_s: float) -> int:
        if self.start_s is None:
            self.start_s = start_s
            self._run = (start_s, 0)
        run_s, run_place = self._run
        end_s = run_s + (self.length - run_place) / self.rate
        if abs(start_s - end_s) < GAP_SECONDS:
            return self.length
        place = round((start_s - self.start_s) * self.rate)
        self._run = (start_s, place)
        return place

    def _store(self, place: int, samples: NDArray[np.float32]) -> None:
        first, end = self._needed
        if place + len(samples) <= first or (end is not None and place >= end):
            return
        finite = np.isfinite(samples)
        if not finite.all():
            samples = np.where(finite, samples, np.float32(0))
        if self._pieces:
            last_place, last = self._pieces[-1]
            if last_place + len(last) == place and len(last) + len(samples) <= SMALL:
                self._pieces[-1] = (last_place, np.concatenate([last, samples]))
                return
        self._pieces.append((place, samples))

    def keep(self, first: int, end: int) -> None:
        """Promise that from now on only samples `first` to `end - 1` will be asked for."""
        self._needed = (first, end)
        while self._pieces and _end(self._pieces[0]) <= first:
            self._pieces.popleft()
        while self._pieces and self._pieces[-1][0] >= end:
            self._pieces.pop()

    def cut(self, first: int, end: int) -> NDArray[np.float32]:
        """Give samples `first` to `end - 1`: (end - first,), silence where there are none."""
        out = np.zeros(end - first, np.float32)
        for place, samples in self._pieces:
            low, high = max(place, first), min(place + len(samples), end)
            if low < high:
                out[low - first : high - first] = samples[low - place : high - place]
        return out


def _end(piece: tuple[int, NDArray[np.float32]]) -> int:
    """Place just after a piece."""
    place, samples = piece
    return place + len(samples)
