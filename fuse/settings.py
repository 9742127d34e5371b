"""What a user may set of an experiment; light to import, since the workflow reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSettings:
    """How a track's rows are cut into windows."""

    length: int = 32
    """Rows per window; shorter tracks are padded."""
    hop: int = 8
    """Rows between the starts of two training windows; the last one is aligned to the end."""
    hop_scoring: int = 8
    """The same when predicting; overlapping predictions are averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How heads are trained."""

    epochs: int = 40
    patience: int = 10
    """Epochs without a better validation score before stopping."""
    batch: int = 16
    """Windows per step."""
    lr: float = 1e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    """Largest norm of the gradient."""
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSettings:
    """One line of the table of results: a head over some streams."""

    head: Literal["concat", "jca"]
    streams: tuple[str, ...]
    width: int = 0
    """Width of a linear projection per stream in front of the head; 0 is none, as published."""
    hidden: int = 128
    """Width of the fully connected layer before the output."""
    dropout: float = 0.3
    k: int = 32
    """Rows of the attention's hidden representation (jca)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseSettings:
    """Everything that stage two is told."""

    window: WindowSettings = field(default_factory=WindowSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    experiments: tuple[ExperimentSettings, ...] = ()
    traces: int = 6
    """Validation tracks whose predictions are shown in the report."""
