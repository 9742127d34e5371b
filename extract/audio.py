"""Audio streams: one vector per row from the spectrogram of the sound around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..cache import INTERPOLATED, ConfigError, MediaError
from .backbones import build_backbone, weights_digest
from .forward import Forward
from .row_spectrograms import RowSpectrograms
from .rows import new_item, row_times
from .settings import backbone_of
from .spectrogram import PRESETS, SpectrogramPreset
from .visual import reader_name
from .windows import interpolated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import NewItem
    from .settings import AudioSettings
    from .sound_line import Stretch
    from .windows import Fill

VERSION = 2
BATCH = 32
"""Pictures per forward pass, always: the last batch is padded, so that a resumed run computes
each row in the same shape as an undisturbed one and gets the same numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioRecipe:
    """Everything that determines an audio stream's numbers."""

    backbone: str
    weights: str
    """SHA-256 of the tensors."""
    reader: str
    spectrogram: SpectrogramPreset
    stride: int
    fill: str
    dtype: str
    channels: str = "mean"
    precision: str = "float32"
    version: int = VERSION


class AudioStream:
    """A frozen one-channel backbone over log-mel spectrograms."""

    reads = "sound"

    def __init__(self, name: str, settings: AudioSettings, device: torch.device) -> None:
        """Load the backbone.

        Raises:
            ConfigError: Backbone or weights are not to be had.
        """
        self.name = name
        self.preset = PRESETS[settings.spectrogram]
        self.device = device
        self.stride = settings.stride
        self.fill: Fill = settings.fill
        network = audio_backbone(name, settings)
        self.dim: int = network.dim
        """Length of a feature vector."""
        self.recipe = AudioRecipe(
            backbone=backbone_of(name, settings),
            weights=weights_digest(network),
            reader=reader_name(),
            spectrogram=self.preset,
            stride=settings.stride,
            fill=settings.fill if settings.stride > 1 else "",
            dtype=settings.dtype,
        )
        self._forward = Forward(network, network.preset, BATCH, device)

    def begin(
        self,
        key: str,
        track: str,
        rows: int,
        frame_times: NDArray[np.float64] | None = None,
    ) -> AudioItem:
        """Begin an item whose sound will come in order.

        Args:
            key: The item's key.
            track: The track's name.
            rows: Rows of the track.
            frame_times: The times that rows lie at, where they are known; otherwise the item's
                `begin` takes them before any sound.
        """
        item = AudioItem(self, key, track, rows)
        if frame_times is not None:
            item.begin(frame_times)
        return item

    def features(self, pictures: Tensor) -> NDArray[np.float32]:
        """(B ≤ 32, 1, mels, columns) to (B, dim)."""
        return self._forward(pictures).numpy()


def audio_backbone(name: str, settings: AudioSettings) -> Any:
    """Build the backbone that a stream's settings name.

    Raises:
        ConfigError: Backbone or weights are not to be had, or it does not take spectrograms.
    """
    backbone = backbone_of(name, settings)
    # It also is a backbone for pictures; the others take spectrograms or do not.
    options = {"channels": 1, "stem": settings.stem} if backbone == "resnet18" else {}
    network: Any = build_backbone(backbone, settings.weights, **options)
    if network.takes != "spectrograms":
        raise ConfigError(f"{name}: backbone {backbone!r} takes {network.takes}, not spectrograms")
    return network


class AudioItem:
    """One track's rows in the making, fed with decoded sound."""

    def __init__(self, stream: AudioStream, key: str, track: str, rows: int) -> None:
        self.key = key
        self.track = track
        self._stream = stream
        self._rows = rows
        self._times = np.zeros(0)
        self._anchors = np.zeros(0, np.int64)
        self._spectrograms: RowSpectrograms | None = None
        self._waiting: list[Tensor] = []
        self._features: list[NDArray[np.float32]] = []
        self._ended = False

    def begin(self, times: NDArray[np.float64]) -> None:
        """Take the times of all frames of the source: (frames,) seconds, ascending, at least one.

        Raises:
            MediaError: They do not ascend.
        """
        self._times = row_times(times, self._rows)
        # The last row is computed whatever the stride, so that none is extrapolated.
        self._anchors = np.unique([*range(0, self._rows, self._stream.stride), self._rows - 1])
        at, device = self._times[self._anchors], self._stream.device
        try:
            self._spectrograms = RowSpectrograms(self._stream.preset, at, device)
        except ValueError as error:
            raise MediaError(f"{self.track}: {error}") from error

    def add(self, chunk: Stretch) -> None:
        """Take the next stretch of sound: mono, at the preset's rate.

        Raises:
            ValueError: It has another rate, or the times have not come.
        """
        spectrograms = self._begun()
        spectrograms.feed(chunk)
        self._compute(spectrograms)

    def end(self) -> None:
        """Take note that no more sound comes, and compute what is left.

        Raises:
            ValueError: The times have not come.
        """
        spectrograms = self._begun()
        spectrograms.finish()
        self._compute(spectrograms)
        if self._waiting:
            self._forward()
        self._ended = True

    @property
    def empty(self) -> bool:
        """The times have not come; without sound there still is an item, of invalid rows."""
        return self._spectrograms is None

    @property
    def done(self) -> bool:
        """Everything has come, and was computed."""
        return self._ended

    def item(self) -> NewItem:
        """Give the item, after the end.

        Rows before the sound begins or over 0.5 s after its end are invalid, and so are all of
        them where no sound came; their values are zeros.
        """
        spectrograms = self._begun()
        valid = spectrograms.heard(self._times)
        values = np.zeros((self._rows, self._stream.dim), np.float32)
        computed = self._anchors[spectrograms.valid]
        if self._features:
            known = np.concatenate(self._features)
            values = interpolated(known, computed, self._times, self._stream.fill)
        flags = np.where(valid, INTERPOLATED, 0).astype(np.uint8)
        flags[computed] = 0
        dtype = self._stream.recipe.dtype
        return new_item(self.key, self.track, values, valid, self._times, flags, dtype)

    def finish(self) -> NewItem:
        """End, and give the item."""
        self.end()
        return self.item()

    def _begun(self) -> RowSpectrograms:
        if self._spectrograms is None:
            raise ValueError(f"{self.track}: the times of the frames must come before the sound")
        return self._spectrograms

    def _compute(self, spectrograms: RowSpectrograms) -> None:
        for pictures in spectrograms.pictures():
            self._waiting.extend(pictures.values[torch.from_numpy(pictures.valid)])
            if len(self._waiting) >= BATCH:
                self._forward()

    def _forward(self) -> None:
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        self._features.append(self._stream.features(torch.stack(batch)))
