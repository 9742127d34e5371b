"""Drawing weights as torch draws those of its linear layers."""

from __future__ import annotations

import torch
from torch import nn


def uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    """Draw a weight as torch draws its linear layers': U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = fan_in**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def from_left(*shape: int) -> nn.Parameter:
    """Draw a matrix that is multiplied from the left, W X: it sums over its columns."""
    return uniform(shape, shape[-1])


def from_right(*shape: int) -> nn.Parameter:
    """Draw a matrix that is multiplied from the right, X W: it sums over its rows."""
    return uniform(shape, shape[0])
