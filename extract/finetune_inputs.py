"""From samples to a backbone's inputs: augmented while it learns, normalised, on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .augment import (
    PictureDraw,
    augment_pictures,
    augment_spectrograms,
    draw_picture,
    draw_sound,
    generator,
)
from .forward import as_mask, memory_format
from .settings import AudioSettings
from .spectrogram import PRESETS
from .visual import preset_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .finetune_problem import Problem
    from .loading import Batch


class Inputs:
    """Makes the network's inputs of batches."""

    def __init__(self, problem: Problem, device: torch.device) -> None:
        self._settings, self._device = problem.settings, device
        self._layout = memory_format(problem.network, device)
        own = problem.stream_settings
        sound = isinstance(own, AudioSettings)
        self._preset = None if sound else preset_of(problem.network, own)
        self._spectrogram = PRESETS[own.spectrogram] if sound else None
        shift = self._settings.shift
        self.margin = 0 if self._preset is None else round(shift * self._preset.crop)
        """Pixels by which the crop may move."""

    def __call__(self, batch: Batch, epoch: int | None = None) -> Tensor:
        """Give what the network takes.

        Args:
            batch: Samples.
            epoch: Whose augmentation is drawn; None for none.
        """
        values = batch.values.to(self._device)
        if self._preset is None:
            x = values if epoch is None else self._sound(values, batch, epoch)
            return x.contiguous(memory_format=self._layout)
        draws = [PictureDraw()] * len(values) if epoch is None else self._draws(batch, epoch)
        x = self._preset.normalise(augment_pictures(values, draws, self._preset.crop))
        if batch.zeros is not None:
            x.masked_fill_(as_mask(batch.zeros, x), 0)
        return x.contiguous(memory_format=self._layout)

    def _draws(self, batch: Batch, epoch: int) -> list[PictureDraw]:
        seed = self._settings.seed
        return [draw_picture(self._settings, generator(seed, epoch, k)) for k in batch.numbers]

    def _sound(self, values: Tensor, batch: Batch, epoch: int) -> Tensor:
        assert self._spectrogram is not None
        mels, columns = values.shape[2:]
        seed = self._settings.seed
        draws = [
            draw_sound(self._settings, mels, columns, generator(seed, epoch, k))
            for k in batch.numbers
        ]
        return augment_spectrograms(values, draws, self._spectrogram)
