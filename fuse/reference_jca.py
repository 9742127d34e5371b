"""JCA as its authors' two runnable programs compute it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .equations import jca
from .variant import CodeVariant, no_heads, shape


class JcaTbiom(CodeVariant):
    """Joint cross-attention of the T-BIOM repository (Praveen et al.), `models/cam.py`.

    The attention is the paper's, `equations.jca` (arXiv 2203.14779, section 3.2), of the encoded
    rows E_m = X_m Enc_m^T + b_m (L, width). The regressors, one per target, are two linear layers
    without an activation between them, and read [X_v | X_att,v], the raw and the attended visual
    rows: the attended audio is computed and discarded, and its weights never learn.

    Args:
        length: L, rows of a window.
        audio: Width of the audio rows.
        visual: Width of the visual rows.
        width: Width of the encoded rows.
        k: Width of the attention's hidden representation.
        hidden: Width between the layers of a regressor.
        dropout: Between the layers of a regressor.
    """

    INPUTS = ("audio", "visual")
    OUTPUTS = ("valence", "arousal")
    REGRESSORS: ClassVar[tuple[str, ...]] = ("vregressor", "aregressor")
    """Their names, in the order of the outputs."""

    def __init__(
        self,
        *,
        length: int = 16,
        audio: int = 512,
        visual: int = 512,
        width: int = 128,
        k: int = 32,
        hidden: int = 128,
        dropout: float = 0.6,
    ) -> None:
        super().__init__()
        self.encoder1 = nn.Linear(audio, width)
        self.encoder2 = nn.Linear(visual, width)
        for m in "av":
            self.add_module(f"affine_{m}", nn.Linear(length, length, bias=False))
            self.add_module(f"W_{m}", nn.Linear(length, k, bias=False))
            self.add_module(f"W_c{m}", nn.Linear(2 * width, k, bias=False))
            self.add_module(f"W_h{m}", nn.Linear(k, length, bias=False))
        for name in self.REGRESSORS:
            layers = (
                nn.Linear(visual + width, hidden),
                nn.Dropout(dropout),
                nn.Linear(hidden, 1),
            )
            self.add_module(name, nn.Sequential(*layers))

    @classmethod
    def sizes(cls, state_dict: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
        """Read the constructor's sizes from the shapes of a state dict."""
        no_heads(heads)
        width, audio = shape(state_dict, "encoder1.weight", 2)
        k, length = shape(state_dict, "W_a.weight", 2)
        return {
            "length": length,
            "audio": audio,
            "visual": shape(state_dict, "encoder2.weight", 2)[1],
            "width": width,
            "k": k,
            "hidden": shape(state_dict, f"{cls.REGRESSORS[0]}.0.weight", 2)[0],
        }

    def forward(self, *, audio: Tensor, visual: Tensor) -> dict[str, Tensor]:
        """Fuse audio (B, L, d_a) and visual (B, L, d_v).

        Returns:
            The outputs (B, L); for both modalities `encoded_{m}` and `attended_{m}` (B, L, width),
            `corr_{m}` (B, width, 2 width) and `hidden_{m}` (B, width, k).
        """
        X = {"a": self.encoder1(audio), "v": self.encoder2(visual)}
        fused = jca(X, self._weights())
        out: dict[str, Tensor] = {}
        for m, modality in (("a", "audio"), ("v", "visual")):
            out[f"encoded_{modality}"] = X[m]
            out[f"corr_{modality}"] = fused[f"C_{m}"]
            out[f"hidden_{modality}"] = fused[f"H_{m}"].mT
            out[f"attended_{modality}"] = fused[f"X_att{m}"]
        read = torch.cat([visual, out["attended_visual"]], dim=-1)
        for target, regressor in zip(self.OUTPUTS, self.REGRESSORS, strict=True):
            out[target] = self.get_submodule(regressor)(read).squeeze(-1)
        return out

    def _weights(self) -> dict[str, Tensor]:
        """Give the weights under the paper's names."""
        weights: dict[str, Tensor] = {}
        for m in "av":
            names = {f"W_j{m}": f"affine_{m}", **{n: n for n in (f"W_{m}", f"W_c{m}", f"W_h{m}")}}
            for symbol, name in names.items():
                layer = self.get_submodule(name)
                assert isinstance(layer, nn.Linear)
                weights[symbol] = layer.weight
        return weights


class JcaCvprw(JcaTbiom):
    """Joint cross-attention of the workshop's repository (Praveen et al.), its first commit.

    As `JcaTbiom`, for windows of 8 rows and with one regressor: one model per target. Later commits
    fail on every input.
    """

    OUTPUTS = ("prediction",)
    REGRESSORS = ("regressor",)

    def __init__(self, *, length: int = 8, **sizes: Any) -> None:
        super().__init__(length=length, **sizes)
