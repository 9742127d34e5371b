"""The loss of fine-tuning: 1 - CCC, pooled over a batch, mean of valence and arousal."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-12
"""Of the denominator: where all numbers of both series are one and the same, CCC is 0."""


def ccc(pred: Tensor, target: Tensor) -> Tensor:
    """Concordance of rows pooled, with population moments (Lin, 1989), in float64.

    CCC = 2 cov(p, y) / (var p + var y + (mean p - mean y)^2).

    Args:
        pred: (rows, 2); every row counts, so rows without a label are left out before.
        target: (rows, 2).

    Returns:
        (2,); 0 with no gradient where prediction and target are one constant.
    """
    x, y = pred.double(), target.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    covariance = ((x - x_mean) * (y - y_mean)).mean(0)
    spread = (x - x_mean).square().mean(0) + (y - y_mean).square().mean(0)
    return 2 * covariance / (spread + (x_mean - y_mean).square()).clamp(min=LEAST)


def ccc_loss(pred: Tensor, target: Tensor) -> Tensor:
    """1 - the mean CCC of valence and arousal: (rows, 2) twice to a scalar."""
    return 1 - ccc(pred, target).mean()


def scores(pred: Tensor, target: Tensor) -> tuple[float, float]:
    """CCC of valence and of arousal, detached."""
    with torch.no_grad():
        valence, arousal = ccc(pred, target).tolist()
    return valence, arousal
