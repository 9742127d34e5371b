"""Backbones: networks that turn a picture, a clip or a spectrogram into one vector."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import GoogLeNet
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.video.resnet import BasicBlock as ClipBlock
from torchvision.models.video.resnet import BasicStem, Conv3DSimple, VideoResNet

from ..cache import ConfigError
from ..cache.plugins import offered, plugged_in
from .dense import Support
from .i3d import I3D, Edges, Variant
from .inflate import inflate
from .presets import PRESETS, Preset
from .weights import (
    State,
    load,
    piergiaj_names,
    randomise,
    read_weights,
    seeding,
    weights_digest,
)

__all__ = ["BACKBONES", "R3D18", "ResNet18", "backbone_names", "build_backbone", "weights_digest"]

Takes = Literal["pictures", "clips", "spectrograms"]
Stem = Literal["load", "sum", "mean"]

GROUP = "concord.backbones"
"""Entry points under which installed packages offer backbones."""
INFLATE = "inflate:"


class ResNet18(ResNet):
    """torchvision's ResNet18 without its classifier: (B, channels, H, W) to (B, 512).

    With three channels it takes pictures, with one spectrograms, to which the preset does not
    apply.
    """

    dim = 512
    preset: Preset = PRESETS["imagenet"]
    clip = 1
    heads = ("fc.",)

    def __init__(self, channels: int = 3) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2])
        self.takes: Takes = "pictures" if channels == 3 else "spectrograms"
        if channels != 3:
            self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]

    def cells(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, 1, 512)."""
        return self(x).unsqueeze(1)


class R3D18(VideoResNet):
    """torchvision's R3D-18 without its classifier: (B, 3, T, H, W) to (B, 512)."""

    dim = 512
    preset: Preset = PRESETS["kinetics112"]
    takes: Takes = "clips"
    clip = 16
    support = Support(step=8, before=54, after=54, centre=0)
    heads = ("fc.",)

    def __init__(self) -> None:
        super().__init__(ClipBlock, [Conv3DSimple] * 4, [2, 2, 2, 2], BasicStem)
        self.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]

    def cells(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, T', 512); cell j is centred on frame 8 j."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return x.mean(dim=(3, 4)).transpose(1, 2)

    def sections(self) -> list[tuple[int, nn.Module]]:
        """Give the parts of the network, each with its step in time, taken by its first layer."""
        first = nn.Sequential(self.stem, self.layer1)
        return [(1, first), (2, self.layer2), (2, self.layer3), (2, self.layer4)]

    def folded(self) -> R3D18:
        """Give a copy for inference whose batch norms are part of the convolutions."""
        network = copy.deepcopy(self).eval()
        for module in network.modules():
            if isinstance(module, nn.Sequential):
                _fold_pairs(module)
        return network.requires_grad_(requires_grad=False)


def _fold_pairs(sequence: nn.Sequential) -> None:
    for index, (first, second) in enumerate(pairwise(list(sequence))):
        if isinstance(first, nn.Conv3d) and isinstance(second, nn.BatchNorm3d):
            sequence[index] = fuse_conv_bn_eval(first, second)
            sequence[index + 1] = nn.Identity()


def _resnet18(weights: str, *, channels: int = 3, stem: Stem = "load") -> nn.Module:
    """Build ResNet18.

    Args:
        weights: As for `build_backbone`.
        channels: 3 for pictures, 1 for spectrograms.
        stem: For one channel: `load` takes weights that have one; `sum` and `mean` reduce the
            first convolution of weights that have three. The sum equals repeating a spectrogram
            to three channels; the mean is a third of it, which frozen statistics do not expect.
    """
    if channels not in (1, 3):
        raise ConfigError(f"resnet18: channels is {channels!r}; expected 3 or 1")
    if stem not in get_args(Stem):
        raise ConfigError(f"resnet18: stem is {stem!r}; expected one of load, sum, mean")
    if stem != "load":
        if channels == 3:
            raise ConfigError(f"resnet18: stem {stem!r} reduces to one channel; set channels to 1")
        return _reduced(weights, stem)
    with seeding(weights) as seeded:
        network = ResNet18(channels)
    if not seeded:
        load(network, _torchvision("resnet18", weights), weights)
    return network


def _reduced(weights: str, stem: Stem) -> nn.Module:
    state = _resnet18(weights).state_dict()
    kernels = state["conv1.weight"]
    state["conv1.weight"] = getattr(kernels, stem)(dim=1, keepdim=True)
    network = ResNet18(1)
    network.load_state_dict(state)
    return network


def _r3d18(weights: str) -> nn.Module:
    """Build R3D-18."""
    with seeding(weights) as seeded:
        network = R3D18()
    if not seeded:
        load(network, _torchvision("r3d18", weights), weights)
    return network


def _i3d(weights: str, *, variant: Variant = "tf_exact", edges: Edges = "zero") -> nn.Module:
    """Build I3D; `inflate:` before weights makes them from those of a GoogLeNet."""
    with seeding(weights) as seeded:
        if seeded:
            network = I3D(variant, edges)
            randomise(network)
            return network
        if weights.startswith(INFLATE):
            state = inflate(_googlenet(weights.removeprefix(INFLATE)))
        else:
            state = piergiaj_names(_torchvision("i3d", weights))
        classifier = state.get("logits.conv3d.bias")
        network = I3D(variant, edges, classes=400 if classifier is None else len(classifier))
    load(network, state, weights)
    return network


def _googlenet(weights: str) -> State:
    with seeding(weights) as seeded:
        if seeded:
            network = GoogLeNet(aux_logits=False, init_weights=False)
            randomise(network)
            return network.state_dict()
    return _torchvision("googlenet", weights)


_TORCHVISION: dict[str, tuple[str | None, str]] = {
    "resnet18": ("ResNet18_Weights", "a torchvision name such as IMAGENET1K_V1"),
    "r3d18": ("R3D_18_Weights", "a torchvision name such as KINETICS400_V1"),
    "googlenet": ("GoogLeNet_Weights", "a torchvision name such as IMAGENET1K_V1"),
    "i3d": (None, "inflate: before one of these or a torchvision name of GoogLeNet's weights"),
}
"""Per network torchvision's enumeration of weights, and what a message says is accepted."""


def _torchvision(name: str, weights: str) -> State:
    return read_weights(weights, name, *_TORCHVISION[name])


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "i3d": _i3d,
    "r3d18": _r3d18,
    "resnet18": _resnet18,
}
"""Built-in backbones; an entry point or class never stands in for one."""


def backbone_names() -> list[str]:
    """List the backbones that are built in or offered by installed packages."""
    return sorted({*BACKBONES, *offered(GROUP)})


def build_backbone(name: str, weights: str = "seeded", **options: Any) -> nn.Module:
    """Build a frozen backbone in evaluation mode; its forward gives pooled features (B, dim).

    Every backbone has `dim`, `preset`, `takes` ("pictures", "clips" or "spectrograms"), `clip`
    (default window in frames, 1 for pictures) and `cells`, which gives (B, T', dim): the last
    maps' mean over space, before time is pooled.

    Args:
        name: One of `backbone_names()`, or `module:Class` for a class of your own, which is
            called as `Class(weights=…, **options)`.
        weights: `seeded` or `seeded:N` (deterministic random), a file of tensors, or a name that
            torchvision knows such as `IMAGENET1K_V1` (fetched by torchvision when not cached).
            For i3d also `inflate:` followed by any of these for a GoogLeNet.
        **options: i3d takes `variant` and `edges`; resnet18 `channels` and, for one, `stem`.

    Raises:
        ConfigError: Unknown backbone, weights or option, a checkpoint that does not fit, or a
            class without what every backbone has.
    """
    build: Callable[..., Any] = BACKBONES[name] if name in BACKBONES else _plugged_in(name)
    try:
        inspect.signature(build).bind(weights=weights, **options)
    except TypeError as error:
        raise ConfigError(
            f"backbone {name!r}: {error}; it takes {inspect.signature(build)}"
        ) from error
    network = build(weights=weights, **options)
    _validate(name, network)
    return network.eval().requires_grad_(requires_grad=False)


def _plugged_in(name: str) -> Callable[..., Any]:
    found = plugged_in("backbone", GROUP, name)
    if found is None:
        raise ConfigError(
            f"unknown backbone {name!r}; known: {', '.join(backbone_names())}, or module:Class"
        )
    return found


def _validate(name: str, network: Any) -> None:
    """Hold a plugged-in network to what the rest of stage one reads from it."""
    if not isinstance(network, nn.Module):
        raise ConfigError(f"backbone {name!r}: expected a torch module, found {type(network)}")
    found = {key: getattr(network, key, None) for key in ("dim", "preset", "takes", "clip")}
    wrong = [
        f"{key} is {found[key]!r}, expected {expected}"
        for key, good, expected in (
            ("dim", isinstance(found["dim"], int) and found["dim"] > 0, "an int above 0"),
            ("preset", isinstance(found["preset"], Preset), "a Preset"),
            ("takes", found["takes"] in get_args(Takes), f"one of {', '.join(get_args(Takes))}"),
            ("clip", isinstance(found["clip"], int) and found["clip"] > 0, "an int above 0"),
        )
        if not good
    ]
    if not callable(getattr(network, "cells", None)):
        wrong.append("cells is missing, expected a method from inputs to (B, T', dim)")
    if wrong:
        raise ConfigError(f"backbone {name!r}: {'; '.join(wrong)}; set them on the class")
