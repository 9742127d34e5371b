"""LFAN and its temporal network as the authors' program computes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..cache import ConfigError
from .norms import MaskedBatchNorm
from .tcn import TemporalConvNet
from .variant import CodeVariant, branches, check_heads, no_heads, shape

PROJECTIONS = "layers.self_attn.qkv_proj."
AFTER_TCN = MappingProxyType({"video": 128, "logmel": 32, "egemaps": 32})
BEFORE_TCN = MappingProxyType({"video": 512, "logmel": 128, "egemaps": 88})
CHANNELS = MappingProxyType(
    {"video": (256, 256, 128, 128), "logmel": (64, 64, 32, 32), "egemaps": (32, 32, 32, 32)}
)


class TcnReference(CodeVariant):
    """The temporal network of sucv/ABAW3 and praveena2j/RJCMA, with the batch norm behind it.

    In the program's layout, (B, channel, time).

    Args:
        dim: Channels at the input.
        channels: Channels of every level.
        kernel: Rows of a convolution.
        norm: With batch norm.
        dropout: After every convolution.
    """

    INPUTS = ("x",)
    OUTPUTS = ("y",)
    NORM = True

    def __init__(
        self,
        *,
        dim: int,
        channels: Sequence[int],
        kernel: int = 5,
        norm: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.tcn = TemporalConvNet(dim, channels, kernel, dropout)
        self.bn = MaskedBatchNorm(channels[-1]) if norm else None

    @classmethod
    def sizes(cls, state_dict: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
        """Read the constructor's sizes from the shapes of a state dict."""
        no_heads(heads)
        return {
            **_tcn_sizes(state_dict, "tcn."),
            "norm": any(n.startswith("bn.") for n in state_dict),
        }

    def forward(self, *, x: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        """Map x (B, dim, T) to (B, channel, T).

        Returns:
            `level{n}` after every level, `y` after the last, `y_batchnorm` after the batch norm.
        """
        levels = self.tcn.levels(x)
        out = {f"level{number}": y for number, y in enumerate(levels)}
        out["y"] = levels[-1]
        if self.bn is not None:
            out["y_batchnorm"] = self.bn(out["y"].mT, rows).mT
        return out


class LfanEncoder(CodeVariant):
    """Leader-follower attention of sucv/ABAW3, `models/transformer.py`.

    The modalities of one row are the tokens. With q, k, v (M, d / heads) of a head from one linear
    layer per modality, whose outputs are ordered by head, then q, k, v:

        A          = softmax(q k^T / sqrt(d / heads)) over the key modalities
        follower   = LayerNorm(D(linear(A v + v)))       (M d)

    with A v + v flattened by head, then modality; D is dropout.

    Args:
        dims: Modality to width, in the program's order, which decides the layout.
        d: Width of a modality as a token.
        heads: Attention heads.
        dropout: Before the norm.
    """

    INPUTS = tuple(AFTER_TCN)
    OUTPUTS = ("fused",)
    HEADS = 2

    def __init__(
        self,
        *,
        dims: Mapping[str, int] = AFTER_TCN,
        d: int = 32,
        heads: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_heads(d, heads)
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.width = len(dims) * d
        projections = nn.ModuleDict({m: _xavier(width, 3 * d) for m, width in dims.items()})
        attention = {"qkv_proj": projections, "o_proj": _xavier(self.width, self.width)}
        self.layers = nn.ModuleDict(
            {"self_attn": nn.ModuleDict(attention), "norm1": nn.LayerNorm(self.width)}
        )

    @classmethod
    def sizes(cls, state_dict: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
        """Read the constructor's sizes from the shapes of a state dict."""
        return _encoder_sizes(state_dict, "", heads or cls.HEADS)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Fuse the modalities (B, T, d_m), each under its name.

        Returns:
            `fused` and, before the norm, `before_norm` (B, T, M d); `attention`
            (B, heads, T, M, M), query modality before key modality.
        """
        projections = self.get_submodule("layers.self_attn.qkv_proj")
        qkv = torch.stack(
            [
                layer(inputs[m]).unflatten(-1, (self.heads, 3, -1))
                for m, layer in projections.named_children()
            ]
        )
        q, k, v = qkv.permute(4, 1, 3, 2, 0, 5)  # (3, B, heads, T, M, d / heads)
        attention = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        mixed = (attention @ v + v).transpose(1, 2).flatten(2)
        projected = self.get_submodule("layers.self_attn.o_proj")(mixed)
        fused = self.layers["norm1"](self.dropout(projected))
        return {"attention": attention, "before_norm": projected, "fused": fused}


class LfanModel(CodeVariant):
    """LFAN of sucv/ABAW3 behind its backbones: `models/model.py`; one model per target.

    A temporal network and a batch norm per modality, `LfanEncoder`, and tanh of a linear layer on
    [leader | follower]; the first modality leads.

    Args:
        dims: Modality to width at the input, in the program's order.
        channels: Modality to the channels of its temporal network.
        kernel: Rows of a convolution.
        d: Width of a modality as a token.
        heads: Attention heads.
        dropout: In the temporal networks and the encoder.
    """

    INPUTS = tuple(BEFORE_TCN)
    OUTPUTS = ("prediction",)
    HEADS = 2
    NORM = True

    def __init__(
        self,
        *,
        dims: Mapping[str, int] = BEFORE_TCN,
        channels: Mapping[str, Sequence[int]] = CHANNELS,
        kernel: int = 5,
        d: int = 32,
        heads: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        after = {m: channels[m][-1] for m in dims}
        self.temporal = nn.ModuleDict(
            {m: TemporalConvNet(dims[m], channels[m], kernel, dropout) for m in dims}
        )
        self.bn = nn.ModuleDict({m: MaskedBatchNorm(width) for m, width in after.items()})
        self.fusion = LfanEncoder(dims=after, d=d, heads=heads, dropout=dropout)
        self.leader = next(iter(dims))
        self.regressor = nn.Linear(after[self.leader] + len(dims) * d, 1)

    @classmethod
    def sizes(cls, state_dict: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
        """Read the constructor's sizes from the shapes of a state dict."""
        fusion = _encoder_sizes(state_dict, "fusion.", heads or cls.HEADS)
        temporal = {m: _tcn_sizes(state_dict, f"temporal.{m}.") for m in fusion["dims"]}
        return {
            "dims": {m: sizes["dim"] for m, sizes in temporal.items()},
            "channels": {m: sizes["channels"] for m, sizes in temporal.items()},
            "kernel": next(sizes["kernel"] for sizes in temporal.values()),
            "d": fusion["d"],
            "heads": fusion["heads"],
        }

    def forward(self, *, rows: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """Predict from the modalities (B, T, d_m), each under its name.

        Returns:
            `prediction` (B, T), `follower` (B, T, M d), and `tcn_{m}` and `bn_{m}` (B, T, channel)
            after the temporal network and after the batch norm.
        """
        out: dict[str, Tensor] = {}
        for m, temporal in self.temporal.items():
            out[f"tcn_{m}"] = temporal(inputs[m].mT).mT
            out[f"bn_{m}"] = self.bn[m](out[f"tcn_{m}"], rows)
        out["follower"] = self.fusion(**{m: out[f"bn_{m}"] for m in self.temporal})["fused"]
        read = torch.cat([out[f"bn_{self.leader}"], out["follower"]], dim=-1)
        out["prediction"] = torch.tanh(self.regressor(read)).squeeze(-1)
        return out


def _xavier(dim: int, width: int) -> nn.Linear:
    """Build a linear layer as the program starts it: Xavier, no bias."""
    layer = nn.Linear(dim, width)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _tcn_sizes(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    """Read the sizes of a `TemporalConvNet` whose tensors begin with a prefix."""
    prefix = f"{prefix}network."
    levels = len(branches(state_dict, prefix)) or 1
    shapes = [shape(state_dict, f"{prefix}{n}.conv1.weight_v", 3) for n in range(levels)]
    _, dim, kernel = shapes[0]
    return {"dim": dim, "channels": tuple(s[0] for s in shapes), "kernel": kernel}


def _encoder_sizes(state_dict: Mapping[str, Tensor], prefix: str, heads: int) -> dict[str, Any]:
    """Read the sizes of a `LfanEncoder` whose tensors begin with a prefix."""
    prefix += PROJECTIONS
    names = [name for name in state_dict if name.startswith(prefix)]
    modalities = branches(names, prefix)
    if not modalities:
        raise ConfigError(
            f"state dict: no {prefix}*.weight; give the state dict of this variant's program"
        )
    if names == sorted(names) and len(modalities) > 1:
        raise ConfigError(
            f"state dict: {prefix}* are in alphabetical order ({', '.join(modalities)}), so the "
            "program's order of modalities is lost, and with it the layout; order the state dict "
            "as the program does, the leader first and weights before biases"
        )
    shapes = {m: shape(state_dict, f"{prefix}{m}.weight", 2) for m in modalities}
    return {
        "dims": {m: columns for m, (_, columns) in shapes.items()},
        "d": shapes[modalities[0]][0] // 3,
        "heads": heads,
    }
