"""Feature concatenation, the head that every other one is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .parts import FusionHead, Readout

if TYPE_CHECKING:
    from .settings import ExperimentSettings


class Concat(FusionHead):
    """Feature concatenation and fully connected layers, row by row."""

    def __init__(self, dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> None:
        super().__init__(dims, length, settings)
        self.readout = Readout(self.d, settings.hidden, settings.dropout)

    def fuse(self, X: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
        """X {modality: (B, T, d_m)} to `fused` (B, T, d)."""
        del valid
        return {"fused": torch.cat(list(X.values()), dim=-1)}
