"""Visual streams: one vector per row, from the row's picture or the clip around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import av
import numpy as np
import torch
from av import library_versions
from torch import Tensor

from ..cache import INTERPOLATED, ConfigError
from .backbones import build_backbone
from .clips import Clips
from .faces import crop_reader
from .forward import BATCHES, Forward
from .rows import new_item, row_times, settled
from .settings import WEIGHTS, backbone_of
from .weights import weights_digest
from .windows import Window, interpolated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ..cache import NewItem
    from .boxes import Box
    from .dataset import Region
    from .decoder import FrameChunk
    from .presets import Preset
    from .settings import VisualSettings
    from .windows import Fill

Place = tuple["VisualItem", int]
"""An item's row."""
VERSION = 2
DEFAULT_BATCH = 8
"""Of a backbone that is not ours."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}
"""How far features may lie apart, relative, when they are computed elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRecipe:
    """What determines a visual stream's numbers, however its rows are computed."""

    backbone: str
    variant: str
    weights: str
    """SHA-256 of the tensors."""
    code: int
    """The backbone class's own `version`: raised by hand when its code gives other numbers."""
    reads: str
    reader: str
    preset: Preset
    precision: str
    tolerance: float
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualRecipe(PictureRecipe):
    """Everything that determines the numbers of a stream of pictures or windows."""

    window: Window
    stride: int
    fill: str
    version: int = VERSION


def reader_name(reader: str = "pyav") -> str:
    """Name the reader with the version of the library that decodes underneath."""
    codec = ".".join(str(part) for part in library_versions["libavcodec"])
    plain = f"pyav {av.__version__} libavcodec {codec}"
    if reader == "pyav":
        return plain
    from importlib.metadata import version

    return f"decord {version('decord')} where its gate passes, else {plain}"


class VisualStream:
    """A frozen backbone over pictures or clips; the items of all sources share its batches."""

    def __init__(self, name: str, settings: VisualSettings, device: torch.device) -> None:
        """Load the backbone.

        Raises:
            ConfigError: Backbone, weights, window or precision are not to be had.
        """
        self.name = name
        self.reads = settings.reads
        self.reader: Literal["pyav", "decord"] = settings.reader
        self.device = device
        backbone = backbone_of(name, settings)
        network = visual_backbone(name, settings)
        self.clips = network.takes == "clips"
        self.preset = preset_of(network, settings)
        self.window, self.stride = self._windows(network, settings)
        self.fill: Fill = settings.fill
        self.dim: int = network.dim
        known: dict[str, Any] = {
            "backbone": backbone,
            "variant": settings.variant if backbone == "i3d" else "",
            "weights": weights_digest(network),
            "code": int(getattr(network, "version", 1)),
            "reads": settings.reads,
            "reader": crop_reader() if settings.reads == "faces" else reader_name(settings.reader),
            "preset": self.preset,
            "precision": settings.precision,
            "tolerance": TOLERANCE[settings.precision],
            "dtype": settings.dtype,
        }
        self.recipe = self._recipe(known, settings.fill if self.stride > 1 else "")
        self._batch = BATCHES.get(backbone, DEFAULT_BATCH)
        self._forward = self._made_fast(network, settings)
        self._waiting: list[tuple[VisualItem, int, Tensor, Tensor | None]] = []
        self._running: tuple[list[Place], Callable[[], Tensor]] | None = None

    def _windows(self, network: Any, settings: VisualSettings) -> tuple[Window, int]:
        """Give the window of a row, and the rows from one that is computed to the next."""
        return window_of(self.name, network, settings), settings.stride

    def _recipe(self, known: dict[str, Any], fill: str) -> PictureRecipe:
        return VisualRecipe(**known, window=self.window, stride=self.stride, fill=fill)

    def _made_fast(self, network: Any, settings: VisualSettings) -> Forward:
        return Forward(network, self.preset, self._batch, self.device, settings.precision)

    def begin(
        self,
        key: str,
        track: str,
        rows: int,
        region: Region = "whole",
        boxes: Mapping[int, Box] | None = None,
        wanted: frozenset[int] | None = None,
    ) -> VisualItem:
        """Begin an item whose pictures will come in order.

        Args:
            key: The item's key.
            track: The track's name.
            rows: Rows of the track.
            region: The part of each picture that shows the person.
            boxes: Row to the part of its picture that does.
            wanted: Rows that are computed; by default every `stride`-th.
        """
        item = VisualItem(self, key, track, rows, region, boxes)
        if wanted is not None:
            item.only(wanted)
        return item

    def submit(self, item: VisualItem, row: int, clip: Tensor, zeros: Tensor | None) -> None:
        """Take the clip of a row, and compute when a batch is full.

        Args:
            item: Whose row it is.
            row: The row.
            clip: (3, crop, crop) or (3, T, crop, crop) uint8.
            zeros: (T,) frames that are zero after normalisation; None for none.
        """
        self._waiting.append((item, row, clip, zeros))
        if len(self._waiting) == self._batch:
            self._compute()

    def _compute(self) -> None:
        """Begin a batch; a GPU works on it while the next one is made."""
        waiting, self._waiting = self._waiting, []
        clips = torch.stack([clip for _, _, clip, _ in waiting])
        blank = None
        if any(zeros is not None for *_, zeros in waiting):
            none = torch.zeros(self.window.length, dtype=torch.bool)
            blank = torch.stack([none if zeros is None else zeros for *_, zeros in waiting])
        self._run([(item, row) for item, row, *_ in waiting], self._forward.submit(clips, blank))

    def _run(self, places: list[Place], result: Callable[[], Tensor]) -> None:
        """Let a pass run whose result has a vector for each place, once the one before is taken."""
        self._take_running()
        self._running = places, result
        if self.device.type == "cpu":
            self._take_running()

    def _take_running(self) -> None:
        if self._running is None:
            return
        (places, result), self._running = self._running, None
        for (item, row), values in zip(places, result().numpy(), strict=True):
            item.take(row, values)

    def flush(self) -> None:
        """Compute what waits, though it does not fill a batch."""
        if self._waiting:
            self._compute()
        self._take_running()

    def forget(self, item: VisualItem) -> None:
        """Drop what waits of an item that is given up."""
        self._waiting = [waiting for waiting in self._waiting if waiting[0] is not item]


class VisualItem:
    """One track's rows in the making, fed with decoded pictures."""

    def __init__(
        self,
        stream: VisualStream,
        key: str,
        track: str,
        rows: int,
        region: Region,
        boxes: Mapping[int, Box] | None,
    ) -> None:
        self.key = key
        self.track = track
        self._stream = stream
        self._rows = rows
        self._times: NDArray[np.float64] = np.empty(0)
        self._values = np.zeros((rows, stream.dim), np.float32)
        self._own = np.zeros(rows, np.bool_)
        self._computed: set[int] = set()
        self._open = 0
        self._next = 0
        self._ended = False
        self._clips = Clips(stream.preset, stream.window, stream.stride, stream.device)
        self._clips.part(region, boxes)
        self._wanted: frozenset[int] | None = None

    def only(self, wanted: frozenset[int]) -> None:
        """Choose the rows that are computed; unless rows are interpolated, others have no value."""
        self._wanted = wanted
        self._clips.only(wanted)

    def _is_computed(self, row: int) -> bool:
        return row % self._stream.stride == 0 if self._wanted is None else row in self._wanted

    def begin(self, times: NDArray[np.float64]) -> None:
        """Take the times of all frames, (frames,) seconds."""
        self._times = times

    def add(self, chunk: FrameChunk) -> None:
        """Take the next pictures; those beyond the track's rows are dropped."""
        inside = int(np.searchsorted(chunk.numbers, self._rows))
        if not inside:
            return
        shown = self._clips.add(chunk.numbers[:inside], chunk.images[:inside])
        self._own[shown] = True
        self._submit_ready()

    def _submit_ready(self) -> None:
        """Submit the rows whose windows are complete wherever the file ends."""
        window = self._stream.window
        while window.last_needed(self._next) < self._clips.seen:
            if self._is_computed(self._next) and self._own[self._next]:
                self._submit(self._next)
            self._next += 1
        self._clips.drop_before(window.first_kept(self._next, self._clips.seen))

    def _submit(self, row: int) -> None:
        wanted = self._stream.window.numbers(row, self._clips.seen)
        clip, blank = self._clips.clip(wanted, row)
        self._computed.add(row)
        self._open += 1
        zeros = blank if self._stream.window.edge == "zero" and bool(blank.any()) else None
        self._stream.submit(self, row, clip if self._stream.clips else clip[:, 0], zeros)

    def end(self) -> None:
        """Take note that no more pictures come: the last windows end at the edge."""
        self._ended = True
        rows = np.flatnonzero(self._own)
        for row in rows[rows >= self._next].tolist():
            # The last row is computed whatever the stride, so that none is extrapolated.
            if self._is_computed(row) or row == rows[-1]:
                self._submit(row)
        if len(rows) and int(rows[-1]) not in self._computed:
            self._submit(int(rows[-1]))
        self._clips.clear()

    def take(self, row: int, values: NDArray[np.float32]) -> None:
        """Take the features of a row."""
        self._values[row] = values
        self._open -= 1

    @property
    def empty(self) -> bool:
        """Not a single picture has come."""
        return not self._own.any()

    @property
    def done(self) -> bool:
        """Everything has come, and was computed."""
        return self._ended and not self._open

    def item(self) -> NewItem:
        """Fit what was computed to the track's rows."""
        # Face crops carry no clock.
        none = np.full(self._rows, np.nan)
        times = row_times(self._times, self._rows) if len(self._times) else none
        computed = np.zeros(self._rows, np.bool_)
        computed[list(self._computed)] = True
        own = computed if self._stream.stride == 1 else self._own
        values, valid, flags = settled(self._filled(times), own, times)
        flags[own & ~computed] |= INTERPOLATED
        dtype = self._stream.recipe.dtype
        return new_item(self.key, self.track, values, valid, times, flags, dtype)

    def _filled(self, times: NDArray[np.float64]) -> NDArray[np.float32]:
        if self._stream.stride == 1:
            return self._values
        anchors = self._anchors()
        # Without a clock a row is a unit of time.
        clock = times if np.isfinite(times).all() else np.arange(self._rows, dtype=np.float64)
        return interpolated(self._values[anchors], anchors, clock, self._stream.fill)

    def _anchors(self) -> NDArray[np.int64]:
        """Give the rows that others are interpolated from."""
        return np.array(sorted(self._computed), np.int64)


def visual_backbone(name: str, settings: VisualSettings) -> Any:
    """Build the backbone that a stream's settings name.

    Raises:
        ConfigError: Backbone or weights are not to be had, or it does not take pictures.
    """
    backbone = backbone_of(name, settings)
    options = {"variant": settings.variant} if backbone == "i3d" else {}
    weights = settings.weights or WEIGHTS.get(backbone, "")
    if not weights:
        raise ConfigError(f"{name}: weights: backbone {backbone!r} needs a file, or seeded[:N]")
    network: Any = build_backbone(backbone, weights, **options)
    if network.takes not in ("pictures", "clips"):
        raise ConfigError(f"{name}: backbone {backbone!r} takes {network.takes}, not pictures")
    return network


def preset_of(network: Any, settings: VisualSettings) -> Preset:
    """Give a network's preset with the sizes that a stream's settings ask for."""
    own = {"resize": settings.resize, "crop": settings.crop}
    return replace(network.preset, **{name: value for name, value in own.items() if value})


def window_of(name: str, network: Any, settings: VisualSettings) -> Window:
    """Give the window of a stream's clips; of pictures it is one frame.

    Raises:
        ConfigError: More frames are asked for than a network of pictures takes.
    """
    asked = settings.window
    if network.takes != "clips":
        if asked.length > 1:
            raise ConfigError(f"{name}: window.length: a backbone of pictures takes 1 frame")
        return Window()
    length = asked.length or network.clip
    return Window(length=length, spacing=asked.spacing, anchor=asked.anchor, edge=asked.edge)
