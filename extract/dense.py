"""Dense passes: a clip network over a whole track at once, cut into chunks that overlap exactly.

A window's clip is computed anew for every row. Here the network's convolutions run once over the
track, and each of its cells, one per `step` frames, is the vector of the row that it is centred on.
Several passes, each begun some frames later, give cells for the rows between; they share whatever
lies before the network's own steps in time, so that eight of them cost two to three times what one
does. A chunk is extended by all that its cells see, so that chunks give the numbers of one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK_CELLS = 32
"""Cells of a chunk, for each of several passes: more take more memory (1.5 to 2 GB at 224 pixels
of I3D and 112 of R3D-18), fewer see more frames twice."""
LONE_CHUNK_CELLS = 48
"""The same of one pass, which has fewer maps in memory at once."""


@dataclass(frozen=True, slots=True)
class Support:
    """The frames that a network's cells see, where no edge is near.

    Cell j sees frames `step` j - `before` to `step` j + `after`; the energy of its gradient is
    centred on frame `step` j + `centre`, to which its vector belongs.
    """

    step: int
    before: int
    after: int
    centre: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some cells of a track, and the frames that they are computed from."""

    first_row: int
    """The row of the first cell; the others follow every `Passes.spacing` rows."""
    cells: int
    """How many, of all passes together."""
    context: int
    """Cells that the frames give before the first, and that are dropped."""
    first_frame: int
    """Below 0 where the passes begin before the track does."""
    frames: int


@dataclass(frozen=True, slots=True)
class Passes:
    """Dense passes over a track of any length, and how they are cut into chunks.

    The passes begin `centre` frames before the track, so that the first cell is centred on row 0,
    and end with a whole cell, not before the track does: at both ends a few frames are filled by
    the rule of edges, as in windows, and beyond these come the zeros that the network itself pads
    with. A whole number of cells also means that TensorFlow's padding, which looks at the length,
    is the same for every track and every chunk.
    """

    support: Support
    count: int
    """Passes: a divisor of the network's step."""
    chunk_cells: int

    @property
    def spacing(self) -> int:
        """Rows from one cell to the next."""
        return self.support.step // self.count

    def first_frame(self, number: int) -> int:
        """Give the first frame that a chunk is computed from; below 0, where the passes begin."""
        seen_before = -(-self.support.before // self.support.step)
        begin = max(0, number * self.chunk_cells - seen_before)
        return self.support.step * begin - self.support.centre

    def chunk(self, number: int, frames: int, *, ended: bool) -> Chunk | None:
        """Give a chunk, if the frames that it takes are there.

        Args:
            number: 0 for the first chunk.
            frames: Frames of the track that have come, at least one.
            ended: Whether these are all; then the chunk takes what is left of the track.
        """
        step, centre = self.support.step, self.support.centre
        first, first_frame = number * self.chunk_cells, self.first_frame(number)
        if ended:
            # Every frame is seen, though the last cell's row may then lie beyond the track.
            stop = end = -(-(frames + max(0, centre + self.spacing - step)) // step)
        else:
            stop = first + self.chunk_cells
            end = stop + -(-(self.support.after + 1 - step) // step)
        stop_frame = step * end - centre + step - self.spacing
        if not ended and stop_frame > frames:
            return None
        return Chunk(
            first_row=step * first,
            cells=self.count * (stop - first),
            context=self.count * (first - (first_frame + centre) // step),
            first_frame=first_frame,
            frames=stop_frame - first_frame,
        )

    def __call__(self, network: Any, x: Tensor) -> Tensor:
        """Compute the passes over a clip; the steps of the last layers are shared out to them.

        Where a layer would take every second position, it is also given those between, wherever
        the passes differ. Near the clip's ends the zeros that the network pads with begin at the
        same frame for all passes.

        Args:
            network: A backbone with `sections`.
            x: (1, 3, T, H, W), T = `step` n + `step` - `spacing`.

        Returns:
            (1, n `count`, dim), the cells of all passes in the order of their rows.
        """
        left, maps = self.support.step, [x]
        for step, section in network.sections():
            if left <= self.count:
                maps = [m[:, :, p : m.shape[2] - step + 1 + p] for p in range(step) for m in maps]
            maps = [section(m) for m in maps]
            left //= step
        return torch.stack([m.mean(dim=(3, 4)) for m in maps], dim=-1).flatten(2).transpose(1, 2)
