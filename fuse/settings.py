"""What a user may set of an experiment; light to import, since the workflow reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Encoder = Literal["none", "tcn", "gru", "transformer"]


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

    head: str
    """A name that `concord fuse heads` lists, one of an installed package, or `module:Class`."""
    streams: tuple[str, ...]
    width: int = 0
    """Width of a linear projection per stream in front of the head; 0 is none, as published."""
    encoder: Encoder = "none"
    """Temporal encoder of every stream, between projection and head."""
    encoders: tuple[Encoder, ...] = ()
    """One per stream, in their order, instead of the same for all."""
    levels: int = 4
    """Layers of a temporal encoder; a TCN's reach doubles with each."""
    kernel: int = 5
    """Rows of a TCN's convolutions."""
    hidden: int = 128
    """Width of the fully connected layer before the output; 0 is none: a linear read-out."""
    dropout: float = 0.3
    """In the fully connected layers and in temporal encoders."""
    k: int = 32
    """Width of the attention's hidden representation (jca, jca_any)."""
    temperature: float = 1.0
    """Of the softmax over steps (cross_attention)."""
    recursions: int = 3
    """Times that the attention is applied, each with weights of its own (rjcma)."""
    d: int = 32
    """Width that a modality has as a token (leader_follower)."""
    causal: bool = False
    """A row's prediction depends on no later row (jca_any, transformer; tcn and gru always)."""
    attention_heads: int = 0
    """Attention heads of a code variant; 0 is the reference's number."""

    def encoder_of(self, number: int) -> Encoder:
        """Name the temporal encoder of a stream."""
        return self.encoders[number] if self.encoders else self.encoder

    @property
    def encoders_told(self) -> str:
        """Name the temporal encoders for tables: one where all streams have the same."""
        names = dict.fromkeys(self.encoders or (self.encoder,))
        return ", ".join(self.encoders if len(names) > 1 else names)


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseSettings:
    """Everything that stage two is told."""

    window: WindowSettings = field(default_factory=WindowSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    experiments: tuple[ExperimentSettings, ...] = ()
    traces: int = 6
    """Validation tracks whose predictions are shown in the report."""
