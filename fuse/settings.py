"""What a user may set of an experiment; light to import, since the workflow reads it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Encoder = Literal["none", "tcn", "gru", "transformer"]
Preset = Literal["short", "sucv", "livia", "whole"]
Tail = Literal["", "align", "pad", "drop"]
Over = Literal["batch", "window", "sequence"]
Optimiser = Literal["adam", "adamw", "sgd"]
Schedule = Literal["constant", "linear", "cosine", "step", "plateau"]
Together = Literal["auto", "yes", "no"]
Protocol = Literal["official", "faces_only", "livia", "sucv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSettings:
    """How a track's rows are cut into windows: a preset, and what differs from it."""

    preset: Preset = "short"
    """`short`: 32 rows, hop 8. `sucv`: 300 rows, hop 200 (LFAN, RJCMA). `livia`: 16 rows, 32 rows
    apart, every row predicted once (JCA, JMT). `whole`: a track at a time, one per step."""
    length: int = 0
    """Rows per window; 0 is the preset's. Shorter tracks are padded."""
    hop: int = 0
    """Rows between the starts of two training windows; 0 is the preset's. Windows of dilation D
    come D at a time, each starting a row after the one before; then it is from group to group."""
    hop_scoring: int = 0
    """The same when predicting; overlapping predictions are averaged."""
    dilation: int = 0
    """Rows from one row of a window to the next; 0 is the preset's."""
    tail: Tail = ""
    """What the end of a track does to training windows; empty is the preset's. `align` moves the
    last one back to end with the track, `pad` lets it leave the track, `drop` leaves it out."""

    def resolved(self) -> WindowSettings:
        """Give the settings with every number filled in from the preset."""
        if self.preset == "whole":
            return WindowSettings(preset="whole", hop=1, hop_scoring=1, dilation=1, tail="pad")
        known = PRESETS[self.preset]
        length, dilation = self.length or known.length, self.dilation or known.dilation
        group = length * dilation if dilation > 1 else 0
        return replace(
            self,
            length=length,
            hop=self.hop or group or known.hop,
            hop_scoring=self.hop_scoring or group or min(known.hop_scoring, length),
            dilation=dilation,
            tail=self.tail or known.tail,
        )


PRESETS = {
    "short": WindowSettings(length=32, hop=8, hop_scoring=8, dilation=1, tail="align"),
    "sucv": WindowSettings(length=300, hop=200, hop_scoring=200, dilation=1, tail="align"),
    "livia": WindowSettings(length=16, hop=512, hop_scoring=512, dilation=32, tail="pad"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How heads are trained."""

    epochs: int = 40
    patience: int = 10
    """Epochs without a better validation score before stopping."""
    batch: int = 16
    """Windows per step."""
    loss: Over = "batch"
    """What 1 - CCC is pooled over: all rows of a batch, each window, or the windows of a track."""
    optimiser: Optimiser = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    """Of sgd."""
    weight_decay: float = 1e-2
    clip: float = 1.0
    """Largest norm of the gradient."""
    schedule: Schedule = "constant"
    """The learning rate after the warm-up. `linear` and `cosine` end near 0 with the last epoch,
    `step` multiplies it by `decay` after `every` epochs, `plateau` after `every` epochs without a
    better validation score."""
    warmup: int = 0
    """Epochs over which the learning rate rises from 0, step by step."""
    decay: float = 0.5
    every: int = 5
    seeds: tuple[int, ...] = (0, 1, 2)
    together: Together = "auto"
    """Train runs that differ in seed or in these settings alone as one vectorised ensemble: where
    that is faster, always, or never."""
    tensorboard: bool = False
    """Write TensorBoard events beside the metrics (`pip install 'concord[tensorboard]'`)."""


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
    fold: str = "official"
    """Which tracks train and which validate: `official`, `six:0` to `six:5` (the field's, of which
    0 is the official one), `grouped:0` to `grouped:5` (recordings are kept together)."""
    window: WindowSettings = field(default_factory=WindowSettings)
    """In a configuration: what differs from `fuse.window`; another preset takes nothing from it."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    """In a configuration: what differs from `fuse.training`."""

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
    """In a configuration a list in place of one value of an experiment means each of them: all
    combinations are trained."""
    protocol: Protocol = "official"
    """How validation rows are scored for the table."""
    smoothing: str = "none"
    """`none`, or `box:N`, `box:N,M`: a moving average over N rows (valence) and M (arousal)."""
    faces: str = ""
    """Stream that has a value where a face is seen (faces_only); empty: the first visual one."""
    resamples: int = 2000
    """Bootstrap resamples of the table's intervals, over families of tracks."""
    batches: int = 1
    """Jobs that the runs are dealt to in a workflow."""
    memory: float = 0.0
    """GiB that the rows may take; 0 is half of what is free. Beyond, they stay on disk, mapped."""
    traces: int = 6
    """Validation tracks whose predictions are shown in the report."""
    maps: int = 3
    """Windows of the longest validation track whose attention maps are shown in the report."""
    published: bool = False
    """Put what papers report for Aff-Wild2 beside the report's results, as a reference."""
