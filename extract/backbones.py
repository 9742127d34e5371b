"""Backbones: networks that turn a picture or a spectrogram into one vector."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_weight
from torchvision.models import resnet18 as torchvision_resnet18

from ..cache import ConfigError
from .settings import TENSOR_FILES

SEEDED = re.compile(r"seeded(:(?P<seed>\d+))?")
NAMED = 5
"""Keys that an error names of each kind; the rest are counted."""


def resnet18(channels: int) -> nn.Module:
    """ResNet18 without its classifier: (B, channels, H, W) to (B, 512)."""
    network = torchvision_resnet18()
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return network


BACKBONES: dict[str, Callable[[int], nn.Module]] = {"resnet18": resnet18}
WEIGHT_ENUMS = {"resnet18": "ResNet18_Weights"}


def build_backbone(name: str, weights: str = "seeded", channels: int = 3) -> nn.Module:
    """Build a frozen backbone in evaluation mode; its forward gives pooled features (B, dim).

    Args:
        name: A name in `BACKBONES`.
        weights: `seeded` or `seeded:N` (deterministic random), a file of tensors, or a name that
            torchvision knows such as `IMAGENET1K_V1` (fetched by torchvision when not cached).
        channels: Input channels; 3 for pictures, 1 for spectrograms.

    Raises:
        ConfigError: Unknown backbone or weights, or a checkpoint that does not fit.
    """
    if name not in BACKBONES:
        raise ConfigError(f"unknown backbone {name!r}; known: {', '.join(sorted(BACKBONES))}")
    seeded = SEEDED.fullmatch(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seeded["seed"] or 0) if seeded else 0)
        network = BACKBONES[name](channels)
    if not seeded:
        _load(network, _state(name, weights), weights)
    return network.eval().requires_grad_(requires_grad=False)


def _state(name: str, weights: str) -> dict[str, Tensor]:
    path = Path(weights)
    if path.suffix in TENSOR_FILES:
        if not path.is_file():
            raise ConfigError(f"weights file {weights!r} does not exist")
        try:
            if path.suffix == ".safetensors":
                return load_file(path)
            return _plain_state(torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, TypeError, UnpicklingError, SafetensorError) as error:
            raise ConfigError(
                f"weights file {weights!r}: not a file of tensors: {str(error).splitlines()[0]}"
            ) from error
    try:
        known: Any = get_weight(f"{WEIGHT_ENUMS[name]}.{weights}")
    except (ValueError, AttributeError, KeyError):
        raise ConfigError(
            f"weights {weights!r} of {name}: expected seeded[:N], a file "
            f"({', '.join(TENSOR_FILES)}), or a torchvision name such as IMAGENET1K_V1"
        ) from None
    try:
        return known.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise ConfigError(
            f"weights {weights!r} of {name}: could not be fetched: {error}; fetch {known.url} "
            "elsewhere and give the file"
        ) from error


def _plain_state(loaded: Any) -> dict[str, Tensor]:
    """Unwrap a training checkpoint, and DataParallel's names."""
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict):
        raise TypeError(f"expected a dictionary of tensors, found {type(state).__name__}")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _load(network: nn.Module, state: dict[str, Tensor], weights: str) -> None:
    kept = {name: value for name, value in state.items() if not name.startswith("fc.")}
    own = network.state_dict()
    missing = sorted(set(own) - set(kept))
    unexpected = sorted(set(kept) - set(own))
    misfits = [
        f"{key} {tuple(kept[key].shape)} for {tuple(own[key].shape)}"
        for key in sorted(set(own) & set(kept))
        if kept[key].shape != own[key].shape
    ]
    if missing or unexpected or misfits:
        raise ConfigError(
            f"weights {weights!r} do not fit: missing {_some(missing)}; "
            f"unexpected {_some(unexpected)}; of another shape {_some(misfits)}"
        )
    network.load_state_dict(kept)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED]) or 'none'}{more}"


def weights_digest(network: nn.Module) -> str:
    """Give the SHA-256 of a network's tensors: names, types, shapes and bytes, sorted by name."""
    state = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()
