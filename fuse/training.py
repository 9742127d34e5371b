"""Training one run: a loop that can be read from top to bottom."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ..cache import TrainingError
from .concordance import ccc_loss
from .evaluate import Score, fill, predict, score
from .heads import build_head

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .rows import Rows
    from .settings import ExperimentSettings, TrainingSettings, WindowSettings


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave."""

    epoch: int
    """From 1."""
    train_loss: float
    valence: float
    arousal: float
    score: float
    """Mean of the two pooled CCCs on the validation split."""


@dataclass(slots=True)
class Run:
    """One head, one configuration, one seed, trained."""

    seed: int
    parameters: int
    state: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best epoch."""
    best_epoch: int = 0
    best: Score | None = None
    predictions: Tensor | None = None
    """(N, 2) of the validation rows, by the best epoch's weights, filled."""
    filled: int = 0
    """Validation rows without any value."""
    curve: list[Epoch] = field(default_factory=list)


def train(
    training: Rows,
    validation: Rows,
    experiment: ExperimentSettings,
    window: WindowSettings,
    settings: TrainingSettings,
    seed: int,
) -> Run:
    """Train a head with the CCC loss, stopping early on the validation score.

    Args:
        training: Scaled rows of the experiment's streams.
        validation: The same of the validation split.
        experiment: Head and its settings.
        window: How rows are cut.
        settings: Optimiser, length and stopping.
        seed: Determines initial weights, order and dropout: the same seed, the same numbers.

    Returns:
        The run, with the best epoch's weights and predictions.

    Raises:
        TrainingError: No labelled row, or a loss that is not finite.
    """
    if not training.labelled.any() or not validation.labelled.any():
        raise TrainingError("a split holds no labelled row; check the label files")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = build_head(training.dims, window.length, experiment).to(training.labels.device)
        run = Run(seed, sum(p.numel() for p in head.parameters()))
        optimiser = torch.optim.AdamW(
            head.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        numbers = training.windows(window.length, window.hop)
        scored = validation.windows(window.length, window.hop_scoring)
        for epoch in range(1, settings.epochs + 1):
            order = torch.randperm(len(numbers))
            losses = [
                _step(head, optimiser, training, numbers[part], settings.clip)
                for part in order.split(settings.batch)
            ]
            loss = sum(losses) / len(losses)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"head {experiment.head!r}, seed {seed}: the loss is {loss} in epoch {epoch}; "
                    "lower training.lr or training.clip"
                )
            predictions, run.filled = fill(predict(head, validation, scored), validation)
            now = score(predictions, validation)
            run.curve.append(Epoch(epoch, loss, now.valence, now.arousal, now.mean))
            if run.best is None or now.mean > run.best.mean or math.isnan(run.best.mean):
                run.best, run.best_epoch, run.predictions = now, epoch, predictions.cpu()
                run.state = {name: x.cpu().clone() for name, x in head.state_dict().items()}
            if epoch - run.best_epoch >= settings.patience:
                break
    return run


def _step(
    head: nn.Module,
    optimiser: torch.optim.Optimizer,
    rows: Rows,
    numbers: Tensor,
    clip: float,
) -> float:
    """Take one step on a batch of windows and give its loss: mean over valence and arousal."""
    head.train()
    features, valid, inside = rows.gather(numbers)
    at = numbers.clamp(min=0)
    labels, counted = rows.labels[at], rows.labelled[at] & inside
    out = head(features, valid, inside)
    loss = (
        ccc_loss(out[..., 0], labels[..., 0], counted)
        + ccc_loss(out[..., 1], labels[..., 1], counted)
    ) / 2
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(head.parameters(), clip)
    optimiser.step()
    return loss.item()
