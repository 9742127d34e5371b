"""Dense streams: a clip backbone over whole tracks instead of one window per row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import ConfigError
from .dense import CHUNK_CELLS, LONE_CHUNK_CELLS, Passes, Support
from .forward import Forward
from .settings import backbone_of, check_dense
from .visual import PictureRecipe, VisualItem, VisualStream
from .windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from .boxes import Box
    from .dataset import Region
    from .dense import Chunk
    from .settings import VisualSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseRecipe(PictureRecipe):
    """Everything that determines a dense stream's numbers."""

    dense: int
    edge: str
    fill: str
    version: int = 1


class DenseStream(VisualStream):
    """A frozen backbone of clips that runs over whole tracks, chunk by chunk."""

    def __init__(self, name: str, settings: VisualSettings, device: torch.device) -> None:
        """Load the backbone.

        Raises:
            ConfigError: Backbone, weights or precision are not to be had, the backbone does not
                run over whole tracks, or a setting has no meaning for one that does.
        """
        check_dense(name, backbone_of(name, settings), settings)
        self.count = settings.window.dense
        super().__init__(name, settings, device)

    def _windows(self, network: Any, settings: VisualSettings) -> tuple[Window, int]:
        """Give a window that wants every frame, and the rows from one cell to the next."""
        support: Any = getattr(network, "support", None)
        fits = isinstance(support, Support) and not support.step % self.count
        if not (fits and self.clips and hasattr(network, "sections")):
            raise ConfigError(
                f"{self.name}.window.dense: {type(network).__name__} does not run over whole "
                f"tracks; expected a backbone of clips with `sections` and a `support` whose step "
                f"{self.count} divides, found support {support!r}; leave dense out"
            )
        cells = CHUNK_CELLS if self.count > 1 else LONE_CHUNK_CELLS
        self.passes = Passes(support, self.count, cells)
        window = Window(length=support.step, anchor="start", edge=settings.window.edge)
        return window, self.passes.spacing

    def _recipe(self, known: dict[str, Any], fill: str) -> DenseRecipe:
        return DenseRecipe(**known, dense=self.count, edge=self.window.edge, fill=fill)

    def _made_fast(self, network: Any, settings: VisualSettings) -> Forward:
        return Forward(network, self.preset, 1, self.device, settings.precision, self.passes)

    def begin(
        self,
        key: str,
        track: str,
        rows: int,
        region: Region = "whole",
        boxes: Mapping[int, Box] | None = None,
        wanted: frozenset[int] | None = None,  # noqa: ARG002 - a pass gives all rows
    ) -> DenseItem:
        """Begin an item whose pictures will come in order; all its rows get values."""
        return DenseItem(self, key, track, rows, region, boxes)

    def submit_chunk(
        self, item: DenseItem, rows: Sequence[int], context: int, clip: Tensor, zeros: Tensor | None
    ) -> None:
        """Compute a chunk; a GPU works on it while the next one is made.

        Args:
            item: Whose rows they are.
            rows: The rows of its cells.
            context: Cells before the first of these.
            clip: (3, T, crop, crop) uint8.
            zeros: (T,) frames that are zero after normalisation; None for none.
        """
        result = self._forward.submit(clip[None], None if zeros is None else zeros[None])
        kept = slice(context, context + len(rows))
        self._run([(item, row) for row in rows], lambda: result()[0, kept])


class DenseItem(VisualItem):
    """One track's rows in the making, a chunk at a time.

    A missing frame is stood for as in a window, so a cell that is centred on one is as good as any
    other for the rows around it; its own row is invalid all the same.
    """

    def __init__(
        self,
        stream: DenseStream,
        key: str,
        track: str,
        rows: int,
        region: Region,
        boxes: Mapping[int, Box] | None,
    ) -> None:
        super().__init__(stream, key, track, rows, region, boxes)
        self._dense = stream
        self._chunks = 0

    def _submit_ready(self) -> None:
        """Submit the chunks that are complete wherever the file ends, once a frame has come."""
        if self.empty:
            return
        passes = self._dense.passes
        while chunk := passes.chunk(self._chunks, self._clips.seen, ended=False):
            self._submit_chunk(chunk)
        self._clips.drop_before(passes.first_frame(self._chunks))

    def _submit_chunk(self, chunk: Chunk) -> None:
        window = replace(self._dense.window, length=chunk.frames)
        wanted = window.numbers(chunk.first_frame, self._clips.seen)
        clip, blank = self._clips.clip(wanted, self._clips.latest)
        rows = range(chunk.first_row, self._clips.seen, self._dense.stride)[: chunk.cells]
        self._computed.update(row for row in rows if self._own[row])
        self._open += len(rows)
        self._chunks += 1
        zeros = blank if window.edge == "zero" and bool(blank.any()) else None
        self._dense.submit_chunk(self, rows, chunk.context, clip, zeros)

    def end(self) -> None:
        """Take note that no more pictures come: the last chunk ends at the edge."""
        self._ended = True
        if not self.empty:
            chunk = self._dense.passes.chunk(self._chunks, self._clips.seen, ended=True)
            assert chunk is not None, "what is left is a chunk"
            self._submit_chunk(chunk)
        self._clips.clear()

    def _anchors(self) -> NDArray[np.int64]:
        """Give all rows that have a cell."""
        return np.arange(0, self._clips.seen, self._dense.stride)
