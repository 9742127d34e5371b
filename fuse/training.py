"""Training: a loop that can be read from top to bottom, for one run or several at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import vmap

from ..cache import TrainingError
from .concordance import ccc_loss
from .evaluate import Problem, predict, present, track_rows
from .heads import build_head
from .optimisers import clip, column, rate
from .protocols import scored
from .run import Epoch, Run
from .state import State
from .trouble import trouble

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .checkpoint import Checkpoint
    from .rows import Batch
    from .settings import ExperimentSettings, Over
    from .windows import Windows

Told = Callable[[Sequence[Run]], None]
"""Called after every epoch with the runs in training."""


def train(
    problem: Problem,
    runs: Sequence[Run],
    checkpoint: Checkpoint | None = None,
    told: Told | None = None,
) -> Iterator[Run]:
    """Train runs with the CCC loss, each stopping early on its own validation score.

    Everything random follows from a run's seed, the epoch and the step, so a run that is continued
    from a checkpoint gives the very weights of one that was never broken off (on a processor).

    Args:
        problem: Rows, tracks and scaling.
        runs: One, or several that differ in seed, rate, decay, clipping, patience and schedule
            alone: they are trained at once, each with its own order of windows and dropout.
        checkpoint: Where the state is kept while training lasts; read first, if it is there.
        told: Called after every epoch.

    Yields:
        Each run when it has ended: with its best and last weights, or with `failure`.

    Raises:
        TrainingError: No labelled row in one of the parts, or no window.
    """
    steps = Steps.of(problem, runs[0].experiment)
    state = State(runs, [build(problem, run.experiment, run.seed) for run in runs])
    if checkpoint:
        checkpoint.read(state)
    while state.runs:
        epoch = state.step // steps.per_epoch
        while state.runs and state.step < (epoch + 1) * steps.per_epoch:
            steps.take(state)
            yield from _ended(state, [bool(run.failure) for run in state.runs])
            if checkpoint and checkpoint.due and state.step % steps.per_epoch:
                checkpoint.write(state)
        if not state.runs:
            return
        _validate(state, steps)
        sound = [run for run in state.runs if not run.failure]
        if told and sound:
            told(sound)
        yield from _ended(state, [run.done or bool(run.failure) for run in state.runs])
        if checkpoint and checkpoint.due and state.runs:
            checkpoint.write(state)


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What a step needs beside the state."""

    problem: Problem
    windows: Windows
    batch: int
    loss: Over

    @classmethod
    def of(cls, problem: Problem, experiment: ExperimentSettings) -> Steps:
        """Cut the training tracks into windows."""
        _check_labels(problem)
        window, settings = experiment.window.resolved(), experiment.training
        windows = problem.rows.windows(problem.training, window)
        if not len(windows):
            raise TrainingError(
                f"no training track has a window of {window.length} rows {window.dilation} apart; "
                "set window.tail: pad, or a shorter window"
            )
        return cls(problem, windows, settings.batch if window.length else 1, settings.loss)

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch: every window once."""
        return math.ceil(len(self.windows) / self.batch)

    def take(self, state: State) -> None:
        """Take one step of every run, and say in `failure` what went wrong with one."""
        epoch, number = divmod(state.step, self.per_epoch)
        runs, ensemble = state.runs, state.ensemble
        here = slice(number * self.batch, (number + 1) * self.batch)
        chosen = np.stack([order(run.seed, epoch, len(self.windows))[here] for run in runs])
        numbers = self.windows.rows(chosen)
        batch = self.problem.rows.batch(self.problem.streams, numbers)
        ensemble.train(True)
        with seeded(runs[0].seed, state.step + 1, batch.rows.device):
            out = ensemble(self.problem.scaling(batch.features), batch.valid, batch.rows)
        losses = losses_of(out, batch, self.windows.tracks[chosen], self.loss)
        gradient = ensemble.gradient(losses)

        settings = [run.experiment.training for run in runs]
        norms = clip(gradient, column([each.clip for each in settings], gradient))
        rates = [self.rate(run, state.step) for run in runs]
        state.optimiser.step(ensemble.weights, gradient, column(rates, gradient), settings)
        found, lengths = losses.detach().cpu(), norms[:, 0].tolist()
        for run, loss, norm, rows in zip(runs, found.tolist(), lengths, numbers, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                run.failure = trouble(self.problem, run, _what(loss, norm, epoch, number), rows)
        state.losses += found
        state.step += 1

    def rate(self, run: Run, step: int) -> float:
        """Give the learning rate of a run's step."""
        return rate(run.experiment.training, step, self.per_epoch, run.factor)


def _validate(state: State, steps: Steps) -> None:
    """Score every run after an epoch, and keep the best weights."""
    problem, epoch = steps.problem, state.step // steps.per_epoch
    window = state.runs[0].experiment.window.resolved()
    predictions = predict(state.ensemble, problem, problem.validation, window)
    there = torch.from_numpy(present(problem, problem.validation))
    for number, run in enumerate(state.runs):
        if not torch.isfinite(predictions[number][there]).all():
            what = f"a prediction is not finite after epoch {epoch}"
            run.failure = trouble(problem, run, what, problem.rows.numbers(problem.validation))
            continue
        loss = float(state.losses[number]) / steps.per_epoch
        score = scored("official", "none", track_rows(problem, predictions[number]))
        lr = steps.rate(run, state.step - 1)
        if run.add(Epoch(epoch, loss, score.valence, score.arousal, score.score, lr)):
            run.best = state.ensemble.member(number)
            run.predictions = predictions[number].clone()
    state.losses.zero_()


def _what(loss: float, norm: float, epoch: int, number: int) -> str:
    what = f"the gradient's norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
    return f"{what} in epoch {epoch + 1}, step {number + 1}"


def _ended(state: State, ended: Sequence[bool]) -> Iterator[Run]:
    """Give the runs that have ended, and go on with the others."""
    for number, run in enumerate(state.runs):
        if ended[number]:
            run.last = state.ensemble.member(number)
            yield run
    state.keep([number for number, over in enumerate(ended) if not over])


def build(problem: Problem, experiment: ExperimentSettings, seed: int) -> nn.Module:
    """Build a head with the weights that its seed gives."""
    device = problem.rows.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dims = problem.rows.dims(problem.streams)
        head = build_head(dims, experiment.window.resolved().length, experiment)
    return head.to(device)


@lru_cache(maxsize=64)
def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Give the order of windows in an epoch of a seed."""
    return np.random.default_rng([seed, epoch]).permutation(count)


@contextmanager
def seeded(seed: int, step: int, device: torch.device) -> Generator[None]:
    """Let what is random in a step follow from seed and step; nothing outside is touched."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
        yield


def losses_of(out: Tensor, batch: Batch, tracks: NDArray[np.int64], over: Over) -> Tensor:
    """Give 1 - CCC of every member, mean of valence and arousal.

    Args:
        out: (M, B, T, 2).
        batch: Its labels.
        tracks: (M, B) place of each window's track.
        over: What the loss is pooled over.

    Returns:
        (M,) float64.
    """
    pred, target = (x.movedim(-1, 0).flatten(0, 1) for x in (out, batch.labels))
    mask = batch.labelled.repeat(2, 1, 1)
    if over == "sequence":
        sequences = torch.from_numpy(tracks).to(out.device).repeat(2, 1)
        loss = vmap(_sequence_loss)(pred, target, mask, sequences)
    else:
        loss = vmap(partial(ccc_loss, over=over))(pred, target, mask)
    return loss.view(2, -1).mean(0)


def _sequence_loss(pred: Tensor, target: Tensor, mask: Tensor, sequences: Tensor) -> Tensor:
    return ccc_loss(pred, target, mask, over="sequence", sequences=sequences)


def _check_labels(problem: Problem) -> None:
    for name, tracks in (("training", problem.training), ("validation", problem.validation)):
        numbers = torch.from_numpy(problem.rows.numbers(tracks)).to(problem.rows.device)
        if not problem.rows.labelled[numbers].any():
            raise TrainingError(f"no labelled row in the {name} tracks; check the label files")
