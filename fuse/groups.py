"""Which runs of a grid are trained at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..cache import digest
from .ensemble import cannot

if TYPE_CHECKING:
    from torch import nn

    from .run import Run
    from .settings import ExperimentSettings

MOST = 16
"""Members of an ensemble: their activations are held at once."""
ROWS = 65_536
"""Rows of a step at most, of all members together."""
WIDEST = 256
"""On a processor, the widest joined rows with which several members at once are faster: beyond,
each fills the processor's caches on its own."""
OWN = ("epochs", "patience", "lr", "momentum", "weight_decay", "clip", "schedule", "warmup")
OWN_SETTINGS = (*OWN, "decay", "every", "seeds", "tensorboard")
"""Settings that members of one ensemble may have of their own."""


def shared(experiment: ExperimentSettings) -> str:
    """Give a digest of what runs must have in common to be trained at once."""
    told: dict[str, Any] = asdict(experiment)
    told["window"] = asdict(experiment.window.resolved())
    for name in OWN_SETTINGS:
        told["training"].pop(name)
    return digest(told)


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Put runs together that may be trained at once, in the order of their first members."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(shared(run.experiment), []).append(run)
    cut: list[list[Run]] = []
    for group in groups.values():
        size = _most(group[0].experiment)
        cut += [group[first : first + size] for first in range(0, len(group), size)]
    return cut


def _most(experiment: ExperimentSettings) -> int:
    rows = experiment.training.batch * (experiment.window.resolved().length or 1)
    return max(1, min(MOST, ROWS // rows))


def why_apart(
    experiment: ExperimentSettings, heads: Sequence[nn.Module], dims: Mapping[str, int], device: str
) -> str:
    """Say why runs of a group are trained one after another; empty where they are not.

    Args:
        experiment: Of any of them.
        heads: Two of their heads.
        dims: Stream to feature width.
        device: Where they are trained.
    """
    together = experiment.training.together
    if together == "no":
        return "training.together is no"
    if not experiment.window.resolved().length:
        return "whole tracks differ in length"
    d = sum(experiment.width or dim for dim in dims.values())
    if together == "auto" and device == "cpu" and d > WIDEST:
        return f"at {d} joined dimensions they are no faster at once on a processor"
    return cannot(heads, dims, experiment.window.resolved().length)
