"""Temporal encoders, one per stream, between projection and head."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .equations import encoder
from .masking import zeroed
from .tcn import TemporalConvNet
from .weights import from_right, uniform

if TYPE_CHECKING:
    from .settings import Encoder, ExperimentSettings


def build_encoder(kind: Encoder, dim: int, settings: ExperimentSettings) -> nn.Module:
    """Build an encoder of (B, T, dim) with valid (B, T); the width stays.

    Args:
        kind: none, tcn, gru or transformer.
        dim: Width of the rows.
        settings: Its `levels`, `kernel`, `dropout` and `causal`.
    """
    if kind == "tcn":
        return Tcn(dim, settings.levels, settings.kernel, settings.dropout)
    if kind == "gru":
        return Gru(dim, settings.levels, settings.dropout)
    if kind == "transformer":
        return Transformer(dim, settings.levels, settings.dropout, causal=settings.causal)
    return nn.Identity()


class Tcn(nn.Module):
    """Causal dilated convolutions with weight norm (Bai et al., 2018); any length."""

    def __init__(self, dim: int, levels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.net = TemporalConvNet(dim, [dim] * levels, kernel, dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Rows (B, T, dim), valid (B, T) to (B, T, dim), zero where there is no value."""
        return self.net(x.mT, valid).mT


class Gru(nn.Module):
    """A gated recurrent network from the past to now (Cho et al., 2014); any length.

    Rows without a value enter as zeros: time passes there.
    """

    def __init__(self, dim: int, levels: int, dropout: float) -> None:
        super().__init__()
        between = dropout if levels > 1 else 0.0
        self.net = nn.GRU(dim, dim, levels, batch_first=True, dropout=between)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Rows (B, T, dim), valid (B, T) to (B, T, dim), zero where there is no value."""
        return zeroed(self.net(zeroed(x, valid))[0], valid)


class EncoderLayer(nn.Module):
    """`equations.encoder` with its weights."""

    def __init__(self, dim: int, inner: int, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.W = nn.ParameterDict(encoder_weights(dim, inner))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Rows (B, T, dim), valid (B, T) to (B, T, dim)."""
        return encoder(x, dict(self.W.items()), valid, causal=self.causal)["x"]


class Transformer(nn.Module):
    """Post-norm Transformer layers over sinusoidal positions (Vaswani et al., 2017); any length."""

    def __init__(self, dim: int, levels: int, dropout: float, *, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, dim, causal=causal) for _ in range(levels))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Rows (B, T, dim), valid (B, T) to (B, T, dim), zero where there is no value."""
        x = zeroed(x + positions(x), valid)
        for layer in self.layers:
            x = zeroed(self.drop(layer(x, valid)), valid)
        return x


def positions(x: Tensor) -> Tensor:
    """Give sinusoidal position codes (T, dim) for rows (…, T, dim) (Vaswani et al., 2017, 3.5)."""
    length, dim = x.shape[-2:]
    at = torch.arange(length, device=x.device, dtype=torch.float32)[:, None]
    channel = torch.arange(dim, device=x.device)
    rate = torch.exp(-(channel // 2 * 2) * (math.log(10_000) / dim))
    angle = at * rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).to(x.dtype)


def encoder_weights(d: int, inner: int) -> dict[str, nn.Parameter]:
    """Draw the weights of `equations.encoder` as torch draws its linear layers'."""
    shapes = {
        "W_q": (d, d),
        "W_k": (d, d),
        "W_v": (d, d),
        "W_o": (d, d),
        "W_1": (d, inner),
        "W_2": (inner, d),
    }
    W: dict[str, nn.Parameter] = {}
    for name, (rows, columns) in shapes.items():
        W[name] = from_right(rows, columns)
        if name != "W_k":
            W[name.replace("W", "b")] = uniform((columns,), rows)
    for number in (1, 2):
        W[f"g_{number}"] = nn.Parameter(torch.ones(d))
        W[f"s_{number}"] = nn.Parameter(torch.zeros(d))
    return W
