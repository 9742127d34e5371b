"""One run: one head, one configuration, one fold, one seed; and what came of it so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .settings import ExperimentSettings

SCORES = ("valence", "arousal", "score")


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave."""

    epoch: int
    """From 1."""
    train_loss: float
    valence: float
    arousal: float
    score: float
    """Mean of the two pooled CCCs of the validation tracks, NaN where one is undefined."""
    lr: float
    """Learning rate of its last step."""


@dataclass(slots=True, eq=False)
class Run:
    """A run in training or trained."""

    experiment: ExperimentSettings
    seed: int
    parameters: int = 0
    curve: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best epoch."""
    last: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the last epoch."""
    predictions: Tensor | None = None
    """(n, 2) of the validation rows, by the best epoch's weights; NaN in rows without a value."""
    factor: float = 1.0
    """What plateaus have left of the learning rate."""
    waited: int = 0
    """Epochs since the best score or the last plateau."""
    together: tuple[int, ...] = ()
    """Seeds of the runs that it was trained at once with."""
    failure: str = ""
    """Why training stopped without a result."""

    @property
    def score(self) -> float:
        """The best epoch's score; NaN before the first epoch."""
        return self.curve[self.best_epoch - 1].score if self.best_epoch else math.nan

    @property
    def name(self) -> str:
        """Say which run this is, for messages."""
        e = self.experiment
        return f"head {e.head!r} over {', '.join(e.streams)}, fold {e.fold}, seed {self.seed}"

    @property
    def done(self) -> bool:
        """Whether its epochs or its patience are over."""
        settings = self.experiment.training
        epoch = len(self.curve)
        return epoch >= settings.epochs or epoch - self.best_epoch >= settings.patience

    def add(self, epoch: Epoch) -> bool:
        """Take over what an epoch gave, and say whether it is the best so far."""
        self.curve.append(epoch)
        better = not self.best_epoch or epoch.score > self.score or math.isnan(self.score)
        if better:
            self.best_epoch, self.waited = epoch.epoch, 0
            return True
        self.waited += 1
        settings = self.experiment.training
        if settings.schedule == "plateau" and self.waited >= settings.every:
            self.factor, self.waited = self.factor * settings.decay, 0
        return False

    def record(self) -> dict[str, Any]:
        """Give what is no tensor, for a checkpoint; NaN as None."""
        return {
            "seed": self.seed,
            "curve": [plain(asdict(epoch)) for epoch in self.curve],
            "best_epoch": self.best_epoch,
            "factor": self.factor,
            "waited": self.waited,
        }

    def restore(self, record: Mapping[str, Any]) -> None:
        """Read what `record` gave."""
        known: list[dict[str, Any]] = record["curve"]
        filled: list[dict[str, Any]] = [
            {n: math.nan if x is None else x for n, x in e.items()} for e in known
        ]
        self.curve = [Epoch(**epoch) for epoch in filled]
        self.best_epoch, self.factor = record["best_epoch"], record["factor"]
        self.waited = record["waited"]


def plain(record: dict[str, float]) -> dict[str, float | None]:
    """Give numbers for JSON: None for NaN."""
    return {name: None if math.isnan(x) else x for name, x in record.items()}
