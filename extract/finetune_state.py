"""The state of fine-tuning: in memory, and on disk while it lasts."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..cache import ConfigError
from ..cache.atomic import atomic_write
from .training_record import KEY, TrainingRecord, training_record

if TYPE_CHECKING:
    from pathlib import Path


MOMENTUM = 0.1
"""Share by which the output's moments of features follow a step's."""
LEAST_STD = 1e-3
"""Of a feature that hardly varies."""


class Output(nn.Module):
    """Valence and arousal, linear in features that are standardised by their running moments.

    Pooled features are positive: without standardising, small weights that change together move
    the mean of all predictions far from the labels, where 1 - CCC is flat and nothing is learnt.
    """

    mean: Tensor
    std: Tensor
    known: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2)
        # From zeros the first step goes straight towards the labels; 1 - CCC has a slope there.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))
        self._seen: list[Tensor] = []

    def forward(self, features: Tensor) -> Tensor:
        """(n, dim) to (n, 2), valence first."""
        if self.training and torch.is_grad_enabled():
            self._seen.append(features.detach())
        return self.linear((features - self.mean) / self.std)

    def settle(self) -> None:
        """Let the moments follow the features of a step; within one they stay as they are."""
        features, self._seen = torch.cat(self._seen), []
        if len(features) > 1:
            share = MOMENTUM if self.known else 1.0
            self.mean.lerp_(features.mean(0), share)
            self.std.lerp_(features.std(0).clamp(min=LEAST_STD), share)
            self.known.fill_(value=True)

    def folded(self) -> dict[str, Tensor]:
        """Give weight (2, dim) and bias (2,) of the same output on plain features."""
        weight = self.linear.weight.detach() / self.std
        return {"weight": weight, "bias": self.linear.bias.detach() - weight @ self.mean}


class Regressor(nn.Module):
    """A backbone with an output for valence and arousal."""

    def __init__(self, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Output(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(n, …) to (n, 2), valence first."""
        features: Tensor = self.backbone(x)
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.float())

    def tensors(self) -> dict[str, Tensor]:
        """Give what the weights file holds: the backbone's tensors, and the output as its head.

        The output stands under the names of the backbone's own classifier, which loading ignores.
        """
        state = self.backbone.state_dict()
        heads: tuple[str, ...] = tuple(getattr(self.backbone, "heads", ()))
        plain = {
            name: value for name, value in state.items() if not name.startswith(heads or ("\0",))
        }
        output = self.head.folded()
        if heads:
            # Where the classifier is a convolution, so is the output: (2, dim, 1, 1, 1).
            own = {n.rpartition(".")[2]: n for n in state if n.startswith(heads)}
            for name, value in output.items():
                key = own.get(name, f"{heads[0]}{name}")
                more = max(0, state[key].ndim - value.ndim) if key in state else 0
                plain[key] = value.view(*value.shape, *[1] * more)
        return {n: value.detach().cpu().clone().contiguous() for n, value in plain.items()}


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch gave."""

    epoch: int
    """From 1."""
    steps: int
    """In all so far."""
    loss: float
    """Mean of its steps."""
    valence: float
    """CCC on the validation rows."""
    arousal: float
    score: float
    """Mean of the two."""
    rows: int
    """Validation rows scored."""
    seconds: float
    """Of all work so far."""


@dataclass(slots=True, eq=False)
class State:
    """Everything that training goes on from."""

    model: Regressor
    optimiser: torch.optim.AdamW
    epoch: int = 0
    step: int = 0
    """Within the epoch."""
    losses: list[float] = field(default_factory=list)
    """Of the epoch's steps."""
    seconds: float = 0.0
    curve: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    """As `Regressor.tensors`, of the best epoch."""
    quarantine: dict[str, str] = field(default_factory=dict)
    """Track of which nothing could be had, to the reason."""

    @property
    def best_epoch(self) -> Epoch | None:
        """The epoch with the highest score, the first of several."""
        return max(self.curve, key=lambda each: each.score, default=None)

    def add(self, epoch: Epoch) -> None:
        """Take note of an epoch, and keep its weights if none before was as good."""
        self.curve.append(epoch)
        if self.best_epoch is epoch:
            self.best = self.model.tensors()
        self.epoch, self.step, self.losses = self.epoch + 1, 0, []

    @property
    def waited(self) -> int:
        """Count the epochs since the best one."""
        return len(self.curve) - (self.best_epoch.epoch if self.best_epoch else 0)

    def record(self) -> dict[str, Any]:
        """Give all that is no tensor, as plain values."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return plain | {"curve": [asdict(each) for each in self.curve]}

    def tensors(self) -> dict[str, Tensor]:
        """Give all tensors under one name each."""
        found = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        found |= {f"best/{name}": value for name, value in self.best.items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            found |= {f"moments/{number}/{name}": value for name, value in moments.items()}
        return {name: value.contiguous() for name, value in found.items()}

    def restore(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go back to a kept state."""
        for name in _PLAIN:
            setattr(self, name, record[name])
        self.curve = [Epoch(**each) for each in record["curve"]]
        self.best = _below(tensors, "best/")
        self.model.load_state_dict(_below(tensors, "model/"))
        moments: dict[int, dict[str, Tensor]] = {}
        learning = [p for group in self.optimiser.param_groups for p in group["params"]]
        for name, value in _below(tensors, "moments/").items():
            number, _, key = name.partition("/")
            own = learning[int(number)]
            # In the memory format of the parameter, in which other loops run than in another one.
            fitted = torch.empty_like(own).copy_(value) if value.shape == own.shape else value
            moments.setdefault(int(number), {})[key] = fitted
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})


_PLAIN = ("epoch", "step", "losses", "seconds", "quarantine")


def _below(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {n.removeprefix(start): x for n, x in tensors.items() if n.startswith(start)}


class Checkpoint:
    """One file beside the weights to come, written as a whole or not at all."""

    def __init__(self, out: Path, record: TrainingRecord, seconds: float) -> None:
        self.path = out.with_name(f"{out.stem}.checkpoint.safetensors")
        self._record, self._seconds = record, seconds
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._written >= self._seconds

    def write(self, state: State) -> None:
        """Keep the state.

        Raises:
            StoreError: The disk is full; the one before is as it was.
        """
        told = {KEY: self._record.text(), "state": json.dumps(state.record())}
        atomic_write(self.path, save(state.tensors(), told))
        self._written = time.monotonic()

    def read(self, state: State) -> bool:
        """Go back to the kept state, if there is one.

        Raises:
            ConfigError: It is of another training, or damaged.
        """
        if not self.path.exists():
            return False
        found = training_record(self.path)
        differing = found.differences(self._record) if found else ["record"]
        if differing:
            raise ConfigError(
                f"{self.path}: is the checkpoint of another training, which differs in "
                f"{', '.join(differing)}; go on with the same command, delete it, or name another "
                "--out"
            )
        try:
            with safe_open(self.path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                state.restore(json.loads(file.metadata()["state"]), tensors)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ConfigError(f"{self.path}: is damaged ({error}); delete it") from error
        return True

    def remove(self) -> None:
        """Training is over."""
        self.path.unlink(missing_ok=True)


def learning_rate(step: int, total: int, warmup: int, schedule: str) -> float:
    """Give the factor of all learning rates in a step.

    Args:
        step: From 0, over all epochs.
        total: Steps of all epochs.
        warmup: Steps over which the factor rises to 1.
        schedule: `cosine` (Loshchilov and Hutter, 2017, without restarts) or `constant`.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2


def optimiser_of(
    groups: Sequence[tuple[float, list[nn.Parameter]]], weight_decay: float
) -> torch.optim.AdamW:
    """Make AdamW of rates and their parameters; `lr` is scaled from `peak` by the schedule."""
    made = [{"params": parameters, "lr": lr, "peak": lr} for lr, parameters in groups]
    return torch.optim.AdamW(made, weight_decay=weight_decay)
