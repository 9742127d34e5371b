"""Normalisation that rows without a value do not touch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskedBatchNorm(nn.Module):
    """`nn.BatchNorm1d` over rows (B, T, C), with statistics of valid rows only; the same keys.

    Ioffe and Szegedy, 2015, algorithm 1: y = weight (x - mean) / sqrt(var + eps) + bias. In
    training, mean and variance are those of the batch's valid rows and move the running ones; with
    fewer than two valid rows there is no variance, and the running ones serve, unmoved.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, dim: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise all rows of x (B, T, C) by statistics of those that are valid (B, T)."""
        x = x.to(self.running_mean.dtype)
        mean, var = self.running_mean, self.running_var
        if self.training:
            rows = x.flatten(0, 1) if valid is None else x[valid]
            if len(rows) > 1:
                var, mean = torch.var_mean(rows, dim=0, correction=0)
                self._follow(mean, var, len(rows))
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, rows: int) -> None:
        """Move the running statistics; the variance is unbiased there, as torch's is."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * rows / (rows - 1), self.momentum)
        self.num_batches_tracked += 1
