"""Augmentation: drawn once per clip or spectrogram, from a seed and the sample's place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .finetune_settings import FinetuneSettings
    from .spectrogram import SpectrogramPreset

GREY = (0.299, 0.587, 0.114)
"""Luma of red, green and blue (ITU-R BT.601)."""
Span = tuple[int, int]
"""First and number of bands or columns."""
BENDS = 3
"""Places between the outermost bands at which a filter's course may change."""


def generator(seed: int, epoch: int, place: int) -> np.random.Generator:
    """Give the random numbers of one sample of an epoch, whatever batch it comes in."""
    return np.random.default_rng([seed, epoch, place])


@dataclass(frozen=True, slots=True)
class PictureDraw:
    """What happens to all frames of a clip alike."""

    flip: bool = False
    down: float = 0.0
    """Where the crop lies: -1 at the upper end of what it may move, 1 at the lower."""
    right: float = 0.0
    brightness: float = 1.0
    """Factors; 1 changes nothing."""
    contrast: float = 1.0
    saturation: float = 1.0


def draw_picture(settings: FinetuneSettings, rng: np.random.Generator) -> PictureDraw:
    """Draw for one picture or clip."""
    chance, down, right, *colours = rng.random(6).tolist()
    most = settings.jitter
    return PictureDraw(
        chance < settings.flip,
        2 * down - 1,
        2 * right - 1,
        *(1 + most * (2 * colour - 1) for colour in colours),
    )


def augment_pictures(clips: Tensor, draws: Sequence[PictureDraw], side: int) -> Tensor:
    """Crop, mirror and colour each clip as drawn for it.

    Args:
        clips: (n, 3, …, wide, wide) uint8.
        draws: n of them; the plain `PictureDraw()` gives the centre crop as it is.
        side: Pixels of the crop.

    Returns:
        (n, 3, …, side, side) float32 from 0 to 255.
    """
    pairs = zip(clips, draws, strict=True)
    moved = torch.stack([_moved(clip, draw, side) for clip, draw in pairs]).float()
    if all(draw.brightness == draw.contrast == draw.saturation == 1 for draw in draws):
        return moved
    shape = (-1, *[1] * (moved.ndim - 1))
    colours = torch.tensor(
        [[draw.brightness, draw.contrast, draw.saturation] for draw in draws], device=clips.device
    )
    brightness, contrast, saturation = (column.view(shape) for column in colours.unbind(1))
    bright = (moved * brightness).clamp_(0, 255)
    # The mean over all frames: one that follows each would make the clip flicker.
    mean = _grey(bright).flatten(1).mean(1).view(shape)
    contrasted = mean + contrast * (bright - mean)
    grey = _grey(contrasted)
    return (grey + saturation * (contrasted - grey)).clamp_(0, 255)


def _moved(clip: Tensor, draw: PictureDraw, side: int) -> Tensor:
    margin = (clip.shape[-1] - side) // 2
    top, left = (margin + round(margin * share) for share in (draw.down, draw.right))
    cut = clip[..., top : top + side, left : left + side]
    return cut.flip(-1) if draw.flip else cut


def _grey(clips: Tensor) -> Tensor:
    """(n, 3, …) to (n, 1, …)."""
    weights = torch.tensor(GREY, device=clips.device).view(-1, *[1] * (clips.ndim - 2))
    return (clips * weights).sum(1, keepdim=True)


@dataclass(frozen=True, slots=True)
class SoundDraw:
    """What happens to a spectrogram."""

    gain: float = 0.0
    """Decibels."""
    bands: Span = (0, 0)
    """Masked."""
    columns: Span = (0, 0)
    """Masked."""
    raised: int = 0
    """Bands by which all that is heard moves up; down where negative."""
    filter: tuple[tuple[float, float], ...] = ()
    """Places among the bands, ascending, and the decibels that are added there."""


def draw_sound(
    settings: FinetuneSettings, mels: int, columns: int, rng: np.random.Generator
) -> SoundDraw:
    """Draw a gain, two masks, a shift over bands, and a filter.

    Each mask's width is drawn evenly from 0 to the widest, its place evenly from where it fits
    (SpecAugment: Park et al., 2019). The filter is a line with some bends, drawn evenly in place
    and height (FilterAugment, linear: Nam et al., 2022).
    """
    gain = settings.gain * float(rng.uniform(-1, 1))
    bands = _span(mels, settings.frequency_mask, rng)
    span = _span(columns, settings.time_mask, rng)
    most = int(settings.pitch * mels)
    raised = int(rng.integers(-most, most, endpoint=True))
    places = [0.0, *sorted(rng.uniform(0, mels - 1, BENDS).tolist()), mels - 1.0]
    heights = (settings.filter * rng.uniform(-1, 1, len(places))).tolist()
    return SoundDraw(gain, bands, span, raised, tuple(zip(places, heights, strict=True)))


def _span(size: int, share: float, rng: np.random.Generator) -> Span:
    width = int(rng.integers(0, int(share * size), endpoint=True))
    return int(rng.integers(0, size - width, endpoint=True)), width


def augment_spectrograms(
    pictures: Tensor, draws: Sequence[SoundDraw], preset: SpectrogramPreset
) -> Tensor:
    """Make sound higher or lower, louder or softer, then put 0, the corpus' mean, in the masks.

    Bands that move in from beyond the outermost one repeat it. A gain or filter adds the same to
    every cell of a band on a logarithmic scale; what an offset or a floor does near silence is
    left out.

    Args:
        pictures: (n, 1, mels, columns), not changed.
        draws: n of them.
        preset: How they were made.

    Returns:
        The same shape.
    """
    return torch.stack(
        [_sounded(each, draw, preset) for each, draw in zip(pictures, draws, strict=True)]
    )


def _sounded(picture: Tensor, draw: SoundDraw, preset: SpectrogramPreset) -> Tensor:
    """Augment one spectrogram, (1, mels, columns)."""
    mels = np.arange(picture.shape[1])
    below = torch.from_numpy((mels - draw.raised).clip(0, len(mels) - 1))
    levels = np.full(len(mels), draw.gain)
    if draw.filter:
        places, heights = zip(*draw.filter, strict=True)
        levels += np.interp(mels, places, heights)
    added = torch.from_numpy(levels * decibel(preset)).to(picture)
    heard = picture[:, below.to(picture.device)] + added[:, None]
    (band, bands), (column, columns) = draw.bands, draw.columns
    heard[:, band : band + bands] = 0
    heard[:, :, column : column + columns] = 0
    return heard


def decibel(preset: SpectrogramPreset) -> float:
    """Say how much a decibel is in a preset's normalised pictures."""
    # Natural logarithms of magnitudes (power 1) or of powers (2).
    unit = 1.0 if preset.scale == "decibel" else preset.power * math.log(10) / 20
    return unit / preset.std
