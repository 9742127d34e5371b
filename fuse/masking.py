"""Masks: rows without a value are zero, and nothing attends to them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_

import torch
from torch import Tensor


def zeroed(x: Tensor, valid: Tensor | None) -> Tensor:
    """Set rows without a value to zero: x (…, T, d), valid (…, T) or None for all."""
    return x if valid is None else torch.where(valid[..., None], x, 0.0)


def silenced(x: Tensor, valid: Tensor | None) -> Tensor:
    """`zeroed` for numbers that were computed here, so are finite: several times as fast."""
    return x if valid is None else x * valid[..., None]


def any_valid(valid: Mapping[str, Tensor]) -> Tensor:
    """Say where at least one stream or modality has a value: (…, T) each."""
    return reduce(or_, valid.values())


def masked_softmax(scores: Tensor, keys: Tensor | None, dim: int) -> Tensor:
    """Softmax over the keys that may be attended to; all zero where none may be.

    Args:
        scores: Any shape.
        keys: Of a shape that broadcasts to it, bool; None for all.
        dim: The keys' axis.
    """
    if keys is None:
        return scores.softmax(dim)
    # The lowest number, not infinity: a query without keys is no NaN on the way, for those who
    # look for one (autograd's anomaly mode).
    masked = torch.where(keys, scores, torch.finfo(scores.dtype).min)
    return torch.where(keys, masked.softmax(dim), 0.0)
