"""JMT and its concatenation baseline as the authors' program computes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .variant import CodeVariant, branches, check_heads, no_heads, shape

CROSS = (("v", "p"), ("p", "v"), ("pv", "v"), ("v", "pv"), ("pv", "p"), ("p", "pv"))
"""Cross-attentions in the order of their tokens: query, then source; p is audio, pv is joint."""
INSIDE = "mm_transformer."


class _Joint(CodeVariant):
    """What both output modes share, up to the six tokens."""

    INPUTS = ("visual", "audio")
    OUTPUTS = ("fused",)
    HEADS = 1
    DEAD = r"final_encoder\..+"

    def __init__(self, dim: int, inner: int, layers: int, heads: int) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.out_layer_pv = nn.Linear(2 * dim, dim)
        self.visual_encoder = Encoder(dim, inner, layers, heads)
        self.physiological_encoder = Encoder(dim, inner, layers, heads)
        self.joint_representation_encoder = Encoder(dim, inner, layers, heads)
        self.cross_attention_v = _attention(dim, heads)
        self.cross_attention_p = _attention(dim, heads)
        self.cross_attention_pv = _attention(dim, heads)

    @classmethod
    def sizes(cls, state_dict: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
        """Read the constructor's sizes from the shapes of a state dict."""
        return _sizes(state_dict, "", heads or cls.HEADS)

    def forward(self, *, visual: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """Fuse visual and audio (B, T, dim).

        Returns:
            `fused`; `joint` and, for visual, audio and joint, `encoded_{m}` (B, T, dim); `cross`
            (B, T, 6, dim), the six tokens.
        """
        joint = self.out_layer_pv(torch.cat([visual, audio], dim=-1))
        encoded = {
            "v": self.visual_encoder(visual),
            "p": self.physiological_encoder(audio),
            "pv": self.joint_representation_encoder(joint),
        }
        tokens = [
            _attend(self.get_submodule(f"cross_attention_{query}"), encoded[query], encoded[source])
            for query, source in CROSS
        ]
        cross = torch.stack(tokens, dim=-2)
        return {
            "joint": joint,
            "encoded_visual": encoded["v"],
            "encoded_audio": encoded["p"],
            "encoded_joint": encoded["pv"],
            "cross": cross,
            "fused": self.fuse(cross),
        }

    @abstractmethod
    def fuse(self, cross: Tensor) -> Tensor:
        """Fuse the six tokens (B, T, 6, dim)."""


class JmtBlock(_Joint):
    """The joint transformer of PoloWlg/Joint-Multimodal-Transformer-6th-ABAW, `SELF_ATTEN`.

    j = [v | a] W_J + b_J; encoders of v, a and j; six cross-attentions without residual or norm,
    with one module per query modality; the six tokens of a row through an encoder and a
    self-attention, of which only the last token (a <- j) is kept. No positions, any length.

    Args:
        dim: Width of the visual and of the audio rows.
        inner: Width inside the encoders' feed-forward layers.
        layers: Layers of every encoder.
        heads: Attention heads.
    """

    def __init__(
        self, *, dim: int = 512, inner: int = 512, layers: int = 1, heads: int = 1
    ) -> None:
        super().__init__(dim, inner, layers, heads)
        self.width = dim
        self.final_visual_encoder = Encoder(dim, inner, layers, heads)
        self.final_self_attention = _attention(dim, heads)

    def fuse(self, cross: Tensor) -> Tensor:
        """Fuse the six tokens (B, T, 6, dim) to (B, T, dim)."""
        encoded = self.final_visual_encoder(cross.flatten(0, 1))
        attended = _attend(self.final_self_attention, encoded, encoded)
        return attended[:, -1].unflatten(0, cross.shape[:2])


class _FcBlock(_Joint):
    """The same in output mode `FC`: one linear layer over the six tokens; its rows are (T, B)."""

    def __init__(self, dim: int, inner: int, layers: int, heads: int, fused: int) -> None:
        super().__init__(dim, inner, layers, heads)
        self.out_layer1 = nn.Linear(len(CROSS) * dim, fused)

    def fuse(self, cross: Tensor) -> Tensor:
        """Fuse the six tokens (B, T, 6, dim) to (T, B, fused)."""
        return self.out_layer1(cross.flatten(-2)).transpose(0, 1)


class _Program(CodeVariant):
    """L2-normalised rows through `mm_transformer`, then a regressor per target."""

    INPUTS = ("audio", "visual")
    OUTPUTS = ("valence", "arousal")

    def __init__(self, joint: nn.Module, fused: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.mm_transformer = joint
        self.vregressor = _regressor(fused, hidden, dropout)
        self.aregressor = _regressor(fused, hidden, dropout)

    def forward(self, *, audio: Tensor, visual: Tensor) -> dict[str, Tensor]:
        """Fuse audio and visual (B, T, d).

        Returns:
            `valence` and `arousal`, and what `mm_transformer` gives.
        """
        out = self.mm_transformer(visual=normalize(visual, dim=-1), audio=normalize(audio, dim=-1))
        out["valence"] = self.vregressor(out["fused"]).squeeze(-1)
        out["arousal"] = self.aregressor(out["fused"]).squeeze(-1)
        return out


class JmtSelfAttention(_Program):
    """JMT's program, joint mode `SELF_ATTEN`: `JmtBlock` of L2-normalised rows, two regressors.

    Args:
        dim: Width of the visual and of the audio rows.
        inner: Width inside the encoders' feed-forward layers.
        layers: Layers of every encoder.
        heads: Attention heads.
        hidden: Width between the layers of a regressor.
        dropout: Between the layers of a regressor.
    """

    HEADS = 1
    DEAD = r"mm_transformer\.final_encoder\..+"

    def __init__(
        self,
        *,
        dim: int = 512,
        inner: int = 512,
        layers: int = 1,
        heads: int = 1,
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        block = JmtBlock(dim=dim, inner=inner, layers=layers, heads=heads)
        super().__init__(block, dim, hidden, dropout)

    @classmethod
    def sizes(cls, state_dict: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
        """Read the constructor's sizes from the shapes of a state dict."""
        hidden, _ = shape(state_dict, "vregressor.0.weight", 2)
        return {**_sizes(state_dict, INSIDE, heads or cls.HEADS), "hidden": hidden}


class JmtFc(_Program):
    """JMT's program, output mode `FC`: `fused`, `valence` and `arousal` are (T, B), **time first**.

    The program pairs them with labels (B, T), so nearly every prediction meets another row's label.

    Args:
        dim: Width of the visual and of the audio rows.
        inner: Width inside the encoders' feed-forward layers.
        layers: Layers of every encoder.
        heads: Attention heads.
        fused: Width of the fused rows.
        hidden: Width between the layers of a regressor.
        dropout: Between the layers of a regressor.
    """

    HEADS = 1
    DEAD = r"mm_transformer\.final_encoder\..+"
    TIME_FIRST = True

    def __init__(
        self,
        *,
        dim: int = 512,
        inner: int = 512,
        layers: int = 1,
        heads: int = 1,
        fused: int = 1024,
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(_FcBlock(dim, inner, layers, heads, fused), fused, hidden, dropout)

    @classmethod
    def sizes(cls, state_dict: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
        """Read the constructor's sizes from the shapes of a state dict."""
        hidden, fused = shape(state_dict, "vregressor.0.weight", 2)
        inside = _sizes(state_dict, INSIDE, heads or cls.HEADS)
        return {**inside, "fused": fused, "hidden": hidden}


class JmtConcat(_Program):
    """JMT's baseline, joint mode `FC`: one linear layer on [visual | audio], two regressors.

    Args:
        joined: Width of the visual and the audio rows together.
        fused: Width of the fused rows.
        hidden: Width between the layers of a regressor.
        dropout: Between the layers of a regressor.
    """

    def __init__(
        self, *, joined: int = 1024, fused: int = 512, hidden: int = 128, dropout: float = 0.0
    ) -> None:
        super().__init__(_Concat(joined, fused), fused, hidden, dropout)

    @classmethod
    def sizes(cls, state_dict: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
        """Read the constructor's sizes from the shapes of a state dict."""
        no_heads(heads)
        fused, joined = shape(state_dict, f"{INSIDE}fc.weight", 2)
        hidden, _ = shape(state_dict, "vregressor.0.weight", 2)
        return {"joined": joined, "fused": fused, "hidden": hidden}


class _Concat(nn.Module):
    def __init__(self, joined: int, fused: int) -> None:
        super().__init__()
        self.fc = nn.Linear(joined, fused)

    def forward(self, *, visual: Tensor, audio: Tensor) -> dict[str, Tensor]:
        return {"fused": self.fc(torch.cat([visual, audio], dim=-1))}


class Encoder(nn.Module):
    """Post-norm Transformer layers (Vaswani et al., 2017) without positions."""

    def __init__(self, dim: int, inner: int, layers: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, inner, heads) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, dim) to (B, T, dim)."""
        for layer in self.layers:
            x = layer(x)
        return x


class EncoderLayer(nn.Module):
    """x <- LN(x + MHA(x, x, x)); x <- LN(x + linear(ReLU(linear(x))))."""

    def __init__(self, dim: int, inner: int, heads: int) -> None:
        super().__init__()
        self.attention = _attention(dim, heads)
        self.feed_forward = nn.Sequential(nn.Linear(dim, inner), nn.ReLU(), nn.Linear(inner, dim))
        self.layer_norm1 = nn.LayerNorm(dim)
        self.layer_norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, dim) to (B, T, dim)."""
        x = self.layer_norm1(x + _attend(self.attention, x, x))
        return self.layer_norm2(x + self.feed_forward(x))


def _attention(dim: int, heads: int) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(dim, heads, batch_first=True)


def _attend(attention: nn.Module, query: Tensor, source: Tensor) -> Tensor:
    return attention(query, source, source, need_weights=False)[0]


def _regressor(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1)
    )


def _sizes(state_dict: Mapping[str, Tensor], prefix: str, heads: int) -> dict[str, Any]:
    """Read the sizes of a joint transformer whose tensors begin with a prefix."""
    encoder = f"{prefix}visual_encoder.layers."
    return {
        "dim": shape(state_dict, f"{prefix}out_layer_pv.weight", 2)[0],
        "inner": shape(state_dict, f"{encoder}0.feed_forward.0.weight", 2)[0],
        "layers": len(branches(state_dict, encoder)),
        "heads": heads,
    }
