"""Presets: how a picture becomes what a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.transforms import functional as F  # noqa: N812

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Preset:
    """Resizing, cropping and normalisation; equal to torchvision's presets on uint8 tensors.

    torchvision's older transforms are used on purpose: they interpolate in float and round,
    while the newer ones take another path, with other roundings, where a processor has AVX2.
    """

    resize: int | tuple[int, int]
    """Shorter side in pixels, or exactly (height, width) whatever the aspect ratio."""
    antialias: bool
    crop: int
    """Side of the centre crop in pixels; smaller pictures get black borders."""
    mean: tuple[float, ...]
    """Per channel, of values in [0, 1]."""
    std: tuple[float, ...]

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 to (B, 3, crop, crop) uint8: bilinear resize, centre crop."""
        size = [self.resize] if isinstance(self.resize, int) else list(self.resize)
        sized = F.resize(images, size, antialias=self.antialias)
        return F.center_crop(sized, [self.crop, self.crop])

    def normalise(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, 3, …) uint8, pictures or clips, to `dtype`: (value / 255 - mean) / std.

        The arithmetic is in float32, in torchvision's order, and the memory format stays.
        """
        shape = (-1, *([1] * (images.ndim - 2)))
        mean = torch.tensor(self.mean, device=images.device).view(shape)
        std = torch.tensor(self.std, device=images.device).view(shape)
        return images.float().div_(255).sub_(mean).div_(std).to(dtype)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "imagenet": Preset(256, True, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "kinetics112": Preset(
            # The weights were trained on pictures without antialias.
            (128, 171),
            False,
            112,
            (0.43216, 0.394666, 0.37645),
            (0.22803, 0.22145, 0.216989),
        ),
        "i3d": Preset(256, True, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    }
)
"""`imagenet` for ResNet18, `kinetics112` for torchvision's clip networks, `i3d` for [-1, 1]."""
