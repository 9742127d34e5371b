"""Audio streams: one vector per row from the spectrogram of the sound that ends there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .backbones import build_backbone, weights_digest
from .rows import REPEAT_SECONDS, new_item, row_times
from .spectrogram import PRESETS, LogMel, SpectrogramPreset, Waveform, segments
from .visual import BATCH, reader_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import NewItem
    from .settings import AudioSettings

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioRecipe:
    """Everything that determines an audio stream's numbers."""

    backbone: str
    weights: str
    """SHA-256 of the tensors."""
    reader: str
    spectrogram: SpectrogramPreset
    dtype: str
    channels: str = "mean"
    precision: str = "float32"
    version: int = VERSION


class AudioStream:
    """A frozen one-channel backbone over log-mel spectrograms."""

    reads = "sound"

    def __init__(self, name: str, settings: AudioSettings, device: torch.device) -> None:
        self.name = name
        self.preset = PRESETS[settings.spectrogram]
        self._device = device
        network = build_backbone(settings.backbone, settings.weights, channels=1)
        self.recipe = AudioRecipe(
            backbone=settings.backbone,
            weights=weights_digest(network),
            reader=reader_name(),
            spectrogram=self.preset,
            dtype=settings.dtype,
        )
        self._network = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._log_mel = LogMel(self.preset).to(device)

    def item(
        self,
        key: str,
        track: str,
        rows: int,
        waveform: Waveform,
        frame_times: NDArray[np.float64],
    ) -> NewItem:
        """Make an item; rows before the sound begins or over 0.5 s after its end are invalid.

        Args:
            key: The item's key.
            track: The track's name.
            rows: Rows of the track.
            waveform: The source's sound.
            frame_times: (frames,) seconds, at least one: the times that rows lie at.
        """
        times = row_times(frame_times, rows)
        valid = (times >= waveform.start_s) & (times <= waveform.end_s + REPEAT_SECONDS)
        parts = [
            self._features(waveform, times[first : first + BATCH])
            for first in range(0, rows, BATCH)
        ]
        values = np.concatenate(parts)
        return new_item(key, track, values, valid, times, dtype=self.recipe.dtype)

    @torch.inference_mode()
    def _features(self, waveform: Waveform, times: NDArray[np.float64]) -> NDArray[np.float32]:
        sound = segments(waveform, times, self.preset.segment)
        batch = torch.zeros(BATCH, self.preset.segment, device=self._device)
        batch[: len(sound)] = sound.to(self._device)
        pictures = self._log_mel(batch).contiguous(memory_format=torch.channels_last)
        return self._network(pictures)[: len(sound)].cpu().numpy()
