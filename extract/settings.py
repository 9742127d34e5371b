"""What a user may set of a stream; light to import, since the workflow reads it while parsing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LABELS = "labels/va"
TENSOR_FILES = (".pt", ".pth", ".safetensors")
"""Suffixes of weights that are files of the user's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualSettings:
    """A stream of one vector per picture, `visual/…`."""

    backbone: Literal["resnet18"] = "resnet18"
    weights: str = "IMAGENET1K_V1"
    """A torchvision weights name, a file (.safetensors, .pt, .pth), or `seeded[:N]`."""
    reads: Literal["video", "faces"] = "video"
    """`video`: the person's part of each decoded frame; `faces`: numbered crops."""
    resize: int = 256
    """Shorter side in pixels after resizing."""
    crop: int = 224
    """Side of the centre crop in pixels."""
    dtype: Literal["float16", "float32"] = "float16"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSettings:
    """A stream of one vector per row from the sound that ends there, `audio/…`."""

    backbone: Literal["resnet18"] = "resnet18"
    weights: str = "seeded"
    """As for visual streams; weights of three input channels are not accepted here."""
    spectrogram: Literal["livia"] = "livia"
    dtype: Literal["float16", "float32"] = "float16"


StreamSettings = VisualSettings | AudioSettings

KINDS: dict[str, type[VisualSettings] | type[AudioSettings]] = {
    "visual": VisualSettings,
    "audio": AudioSettings,
}
"""First half of a stream's name to its settings."""
