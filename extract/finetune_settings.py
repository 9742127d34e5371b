"""How a backbone is fine-tuned; light to import, since the command's options are made of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from ..cache import ConfigError

BatchNorm = Literal["auto", "frozen", "trained"]
Sampling = Literal["tracks", "rows"]
Schedule = Literal["cosine", "constant"]
Precision = Literal["auto", "float32", "bfloat16"]
AUTO = -1
"""Of a number: as is sensible for the backbone."""
IMAGENET, KINETICS = "imagenet", "kinetics400"
INITS = {
    (IMAGENET, "resnet18"): "IMAGENET1K_V1",
    (IMAGENET, "i3d"): "inflate:IMAGENET1K_V1",
    (KINETICS, "r3d18"): "KINETICS400_V1",
}
"""Short name of weights to begin with, and backbone, to the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """Everything that decides how training goes; AUTO: as is sensible for the backbone."""

    epochs: Annotated[int, "Epochs at most; the learning rate falls over as many."] = 20
    minutes: Annotated[float, "Stop after so many minutes, validation apart; 0: no limit."] = 0.0
    patience: Annotated[int, "Epochs without a better validation score before stopping."] = 5
    rows_per_epoch: Annotated[int, "Rows drawn for an epoch; 0: every labelled one."] = AUTO
    validation_rows: Annotated[
        int, "Validation rows scored after an epoch, evenly spaced; 0: all."
    ] = 10_000
    sampling: Annotated[Sampling, "What counts evenly when rows are drawn."] = "tracks"
    batch: Annotated[int, "Rows of a forward pass."] = AUTO
    accumulate: Annotated[int, "Passes of a step; the loss is pooled over their rows together."] = (
        AUTO
    )
    lr: Annotated[float, "Learning rate of the last stage."] = AUTO
    head_lr: Annotated[float, "Learning rate of the valence/arousal output."] = 1e-3
    decay: Annotated[float, "Factor of the learning rate from a stage to the one below."] = AUTO
    freeze: Annotated[int, "Stages, counted from the input, that are not trained."] = AUTO
    weight_decay: Annotated[float, "Of AdamW."] = 0.01
    clip: Annotated[float, "Longest gradient; 0: any."] = 5.0
    warmup: Annotated[int, "Steps over which the learning rate rises."] = 20
    schedule: Annotated[Schedule, "How the learning rate goes on after that."] = "cosine"
    batch_norm: Annotated[
        BatchNorm,
        "Statistics of batch norms; auto trains those of random weights and of sound.",
    ] = "auto"
    precision: Annotated[Precision, "auto: bfloat16 where the hardware has it."] = "auto"
    flip: Annotated[float, "Chance of a mirrored clip."] = 0.5
    jitter: Annotated[float, "Most by which brightness, contrast and saturation change."] = 0.2
    shift: Annotated[float, "Most by which the crop moves, as a share of its side."] = 0.07
    gain: Annotated[float, "Most decibels by which sound gets louder or softer."] = 6.0
    filter: Annotated[float, "Most decibels by which bands of sound change beside others."] = 6.0
    pitch: Annotated[float, "Most by which sound moves over mel bands, as a share of them."] = 0.05
    frequency_mask: Annotated[float, "Widest mask over mel bands, as a share of them."] = 0.15
    time_mask: Annotated[float, "Widest mask over time, as a share of a picture's columns."] = 0.15
    seed: Annotated[int, "Of rows, their order, and augmentation."] = 0
    workers: Annotated[int, "Threads that read and decode ahead."] = 2
    checkpoint_seconds: Annotated[float, "Between two checkpoints: what a kill can cost."] = 60.0

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ConfigError: With the setting, what was expected and what was found.
        """
        for names, least in _LEAST.items():
            for name in names:
                value = getattr(self, name)
                if value != AUTO and not value >= least:
                    raise ConfigError(f"finetune: {name}: expected at least {least}, not {value}")
        for name in ("decay", "flip", "jitter", "shift", "pitch", "frequency_mask", "time_mask"):
            value = getattr(self, name)
            if not value <= 1:
                raise ConfigError(f"finetune: {name}: expected at most 1, found {value}")
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"finetune: {name}: expected one of {', '.join(get_args(kind))}, "
                    f"found {getattr(self, name)!r}"
                )

    def resolved(self, backbone: str, takes: str, *, scratch: bool) -> FinetuneSettings:
        """Fill in what is sensible for a backbone.

        Args:
            backbone: Its name.
            takes: pictures, clips or spectrograms.
            scratch: Whether its weights are random: then no stage is frozen or slower.
        """
        sensible = _BY_INPUT[takes] | _BY_BACKBONE.get(backbone, {})
        if scratch:
            sensible |= _SCRATCH
        elif takes == "spectrograms":
            # Weights of pictures see sound for the first time: none of their stages is kept.
            sensible |= {"freeze": 0}
        if self.batch_norm == "auto":
            trained = scratch or takes == "spectrograms"
            sensible |= {"batch_norm": "trained" if trained else "frozen"}
        chosen = {
            name: value
            for name, value in sensible.items()
            if getattr(self, name) == AUTO or name == "batch_norm"
        }
        return dataclasses.replace(self, **chosen)

    def decisive(self) -> dict[str, Any]:
        """Give the settings that determine the weights of a training that goes to its end."""
        plain = dataclasses.asdict(self)
        return {name: value for name, value in plain.items() if name not in _INCIDENTAL}


_LEAST = {
    ("epochs", "patience", "batch", "accumulate", "workers"): 1,
    ("minutes", "rows_per_epoch", "validation_rows", "lr", "head_lr", "decay", "freeze"): 0,
    ("weight_decay", "clip", "warmup", "flip", "jitter", "shift", "gain", "filter", "pitch"): 0,
    ("frequency_mask", "time_mask", "seed", "checkpoint_seconds"): 0,
}
_CHOICES = {
    "sampling": Sampling,
    "schedule": Schedule,
    "batch_norm": BatchNorm,
    "precision": Precision,
}
_INCIDENTAL = {"minutes", "workers", "checkpoint_seconds"}
_BY_INPUT: dict[str, dict[str, Any]] = {
    "pictures": {
        "rows_per_epoch": 20_000,
        "batch": 32,
        "accumulate": 1,
        "lr": 3e-4,
        "decay": 0.7,
        "freeze": 1,
    },
    "clips": {
        "rows_per_epoch": 4_000,
        "batch": 8,
        "accumulate": 4,
        "lr": 1e-4,
        "decay": 0.7,
        "freeze": 1,
    },
    "spectrograms": {
        "rows_per_epoch": 20_000,
        "batch": 64,
        "accumulate": 1,
        "lr": 1e-3,
        "decay": 1.0,
        "freeze": 0,
    },
}
_BY_BACKBONE: dict[str, dict[str, Any]] = {"i3d": {"freeze": 2}}
_SCRATCH = {"lr": 1e-3, "decay": 1.0, "freeze": 0}


def weights_of(init: str, backbone: str) -> str:
    """Give the weights that a short name means; others are given back as they are.

    Raises:
        ConfigError: There are none of that name for this backbone.
    """
    if init in (IMAGENET, KINETICS):
        if (init, backbone) not in INITS:
            known = [short for short, of in INITS if of == backbone]
            raise ConfigError(
                f"--init {init}: torchvision has no such weights for {backbone!r}; expected "
                f"{''.join(f'{short}, ' for short in known)}a file, or seeded[:N]"
            )
        return INITS[init, backbone]
    return init
