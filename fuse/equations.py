"""The papers' formulas as pure functions, in the papers' symbols. Rows are time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def jca(X: Mapping[str, Tensor], W: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Joint cross-attention (Praveen et al., CVPRW 2022, arXiv 2203.14779, section 3.2).

    With J = [X_a | X_v | …] (L, d), d the sum of the d_m, for every modality m:

        C_m     = tanh(X_m^T W_jm J / sqrt(d))        (d_m, d)
        H_m     = ReLU(W_m X_m + W_cm C_m^T)          (k, d_m)
        X_att,m = W_hm H_m + X_m                      (L, d_m)

    Costs O(L d_m d + L^2 d) per window in time.

    Args:
        X: Modality to rows (…, L, d_m). Rows without a value are zero.
        W: `W_j{m}` (L, L), `W_{m}` (k, L), `W_c{m}` (k, d), `W_h{m}` (L, k) for every m of X.

    Returns:
        `X_att{m}`, `C_{m}` and `H_{m}` for every modality m.
    """
    J = torch.cat(list(X.values()), dim=-1)
    scale = math.sqrt(J.shape[-1])
    out: dict[str, Tensor] = {}
    for m, X_m in X.items():
        C = torch.tanh(X_m.mT @ (W[f"W_j{m}"] @ J) / scale)
        H = torch.relu(W[f"W_{m}"] @ X_m + W[f"W_c{m}"] @ C.mT)
        out[f"C_{m}"], out[f"H_{m}"] = C, H
        out[f"X_att{m}"] = W[f"W_h{m}"] @ H + X_m
    return out
