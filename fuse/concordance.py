"""The concordance correlation coefficient, as a score and as a loss.

CCC = 2 cov(p, y) / (var p + var y + (mean p - mean y)^2) (Lin, 1989). The covariance form has no
square root, so a constant prediction scores 0 and keeps its analytic gradient. Where both series
are constant the score is undefined and the loss is 1 with no gradient.

A series is constant if its standard deviation is at most `ROUNDINGS` eps |mean| + tiny, of the type
it came in. Up to there it cannot be told from one number computed several times, and its gradient,
of the order of 1 / deviation, would follow rounding noise or overflow the type. An exact constant
stays below in every type: rounding of its float64 mean leaves 6 eps |mean| of ten million numbers.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ..cache import ConfigError

Estimator = Literal["biased", "unbiased", "mixed"]
Over = Literal["batch", "window", "sequence"]

CORRECTIONS = {"biased": (0, 0), "unbiased": (1, 1), "mixed": (0, 1)}
"""What is taken off N, in the covariance and in the variances.

`biased` are population moments (Lin, 1989), `unbiased` sample moments (the published loss of joint
cross-attention and of the joint multimodal transformer), `mixed` a population covariance over
sample variances (leader-follower attention and RJCMA); `mixed` gives a perfect prediction 1 - 1/N.
"""
OVERS = ("batch", "window", "sequence")
ROUNDINGS = 8


def ccc(
    pred: Tensor, target: Tensor, mask: Tensor | None = None, estimator: Estimator = "biased"
) -> Tensor:
    """CCC of two series, pooled over every element, accumulated in float64.

    Args:
        pred: Any shape.
        target: The same shape.
        mask: The same shape, bool; elements that are False do not count.
        estimator: Of the covariance and the variances, see `CORRECTIONS`.

    Returns:
        Scalar float64; NaN where the score is undefined: both series constant, or none left.

    Raises:
        ConfigError: Unknown estimator.
        ValueError: The shapes differ.
    """
    _check_shapes(pred, target, mask)
    coefficient, defined, _ = _coefficients(pred, target, mask, estimator, (1, pred.numel()))
    return torch.where(defined, coefficient, torch.nan)[0]


def ccc_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    estimator: Estimator = "biased",
    over: Over = "batch",
    sequences: Tensor | None = None,
) -> Tensor:
    """1 - CCC, accumulated in float64; finite, with a finite gradient, for finite float32 numbers.

    A counted element that is not finite makes the loss NaN, so that training can stop and say so;
    one that does not count has no effect.

    Args:
        pred: (…, T); any shape for `over="batch"`.
        target: The same shape.
        mask: The same shape, bool; elements that are False do not count.
        estimator: Of the covariance and the variances, see `CORRECTIONS`.
        over: `batch` pools all elements; `window` takes the mean over the windows, the last axis;
            `sequence` pools the windows of one sequence and takes the mean over sequences. Windows
            and sequences without a counted element are left out of the mean; one with a single
            element is constant, so it adds 1 and no gradient.
        sequences: (…), numbers that say which windows belong together; for `over="sequence"` only,
            whose cost grows with the square of the number of windows.

    Returns:
        Scalar float64; 1 with zero gradient where no score is defined.

    Raises:
        ConfigError: Unknown estimator or pooling, or no sequences to pool by.
        ValueError: The shapes differ.
    """
    _check_shapes(pred, target, mask)
    if over not in OVERS:
        raise ConfigError(f"the loss cannot pool over {over!r}; choose one of {', '.join(OVERS)}")
    shape = (1, pred.numel()) if over == "batch" else (math.prod(pred.shape[:-1]), pred.shape[-1])
    same = _same_sequence(pred, sequences) if over == "sequence" else None
    coefficient, _, counts = _coefficients(pred, target, mask, estimator, shape, same)
    present = (counts > 0).double()
    share = present / _pooled(present, same).clamp(min=1)
    return 1 - (share * coefficient).sum() / share.sum().clamp(min=1)


def _coefficients(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None,
    estimator: Estimator,
    shape: tuple[int, int],
    same: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """CCC (W,), 0 where undefined; where it is defined; elements that count. `shape` is (W, T)."""
    if estimator not in CORRECTIONS:
        raise ConfigError(
            f"unknown estimator {estimator!r} of the CCC; choose one of {', '.join(CORRECTIONS)}"
        )
    counted = torch.ones_like(pred, dtype=torch.bool) if mask is None else mask
    weight = counted.double().reshape(shape)
    counts = _pooled(weight.sum(-1), same)
    n = counts.clamp(min=1)
    x = torch.where(counted, pred.double(), 0).reshape(shape)
    y = torch.where(counted, target.double(), 0).reshape(shape)
    x_mean, y_mean = _pooled(x.sum(-1), same) / n, _pooled(y.sum(-1), same) / n
    x_off, y_off = weight * (x - x_mean[:, None]), weight * (y - y_mean[:, None])
    xy = _pooled((x_off * y_off).sum(-1), same)
    xx, yy = _pooled(x_off.square().sum(-1), same), _pooled(y_off.square().sum(-1), same)

    constant = _is_constant(xx / n, x_mean, pred) & _is_constant(yy / n, y_mean, target)
    of_covariance, of_variance = CORRECTIONS[estimator]
    covariance = xy / (counts - of_covariance).clamp(min=1)
    variances = (xx + yy) / (counts - of_variance).clamp(min=1)
    total = torch.where(constant, 1, variances + (x_mean - y_mean).square())
    return torch.where(constant, 0, 2 * covariance / total), ~constant, counts


def _pooled(sums: Tensor, same: Tensor | None) -> Tensor:
    """Sums of windows (W,), or for every window the sum over its sequence."""
    return sums if same is None else same @ sums


def _is_constant(variance: Tensor, mean: Tensor, series: Tensor) -> Tensor:
    """Say where a series varies no more than rounding does; a NaN is not constant."""
    type_ = torch.finfo(torch.result_type(series, 1.0))
    return variance <= (ROUNDINGS * type_.eps * mean.abs() + type_.tiny).square()


def _same_sequence(pred: Tensor, sequences: Tensor | None) -> Tensor:
    """(W, W), 1 where two windows belong to one sequence."""
    if sequences is None:
        raise ConfigError("the loss pools over sequences but was given none; pass `sequences`")
    if sequences.shape != pred.shape[:-1]:
        raise ValueError(
            f"expected one sequence number per window, {tuple(pred.shape[:-1])}, "
            f"got {tuple(sequences.shape)}"
        )
    numbers = sequences.flatten()
    return (numbers[:, None] == numbers).double()


def _check_shapes(pred: Tensor, target: Tensor, mask: Tensor | None) -> None:
    """Refuse to broadcast: it would pair predictions with other rows' labels."""
    for name, x in (("target", target), ("mask", mask)):
        if x is not None and x.shape != pred.shape:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}, the prediction {tuple(pred.shape)}; "
                "give both the same"
            )
