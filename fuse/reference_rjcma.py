"""RJCMA as its authors' program computes it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from .norms import MaskedBatchNorm
from .variant import CodeVariant, branches, no_heads, shape

LAYERS = "coattn.dcn_layers."
WIDTHS = MappingProxyType({"video": 256, "audio": 128, "text": 128})


class RjcmaCode(CodeVariant):
    """Recursive joint cross-modal attention of praveena2j/RJCMA, `DCNLayer` and the model's head.

    Every recursion has weights of its own. The head reads [video | audio | text]: linear, batch
    norm, LeakyReLU, linear, tanh; one model per target. Unlike the paper's (arXiv 2403.13659), the
    joint representation is the plain concatenation: the program projects it (`query_linear`) and
    drops the result.

    Args:
        length: L, rows of a window.
        widths: Modality to width, in the program's order; it has all three.
        recursions: Times that the attention is applied.
        hidden: Width between the layers of the head.
        dropout: Of the correlation maps and the attended rows.
    """

    INPUTS = tuple(WIDTHS)
    OUTPUTS = ("prediction",)
    NORM = True
    DEAD = r"coattn\.dcn_layers\.\d+\.dense_coattn\.query_linear\.(weight|bias)"

    def __init__(
        self,
        *,
        length: int = 300,
        widths: Mapping[str, int] = WIDTHS,
        recursions: int = 2,
        hidden: int = 256,
        dropout: float = 0.6,
    ) -> None:
        super().__init__()
        self.modalities, joint = tuple(widths), sum(widths.values())
        layers = nn.ModuleList(
            Recursion(length, widths.values(), dropout) for _ in range(recursions)
        )
        self.coattn = nn.ModuleDict({"dcn_layers": layers})
        self.regressor1 = nn.Linear(joint, hidden)
        self.bn1 = MaskedBatchNorm(hidden)
        self.regressor2 = nn.Linear(hidden, 1)

    @classmethod
    def sizes(cls, state_dict: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
        """Read the constructor's sizes from the shapes of a state dict."""
        no_heads(heads)
        first = f"{LAYERS}0.dense_coattn."
        widths = {
            modality: shape(state_dict, f"{first}value{number}_linear.weight", 2)[0]
            for number, modality in enumerate(cls.INPUTS, 1)
        }
        return {
            "length": shape(state_dict, f"{first}key1_linear.weight", 2)[0],
            "widths": widths,
            "recursions": len(branches(state_dict, LAYERS)),
            "hidden": shape(state_dict, "regressor1.weight", 2)[0],
        }

    def forward(self, *, rows: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """Fuse the modalities (B, L, d_m), each under its name.

        Returns:
            `prediction` (B, L); `{m}` after the last recursion and `recursion{n}_{m}` after every
            one (B, L, d_m).
        """
        x = tuple(inputs[m] for m in self.modalities)
        out: dict[str, Tensor] = {}
        for number, recursion in enumerate(self.coattn["dcn_layers"].children(), 1):
            x = recursion(x)
            out |= {f"recursion{number}_{m}": y for m, y in zip(self.modalities, x, strict=True)}
        out |= dict(zip(self.modalities, x, strict=True))
        hidden = self.bn1(self.regressor1(torch.cat(x, dim=-1)), rows)
        out["prediction"] = torch.tanh(self.regressor2(leaky_relu(hidden))).squeeze(-1)
        return out


class Recursion(nn.Module):
    """One recursion over the modalities.

    With J = [X_1 | …] (L, d), D being dropout, for every modality m:

        K_m  = X_m^T W_k^T + b_k                                   (d_m, L)
        S_m  = D(tanh(K_m J / sqrt(d)))                            (d_m, d)
        Z_m  = ReLU(tanh((X_m W_v^T + b_v) S_m))                   (L, d)
        X_m <- X_m + D(ReLU(Z_m W_o^T + b_o))                      (L, d_m)
    """

    def __init__(self, length: int, widths: Collection[int], dropout: float) -> None:
        super().__init__()
        joint = sum(widths)
        self.dense_coattn = nn.ModuleDict()
        for number, width in enumerate(widths, 1):
            self.dense_coattn[f"key{number}_linear"] = nn.Linear(length, length)
            self.dense_coattn[f"value{number}_linear"] = nn.Linear(width, width)
        self.linears = nn.ModuleList(
            nn.Sequential(nn.Linear(joint, width), nn.ReLU(), nn.Dropout(dropout))
            for width in widths
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, X: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """X (B, L, d_m) for every modality to the same shapes."""
        J = torch.cat(X, dim=-1)
        out: list[Tensor] = []
        for number, (x, attended) in enumerate(zip(X, self.linears, strict=True), 1):
            K = self.dense_coattn[f"key{number}_linear"](x.mT)
            S = self.dropout(torch.tanh(K @ J / math.sqrt(J.shape[-1])))
            Z = torch.relu(torch.tanh(self.dense_coattn[f"value{number}_linear"](x) @ S))
            out.append(x + attended(Z))
        return tuple(out)
