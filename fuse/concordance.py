"""The concordance correlation coefficient, as a score and as a loss.

CCC = 2 cov(p, y) / (var p + var y + (mean p - mean y)^2), with population moments (Lin, 1989).
The covariance form has no square root, so a constant prediction scores 0 and keeps its analytic
gradient. Where both series are constant the score is undefined and the loss is 1 with no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ccc(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """CCC of two series, pooled over every element, accumulated in float64.

    Args:
        pred: Any shape.
        target: The same shape.
        mask: The same shape, bool; elements that are False do not count.

    Returns:
        Scalar float64; NaN where the score is undefined: both series constant, or none left.
    """
    moments = _moments(pred, target, mask)
    if moments is None:
        return torch.full((), torch.nan, dtype=torch.float64)
    covariance, spread, offset = moments
    return torch.where(spread > 0, 2 * covariance / (spread + offset), torch.nan)


def ccc_loss(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """1 - CCC, pooled over every element that counts; never NaN, nor its gradient.

    Args:
        pred: Any shape.
        target: The same shape.
        mask: The same shape, bool; elements that are False do not count.

    Returns:
        Scalar float64; 1 with zero gradient where the score is undefined.
    """
    moments = _moments(pred, target, mask)
    if moments is None:
        return pred.sum().double() * 0 + 1
    covariance, spread, offset = moments
    total = spread + offset
    # Not `spread > 0`: a NaN must stay one, so that training stops and says so.
    defined = spread != 0
    return 1 - torch.where(defined, 2 * covariance / torch.where(defined, total, 1), 0)


def _moments(
    pred: Tensor, target: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Covariance, sum of variances and squared difference of means; None without elements."""
    x, y = pred.double(), target.double()
    if mask is not None:
        x, y = x[mask], y[mask]
    if not x.numel():
        return None
    x_mean, y_mean = x.mean(), y.mean()
    x_off, y_off = x - x_mean, y - y_mean
    covariance = (x_off * y_off).mean()
    spread = x_off.square().mean() + y_off.square().mean()
    return covariance, spread, (x_mean - y_mean).square()
