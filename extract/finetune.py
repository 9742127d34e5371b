"""Fine-tuning: a backbone learns valence and arousal from the very rows that it will be used on.

A loop that can be read from top to bottom. Everything random follows from the seed, the epoch and
a row's place in it, so a training that is continued from a checkpoint gives, on a processor, the
very weights of one that was never broken off.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from ..cache import TrainingError
from ..cache.atomic import atomic_write
from .concordance import ccc_loss, scores
from .finetune_inputs import Inputs
from .finetune_problem import Problem, TuneSettings, precise
from .finetune_state import Checkpoint, Epoch, Regressor, State, learning_rate, optimiser_of
from .forward import bf16_supported, memory_format
from .loading import Loader
from .sampling import draw_rows, passes, planned, spaced
from .stages import freeze, rates
from .training_record import KEY, TrainingRecord

if TYPE_CHECKING:
    from .dataset import Dataset
    from .finetune_settings import FinetuneSettings
    from .loading import Batch
    from .sampling import Place

Told = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and what is being done."""
ROWS, ORDER = 0, 1
"""What random numbers are for."""


@dataclass(frozen=True, slots=True)
class Finetuned:
    """The end of a training."""

    record: TrainingRecord
    """What the weights file carries."""
    quarantine: dict[str, str]
    """Track of which nothing could be read, to the reason."""


def finetune(
    dataset: Dataset,
    stream: str,
    stream_settings: TuneSettings,
    settings: FinetuneSettings,
    out: Path,
    device: str | torch.device = "cpu",
    told: Told | None = None,
) -> Finetuned:
    """Train a stream's backbone on the labelled training rows, and save the best epoch's weights.

    Args:
        dataset: Tracks; those of split `train` are trained on, `val` chooses the epoch.
        stream: Name, such as `visual/resnet18`.
        stream_settings: How its rows are made; `weights` are those to begin with.
        settings: How training goes.
        out: The weights file, .safetensors; beside it a .jsonl with one line per epoch and, while
            training lasts, a checkpoint that the same call goes on from.
        device: Where to compute.
        told: Shows progress.

    Raises:
        ConfigError: Settings, weights or `out` are not to be had, or a checkpoint or finished file
            of another training is there.
        DataError: No labelled tracks, or a source in both splits.
        TrainingError: The loss is no longer a number, or no row can be read.
    """
    device = torch.device(device)
    settings = precise(settings, bfloat16=bf16_supported(device))
    problem = Problem.of(dataset, stream, stream_settings, settings, out)
    finished = problem.finished()
    if finished:
        return Finetuned(finished, {})
    with _gradients_allowed(device), _Training(problem, device, told or _quiet) as training:
        state = training.run()
        best = state.best_epoch
        assert best is not None
        result = {"epoch": best.epoch, "valence": best.valence, "arousal": best.arousal}
        record = replace(problem.record, **result)
        atomic_write(out, save(state.best, {KEY: record.text()}))
        training.checkpoint.remove()
    return Finetuned(record, state.quarantine)


class _Training:
    """One training under way."""

    def __init__(self, problem: Problem, device: torch.device, told: Told) -> None:
        settings = problem.settings
        self.problem, self.settings, self.device, self.told = problem, settings, device, told
        self.inputs = Inputs(problem, device)
        samples = problem.samples(margin=self.inputs.margin)
        self.forward = samples.forward
        self.loader = Loader(samples, settings.workers)
        self.checkpoint = Checkpoint(problem.out, problem.record, settings.checkpoint_seconds)
        self.state = self._begin()
        rows = sum(len(each.labelled) for each in problem.training)
        rows = min(rows, settings.rows_per_epoch or rows)
        self.per_epoch = math.ceil(math.ceil(rows / settings.batch) / settings.accumulate)
        """Steps of an epoch."""
        self._since = time.monotonic()

    def _begin(self) -> State:
        network, settings = self.problem.network, self.settings
        layout = memory_format(network, self.device)
        network.to(device=self.device).to(memory_format=layout)
        self._learn()
        model = Regressor(network, network.dim).to(self.device)
        output = (settings.head_lr, list(model.head.parameters()))
        groups = [output, *rates(network, settings.lr, settings.decay)]
        return State(model, optimiser_of(groups, settings.weight_decay))

    def _learn(self) -> None:
        """Put the network into training, but for what is frozen."""
        statistics = self.settings.batch_norm == "trained"
        freeze(self.problem.network, self.settings.freeze, statistics=statistics)

    def run(self) -> State:
        """Train until the last epoch, the end of patience, or the time limit."""
        state = self.state
        if self.checkpoint.read(state):
            self._tell(f"goes on in epoch {state.epoch + 1}")
        self._since = time.monotonic() - state.seconds
        while not self._over():
            self._train()
            self._validate()
            self._write_curve()
            if self.checkpoint.due:
                self._keep()
        return state

    def _over(self) -> bool:
        settings, state = self.settings, self.state
        ended = state.epoch >= settings.epochs or state.waited >= settings.patience
        return ended or (self._late and bool(state.curve))

    @property
    def _late(self) -> bool:
        minutes = self.settings.minutes
        return bool(minutes) and time.monotonic() - self._since >= 60 * minutes

    def _train(self) -> None:
        """Take the steps of an epoch that are left of it."""
        state = self.state
        plan, first = self._plan(state.epoch), state.step * self.settings.accumulate
        with closing(self.loader.batches(self.problem.training, plan, first)) as batches:
            while state.step < self.per_epoch:
                together = [next(batches) for _ in plan[first : first + self.settings.accumulate]]
                first += len(together)
                self._step([batch for batch in together if batch is not None])
                state.step += 1
                self._tell(f"epoch {state.epoch + 1}")
                if self.checkpoint.due and state.step < self.per_epoch:
                    self._keep()
                if self._late:
                    break
        if not state.losses:
            raise TrainingError(self._nothing("training"))

    def _plan(self, epoch: int) -> list[list[Place]]:
        settings, tracks = self.settings, self.problem.training
        rng = np.random.default_rng([settings.seed, epoch, ROWS])
        rows = draw_rows(tracks, settings.rows_per_epoch, settings.sampling, rng)
        rng = np.random.default_rng([settings.seed, epoch, ORDER])
        return planned(tracks, rows, settings.batch, rng, forward=self.forward)

    def _step(self, batches: Sequence[Batch]) -> None:
        """Take one step on batches whose rows are pooled in one loss."""
        state, settings = self.state, self.settings
        if not batches:
            return
        targets = torch.cat([batch.labels for batch in batches]).to(self.device)
        state.optimiser.zero_grad()
        if len(batches) == 1:
            loss = ccc_loss(self._predict(batches[0], state.epoch), targets)
            loss.backward()
        else:
            loss = self._accumulated(batches, targets)
        learning = [p for p in state.model.parameters() if p.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(learning, settings.clip or math.inf)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise TrainingError(self._trouble(float(loss.detach()), float(norm), batches))
        done = state.epoch * self.per_epoch + state.step
        total = settings.epochs * self.per_epoch
        factor = learning_rate(done, total, settings.warmup, settings.schedule)
        for group in state.optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        state.optimiser.step()
        state.model.head.settle()
        state.losses.append(float(loss.detach()))

    def _accumulated(self, batches: Sequence[Batch], targets: Tensor) -> Tensor:
        """Pool the loss over batches that do not fit together.

        All are predicted first; the loss' gradient in each prediction then goes back through the
        network batch by batch (Gao et al., 2021, gradient caching). It equals one large batch, but
        for the statistics of batch norms that are trained.
        """
        epoch = self.state.epoch
        with torch.no_grad():
            found = torch.cat([self._predict(batch, epoch) for batch in batches])
        found.requires_grad_()
        loss = ccc_loss(found, targets)
        (gradient,) = torch.autograd.grad(loss, found)
        parts = gradient.split([len(batch.labels) for batch in batches])
        for batch, part in zip(batches, parts, strict=True):
            self._predict(batch, epoch).backward(part)
        return loss

    def _predict(self, batch: Batch, epoch: int | None = None) -> Tensor:
        """Give (n, 2); with an epoch, of augmented samples."""
        bfloat16 = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            return self.state.model(self.inputs(batch, epoch))

    @torch.no_grad()
    def _validate(self) -> None:
        """Score the validation rows, and keep the weights if they are the best so far."""
        state, settings = self.state, self.settings
        tracks = self.problem.validation
        plan = passes(spaced(tracks, settings.validation_rows), settings.batch)
        state.model.eval()
        batches = (batch for batch in self.loader.batches(tracks, plan) if batch is not None)
        found = [(self._predict(batch).cpu(), batch.labels) for batch in batches]
        state.model.train()
        self._learn()
        if not found:
            raise TrainingError(self._nothing("validation"))
        pred, target = (torch.cat(parts) for parts in zip(*found, strict=True))
        if not torch.isfinite(pred).all():
            raise TrainingError(f"{self._where}: a validation row's prediction is not finite")
        valence, arousal = scores(pred, target)
        epoch = Epoch(
            epoch=state.epoch + 1,
            steps=state.epoch * self.per_epoch + state.step,
            loss=float(np.mean(state.losses)),
            valence=valence,
            arousal=arousal,
            score=(valence + arousal) / 2,
            rows=len(pred),
            seconds=round(time.monotonic() - self._since, 1),
        )
        state.add(epoch)
        self._tell(f"epoch {epoch.epoch}")

    def _keep(self) -> None:
        self.state.seconds = time.monotonic() - self._since
        self.state.quarantine |= self.loader.quarantine
        self.checkpoint.write(self.state)

    def _write_curve(self) -> None:
        lines = "".join(json.dumps(asdict(each)) + "\n" for each in self.state.curve)
        atomic_write(self.problem.out.with_suffix(".jsonl"), lines.encode())

    def _tell(self, what: str) -> None:
        best = self.state.best_epoch
        score = f", CCC {self.state.curve[-1].score:.3f}, best {best.score:.3f}" if best else ""
        done = self.state.epoch * self.per_epoch + self.state.step
        self.told(done, self.settings.epochs * self.per_epoch, f"{what}{score}")

    @property
    def _where(self) -> str:
        return f"{self.problem.stream}: epoch {self.state.epoch + 1}, step {self.state.step + 1}"

    def _trouble(self, loss: float, norm: float, batches: Sequence[Batch]) -> str:
        what = f"the gradient's norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
        bad = [
            batch.rows[k]
            for batch in batches
            for k in (~torch.isfinite(self.inputs(batch).flatten(1)).all(1)).nonzero().flatten()
        ]
        why = f"on {bad[0]}, which is not finite" if bad else "on rows that are finite"
        last = (
            f"; checkpoint {self.checkpoint.path} is kept" if self.checkpoint.path.exists() else ""
        )
        return f"{self._where}: {what}, {why}; lower lr or clip, or raise warmup{last}"

    def _nothing(self, which: str) -> str:
        told = "; ".join(f"{k}: {v}" for k, v in list(self.loader.quarantine.items())[:3])
        return f"{self._where}: no {which} row could be read{f' ({told})' if told else ''}"

    def __enter__(self) -> _Training:
        return self

    def __exit__(self, *error: object) -> None:
        self.state.quarantine |= self.loader.quarantine
        self.loader.close()


@contextmanager
def _gradients_allowed(device: torch.device) -> Generator[None]:
    """Allow a GPU the gradients that have no repeatable form there, such as a clip's max pool."""
    before = torch.get_deterministic_debug_mode()
    if device.type == "cuda":
        torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


def _quiet(_done: int, _total: int, _text: str) -> None:
    """Tell nobody."""
