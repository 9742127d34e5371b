"""Activations that cost a third of torch's own on a processor."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent as 2 sigmoid(2 x) - 1: of a precision relative to 1, not to itself."""
    return cast("Tensor", _Tanh.apply(x))


class _Tanh(torch.autograd.Function):
    """Holds its output alone until the gradient is known, as torch's own does."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.mul(2).sigmoid_().mul_(2).sub_(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:  # noqa: ARG004 - torch's
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradients[0], y)
