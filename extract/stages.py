"""Stages of a backbone, from the input to the output: what is frozen, and what learns how fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from ..cache import ConfigError
from .backbones import R3D18, ResNet18
from .i3d import I3D

Stages = Mapping[str, tuple[str, ...]]

_RESIDUAL = {name: (f"{name}.",) for name in ("layer1", "layer2", "layer3", "layer4")}
STAGES: dict[type[nn.Module], Stages] = {
    ResNet18: {"stem": ("conv1.", "bn1."), **_RESIDUAL},
    R3D18: {"stem": ("stem.",), **_RESIDUAL},
    I3D: {
        "conv1": ("Conv3d_1a_7x7.",),
        "conv2": ("Conv3d_2b_1x1.", "Conv3d_2c_3x3."),
        "mixed3": ("Mixed_3",),
        "mixed4": ("Mixed_4",),
        "mixed5": ("Mixed_5",),
    },
}
"""Backbone to its stages in order, each with the beginnings of its parameters' names."""


def stages_of(network: nn.Module) -> dict[str, list[str]]:
    """Give the names of a backbone's parameters by stage, from the input on; no classifier's.

    Of a backbone that is not ours each child with parameters is a stage, in the order in which
    they are defined.
    """
    heads = tuple(getattr(network, "heads", ()))
    names = [name for name, _ in network.named_parameters() if not _is(name, heads)]
    stages = STAGES.get(type(network)) or _children(names)
    return {
        stage: [name for name in names if _is(name, begins)] for stage, begins in stages.items()
    }


def _is(name: str, beginnings: tuple[str, ...]) -> bool:
    return name.startswith(beginnings)


def _children(names: list[str]) -> Stages:
    return {child: (child,) for child in dict.fromkeys(name.partition(".")[0] for name in names)}


def freeze(network: nn.Module, count: int, *, statistics: bool) -> None:
    """Let a backbone learn from a stage on, and put it into training.

    Args:
        network: The backbone, changed in place.
        count: Stages, from the input on, that stay as they are, their batch norms included.
        statistics: Whether the batch norms of the others normalise by the batch and learn its
            statistics; else those that came with the weights stay, and only scale and shift learn.

    Raises:
        ConfigError: There are not so many stages.
    """
    stages = stages_of(network)
    if count > len(stages):
        raise ConfigError(
            f"finetune: freeze: expected at most {len(stages)} stages ({', '.join(stages)}), "
            f"found {count}"
        )
    network.train()
    network.requires_grad_(requires_grad=False)
    parameters = dict(network.named_parameters())
    learning = {name for names in list(stages.values())[count:] for name in names}
    for name in learning:
        parameters[name].requires_grad = True
    for name, module in _norms(network):
        learns = any(f"{name}.{key}" in learning for key, _ in module.named_parameters())
        module.train(statistics and learns)


def _norms(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            yield name, module


def rates(network: nn.Module, lr: float, decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    """Give the parameters that learn, with their rates: lr at the last stage, times `decay` at
    each one below (Howard and Ruder, 2018, discriminative fine-tuning).
    """  # noqa: D205
    parameters = dict(network.named_parameters())
    found: list[tuple[float, list[nn.Parameter]]] = []
    for depth, names in enumerate(reversed(stages_of(network).values())):
        learning = [parameters[name] for name in names if parameters[name].requires_grad]
        if learning:
            found.append((lr * decay**depth, learning))
    return found
