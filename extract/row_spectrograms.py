"""Spectrograms of a source's rows, made while its sound comes in.

The windows of neighbouring rows overlap almost wholly. A column of a row's spectrogram depends on
nothing but the sound under its window, so one that lies at the same samples for several rows is
computed once; only those at the ends of a segment, which see mirrored sound, belong to one row.
How much is shared follows from the rows' phases on the grid of hops: at 44.1 kHz and 25 frames per
second all rows lie on one phase, at 30 on three, at odd rates on nearly as many as there are rows,
and then each row is computed by itself. The numbers are the same either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .sound_line import SoundLine
from .spectrogram import LogMel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .sound_line import Stretch
    from .spectrogram import SpectrogramPreset

    Places = NDArray[np.int64]

ROWS = 32
"""Rows computed together at most."""
KEPT_SEGMENTS = 16
"""Columns kept for later rows, in widths of a picture: as many phases of the hop grid."""


@dataclass(frozen=True, slots=True)
class RowPictures:
    """Pictures of consecutive rows."""

    first: int
    """The first one's row."""
    valid: NDArray[np.bool_]
    """(n,)."""
    values: Tensor
    """(n, 1, mels, columns) float32, normalised; zeros where invalid."""


class RowSpectrograms:
    """The spectrograms of rows at known times, in order, as soon as their sound has come."""

    def __init__(
        self,
        preset: SpectrogramPreset,
        times: NDArray[np.float64],
        device: torch.device | str = "cpu",
    ) -> None:
        """Prepare for a source.

        Args:
            preset: What a picture is.
            times: (rows,) seconds on the container's clock, ascending.
            device: Where the pictures are computed and stay.

        Raises:
            ValueError: The times do not ascend, or are not finite.
        """
        if not (np.isfinite(times).all() and np.all(np.diff(times) >= 0)):
            raise ValueError("the times of rows must be finite and ascending")
        self.preset = preset
        self._times = times
        self._device = torch.device(device)
        self._log_mel = LogMel(preset, self._device)
        self._line = SoundLine(preset.rate)
        self._known = _Columns(preset, self._device)
        self._firsts: Places = np.zeros(0, np.int64)
        self._done = 0
        self._finished = False
        edges = np.array(preset.edges, np.int64)
        inner = np.setdiff1d(np.arange(preset.columns), edges)
        self._steps = preset.lead + inner * preset.hop
        self._mirror = _mirrored(preset, edges)
        self._before = int(np.sum(edges < inner[0]))
        """How many of the edge columns stand at the left."""

    def feed(self, sound: Stretch) -> None:
        """Take the next stretch of sound, mono.

        Raises:
            ValueError: It has another rate than the preset, or comes after `finish`.
        """
        if self._finished:
            raise ValueError(f"sound at {sound.start_s:.3f} s comes after the end")
        self._line.add(sound)
        if self._line.start_s is not None and len(self._firsts) != len(self._times):
            self._firsts = self._line.places(self._times) - self.preset.behind
        self._forget()

    def finish(self) -> None:
        """Say that no more sound comes: silence follows."""
        self._finished = True

    @property
    def ready(self) -> int:
        """Rows of which everything is known but which `pictures` has not given yet."""
        if self._finished:
            return len(self._times) - self._done
        heard = self._line.length - self.preset.segment
        return max(0, int(np.searchsorted(self._firsts, heard, "right")) - self._done)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows,): not before the sound begins, nor more than 0.5 s after its (present) end."""
        return self.heard(self._times)

    def heard(self, times: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say of some times, in seconds, whether they lie in the sound or 0.5 s after its end."""
        return self._line.heard(times)

    @property
    def kept(self) -> tuple[int, int]:
        """Samples and columns in memory for rows to come."""
        return self._line.kept, len(self._known.places)

    def pictures(self) -> Iterator[RowPictures]:
        """Give the rows that are ready, each once, in parts of at most 32 rows."""
        while ready := self.ready:
            first = self._done
            valid = self.heard(self._times[first : first + min(ready, ROWS)])
            if len(self._firsts):
                # Rows far apart are not computed together: the line between them may be long.
                firsts = self._firsts[first : first + len(valid)]
                valid = valid[: np.searchsorted(firsts, firsts[0] + self.preset.segment, "right")]
            self._done += len(valid)
            values = self._values(first, valid)
            self._forget()
            yield RowPictures(first, valid, values)

    def _values(self, first: int, valid: NDArray[np.bool_]) -> Tensor:
        """Compute the valid ones of consecutive rows; zeros for the others."""
        firsts = self._firsts[first : first + len(valid)]
        if valid.all():
            return self._compute(firsts)
        shape = (len(valid), 1, self.preset.mels, self.preset.columns)
        values = torch.zeros(shape, device=self._device)
        if valid.any():
            values[torch.from_numpy(valid)] = self._compute(firsts[valid])
        return values

    def _compute(self, firsts: Places) -> Tensor:
        """Segments that begin at these samples (n,) to pictures (n, 1, mels, columns)."""
        preset = self.preset
        origin = int(firsts[0]) + preset.lead
        end = int(firsts[-1]) + preset.lead + (preset.columns - 1) * preset.hop + preset.n_fft
        line = torch.from_numpy(self._line.cut(origin, end)).to(self._device)
        places = firsts[:, None] + self._steps
        fresh = self._known.missing(places)
        self._known.add(fresh, self._log_mel.columns(line, self._index(fresh - origin)))
        seen = (firsts[:, None, None] - origin + self._mirror).reshape(-1, preset.n_fft)
        edges = self._log_mel.columns(line, self._index(seen))
        inner = self._known.index(places)
        outer = len(self._known.places) + np.arange(len(edges)).reshape(len(firsts), -1)
        left, right = outer[:, : self._before], outer[:, self._before :]
        index = np.concatenate([left, inner, right], axis=1)
        columns = torch.cat([self._known.values, edges])
        return self._log_mel.pictures(columns, self._index(index))

    def _index(self, places: Places) -> Tensor:
        return torch.from_numpy(places).to(self._device)

    def _forget(self) -> None:
        """Let go of the sound and columns that no row to come needs."""
        to_come = self._firsts[self._done :]
        if len(to_come):
            self._line.keep(int(to_come[0]), int(to_come[-1]) + self.preset.segment)
        elif len(self._firsts):
            self._line.keep(0, 0)
        self._known.keep(to_come)


class _Columns:
    """Columns that several rows may need, by the place at which their samples begin."""

    def __init__(self, preset: SpectrogramPreset, device: torch.device) -> None:
        self.places: Places = np.zeros(0, np.int64)
        """(k,) ascending."""
        self.values = torch.zeros(0, preset.mels, device=device)
        """(k, mels)."""
        self._hop = preset.hop
        self._lead = preset.lead
        self._most = KEPT_SEGMENTS * preset.columns

    def missing(self, places: Places) -> Places:
        """Give those of the places that are not known, each once, ascending."""
        # Marks on the stretch of line in question: faster than sorting the places.
        origin = places.min()
        marks = np.zeros(places.max() - origin + 1, np.bool_)
        marks[places - origin] = True
        known = self.places - origin
        marks[known[(known >= 0) & (known < len(marks))]] = False
        return np.flatnonzero(marks) + origin

    def add(self, places: Places, values: Tensor) -> None:
        """Take columns (k, mels) that were missing."""
        joined = np.concatenate([self.places, places])
        order = np.argsort(joined)
        self.places = joined[order]
        self.values = torch.cat([self.values, values])[self._index(order)]

    def index(self, places: Places) -> Places:
        """Say which of the columns stand at known places."""
        return np.searchsorted(self.places, places)

    def keep(self, firsts: Places) -> None:
        """Keep what rows whose segments begin at these samples, ascending, can use."""
        if not len(self.places):
            return
        last = np.searchsorted(firsts, self.places[-1] - self._lead, "right")
        coming = firsts[:last] + self._lead
        late = self.places >= (coming[0] if len(coming) else np.inf)
        phases = np.zeros(self._hop, np.bool_)
        phases[coming % self._hop] = True
        chosen = np.flatnonzero(late & phases[self.places % self._hop])[-self._most :]
        if len(chosen) < len(self.places):
            self.places = self.places[chosen]
            self.values = self.values[self._index(chosen)]

    def _index(self, order: Places) -> Tensor:
        return torch.from_numpy(order).to(self.values.device)


def _mirrored(preset: SpectrogramPreset, columns: NDArray[np.int64]) -> Places:
    """Which samples of a segment these columns see: (columns, n_fft), mirrored at its ends."""
    seen = preset.lead + columns[:, None] * preset.hop + np.arange(preset.n_fft)
    last = preset.segment - 1
    return last - np.abs(last - np.abs(seen))
