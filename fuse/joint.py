"""Joint cross-attention and what came of it: every modality attends to the joint representation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from . import equations
from .parts import FusionHead, Readout
from .weights import from_left, from_right, uniform

if TYPE_CHECKING:
    from .settings import ExperimentSettings


class JointCrossAttention(FusionHead):
    """JCA as its paper defines it (`equations.jca`); windows of one fixed length, not causal."""

    fixed_length = True

    def __init__(self, dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> None:
        super().__init__(dims, length, settings)
        L, k, d = length, settings.k, self.d
        self.W = nn.ParameterDict()
        for m in self.widths:
            self.W[f"W_j{m}"] = from_left(L, L)
            self.W[f"W_{m}"] = from_left(k, L)
            self.W[f"W_c{m}"] = from_left(k, d)
            self.W[f"W_h{m}"] = from_left(L, k)
        self.readout = Readout(d, settings.hidden, settings.dropout)

    def fuse(self, X: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
        """X {modality: (B, L, d_m)} to `fused` (B, L, d) and maps; needs no masks."""
        del valid
        return _joined(equations.jca(X, dict(self.W.items())), X)


class RecursiveJointAttention(FusionHead):
    """RJCMA as its paper defines it (`equations.rjcma`), with weights per recursion."""

    fixed_length = True

    def __init__(self, dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> None:
        super().__init__(dims, length, settings)
        self.recursions = nn.ModuleList(self._recursion(length) for _ in range(settings.recursions))
        self.readout = Readout(self.d, settings.hidden, settings.dropout)

    def _recursion(self, length: int) -> nn.ParameterDict:
        d = self.d
        W = nn.ParameterDict({"W_J": from_right(d, d), "b_J": uniform((d,), d)})
        for m, width in self.widths.items():
            W[f"W_j{m}"] = from_left(length, length)
            W[f"W_c{m}"] = from_right(width, width)
            W[f"W_h{m}"] = from_right(d, width)
        return W

    def fuse(self, X: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
        """X {modality: (B, L, d_m)} to `fused` (B, L, d) and the last recursion's maps."""
        out = {f"X_att{m}": x for m, x in X.items()}
        for W in self.recursions:
            assert isinstance(W, nn.ParameterDict)
            out = equations.rjcma({m: out[f"X_att{m}"] for m in X}, dict(W.items()), valid)
        return _joined(out, X)


class JointCrossAttentionOfAnyLength(FusionHead):
    """`equations.jca_any`: JCA for windows of any length, with masks, causal on request."""

    def __init__(self, dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> None:
        super().__init__(dims, length, settings)
        self.causal = settings.causal
        k, d = settings.k, self.d
        self.W = nn.ParameterDict()
        for m, width in self.widths.items():
            self.W[f"W_j{m}"] = from_right(width, d)
            self.W[f"W_{m}"] = from_right(width, k)
            self.W[f"W_c{m}"] = from_right(d, k)
            self.W[f"W_h{m}"] = from_right(k, width)
        self.readout = Readout(d, settings.hidden, settings.dropout)

    def fuse(self, X: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
        """X {modality: (B, T, d_m)} with valid (B, T) each to `fused` (B, T, d) and maps."""
        return _joined(equations.jca_any(X, dict(self.W.items()), valid, causal=self.causal), X)


def _joined(out: dict[str, Tensor], X: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**out, "fused": torch.cat([out[f"X_att{m}"] for m in X], dim=-1)}
