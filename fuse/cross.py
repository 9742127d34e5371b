"""Heads that attend across modalities: CA, leader-follower, the joint multimodal transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..cache import ConfigError
from . import equations
from .encoders import encoder_weights
from .parts import FusionHead, Readout
from .weights import from_right, uniform

if TYPE_CHECKING:
    from .settings import ExperimentSettings


class CrossAttention(FusionHead):
    """CA (`equations.cross_attention`): each modality attends to itself by the other's steps."""

    def __init__(self, dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> None:
        super().__init__(dims, length, settings)
        self.temperature = settings.temperature
        self.W = from_right(self.widths["a"], self.widths["v"])
        self.readout = Readout(self.d, settings.hidden, settings.dropout)

    def fuse(self, X: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
        """X {modality: (B, T, d_m)} with valid (B, T) each to `fused` (B, T, d) and maps."""
        out = equations.cross_attention(X, {"W": self.W}, self.temperature, valid)
        return {**out, "fused": torch.cat([out["X_atta"], out["X_attv"]], dim=-1)}


class LeaderFollower(FusionHead):
    """LFAN (`equations.leader_follower`): the visual modality leads; row by row."""

    def __init__(self, dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> None:
        super().__init__(dims, length, settings)
        d, tokens = settings.d, len(self.widths) * settings.d
        self.W = nn.ParameterDict()
        for m, width in self.widths.items():
            for part in "qkv":
                self.W[f"W_{part}{m}"] = from_right(width, d)
                self.W[f"b_{part}{m}"] = uniform((d,), width)
        self.W["gamma"] = nn.Parameter(torch.ones(tokens))
        self.W["beta"] = nn.Parameter(torch.zeros(tokens))
        self.readout = Readout(self.widths["v"] + tokens, settings.hidden, settings.dropout)

    def fuse(self, X: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
        """X {modality: (B, T, d_m)} with valid (B, T) each to `fused` (B, T, d_v + M d), `A`."""
        out = equations.leader_follower(X, dict(self.W.items()), "v", valid)
        return {"fused": out["out"], "A_m": out["A"]}


class JointMultimodalTransformer(FusionHead):
    """JMT (`equations.jmt`): v, a and their joint representation, six cross-attentions."""

    def __init__(self, dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> None:
        super().__init__(dims, length, settings)
        if len(set(self.widths.values())) > 1:
            found = ", ".join(f"{m} {width}" for m, width in self.widths.items())
            raise ConfigError(
                f"head {self.name!r} joins modalities of one width, found {found}; "
                "set `width`, and as many streams for each modality"
            )
        d = self.widths["v"]
        self.encoder_weights = nn.ModuleDict(
            {m: nn.ParameterDict(encoder_weights(d, d)) for m in "vaj"}
        )
        self.W = nn.ParameterDict({"W_J": from_right(2 * d, d), "b_J": uniform((d,), 2 * d)})
        names = [f"W_Q{m}" for m in "vaj"]
        names += [f"W_{part}{pair}" for pair in equations.JMT_TOKENS for part in "KV"]
        for name in (*names, "W_sq", "W_sk", "W_sv"):
            self.W[name] = from_right(d, d)
        self.readout = Readout(6 * d, settings.hidden, settings.dropout)

    def fuse(self, X: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
        """X {modality: (B, T, d)} with valid (B, T) each to `fused` (B, T, 6 d) and maps."""
        W = dict(self.encoder_weights.named_parameters()) | dict(self.W.items())
        out = equations.jmt(X, W, valid)
        return {**out, "fused": out["out"]}
