"""Optimisers and schedules of many members at once: every row of a tensor has its own settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .settings import Optimiser as Kind
    from .settings import TrainingSettings

BETAS = (0.9, 0.999)
EPS = 1e-8


@dataclass(slots=True)
class Optimiser:
    """Adam, AdamW or SGD over weights (M, P); numerically torch's, with settings per member.

    Adam: Kingma and Ba, 2015, algorithm 1. AdamW: Loshchilov and Hutter, 2019, algorithm 2. SGD has
    momentum as torch has it: b = momentum b + g, the first step with b = g.
    """

    kind: Kind
    steps: int = 0
    moments: list[Tensor] = field(default_factory=list)
    """(M, P) each: of Adam the running means of g and of its square, of SGD the momentum."""

    @torch.no_grad()
    def step(
        self, weights: Tensor, gradient: Tensor, lr: Tensor, settings: Sequence[TrainingSettings]
    ) -> None:
        """Move weights in place.

        Args:
            weights: (M, P).
            gradient: (M, P); used up.
            lr: (M, 1).
            settings: Of every member: its weight decay and momentum.
        """
        if not self.moments:
            count = 1 if self.kind == "sgd" else 2
            self.moments = [torch.zeros_like(weights) for _ in range(count)]
        self.steps += 1
        decay = column([each.weight_decay for each in settings], weights)
        if self.kind == "adamw":
            weights.mul_(1 - lr * decay)
        elif decay.any():
            gradient.addcmul_(weights, decay)
        if self.kind == "sgd":
            momentum = column([each.momentum for each in settings], weights)
            self.moments[0].mul_(momentum).add_(gradient)
            weights.sub_(self.moments[0] * lr)
            return
        mean, square = self.moments
        mean.lerp_(gradient, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        first, second = (1 - beta**self.steps for beta in BETAS)
        spread = square.sqrt().div_(math.sqrt(second)).add_(EPS)
        weights.sub_(torch.div(mean, spread, out=spread).mul_(lr / first))

    def keep(self, members: Tensor) -> None:
        """Go on with some members only."""
        self.moments = [moment[members] for moment in self.moments]


def clip(gradient: Tensor, most: Tensor) -> Tensor:
    """Limit the norm of every member's gradient (M, P) in place to `most` (M, 1); give the norms.

    Pascanu, Mikolov and Bengio, 2013, algorithm 1.
    """
    norms = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    gradient.mul_((most / (norms + 1e-6)).clamp(max=1))
    return norms


def rate(settings: TrainingSettings, step: int, per_epoch: int, factor: float = 1.0) -> float:
    """Give the learning rate of a step.

    Args:
        settings: `lr`, `schedule`, `warmup`, `decay`, `every`, `epochs`.
        step: From 0, over all epochs.
        per_epoch: Steps of an epoch.
        factor: What plateaus have left of it.
    """
    warm = settings.warmup * per_epoch
    if step < warm:
        return settings.lr * (step + 1) / warm
    done = (step - warm) / max(1, settings.epochs * per_epoch - warm)
    if settings.schedule == "linear":
        return settings.lr * (1 - done)
    if settings.schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * done)) / 2
    if settings.schedule == "step":
        return settings.lr * settings.decay ** ((step - warm) // per_epoch // settings.every)
    return settings.lr * factor


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """Give one number per member, (M, 1)."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
