"""Weights: where they come from, the names that I3D checkpoints give them, and their digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_weight

from ..cache import ConfigError
from .settings import TENSOR_FILES

State = dict[str, Tensor]

SEEDED = re.compile(r"seeded(:(?P<seed>\d+))?")
COUNTER = "num_batches_tracked"
"""Batches that a batch norm saw while training; checkpoints before PyTorch 0.4.1 have none."""
NAMED = 5
"""Keys that an error names of each kind; the rest are counted."""

_I3D_RENAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # hassony2/kinetics_i3d_pytorch and video_features
        (r"^conv3d_0c_1x1\.", "logits."),
        (r"^conv3d_(?=\d)", "Conv3d_"),
        (r"^mixed_", "Mixed_"),
        (r"\.branch_0\.", ".b0."),
        (r"\.branch_(\d)\.0\.", r".b\1a."),
        (r"\.branch_(\d)\.1\.", r".b\1b."),
        (r"\.batch3d\.", ".bn."),
        # TensorFlow's variables; kernels tell the units of a branch apart, since the last one of
        # branch 2 in Mixed_5b is called 0a there and 0b everywhere else
        (r"^.*inception_i3d\.", ""),
        (r"^Logits\.Conv3d_0c_1x1\.", "logits."),
        (r"\.Branch_0\.Conv3d_0a_1x1\.", ".b0."),
        (r"\.Branch_([12])\.Conv3d_0a_1x1\.", r".b\1a."),
        (r"\.Branch_([12])\.Conv3d_0[ab]_3x3\.", r".b\1b."),
        (r"\.Branch_3\.Conv3d_0b_1x1\.", ".b3b."),
        (r"\.conv_3d\.w$", ".conv3d.weight"),
        (r"\.conv_3d\.b$", ".conv3d.bias"),
        (r"\.batch_norm\.beta$", ".bn.bias"),
        (r"\.batch_norm\.gamma$", ".bn.weight"),
        (r"\.batch_norm\.moving_mean$", ".bn.running_mean"),
        (r"\.batch_norm\.moving_variance$", ".bn.running_var"),
    )
)


@contextmanager
def seeding(weights: str) -> Generator[bool]:
    """Let random numbers follow from the name of the weights, and leave the caller's alone.

    Yields:
        Whether the weights are random: `seeded` or `seeded:N`.
    """
    seeded = SEEDED.fullmatch(weights)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seeded["seed"] or 0) if seeded else 0)
        yield seeded is not None


def randomise(network: nn.Module) -> None:
    """Draw kernels (He et al. 2015) that keep the scale of what passes through; biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def read_weights(weights: str, name: str, named: str | None, example: str) -> State:
    """Read tensors from a file, or under a name that torchvision knows.

    Args:
        weights: A file (.safetensors, .pt, .pth) or a name such as `IMAGENET1K_V1`, which
            torchvision fetches when it is not cached.
        name: The backbone, for messages.
        named: torchvision's enumeration of weights, if it has one for this network.
        example: What else a message should say is accepted.

    Raises:
        ConfigError: The file is missing or holds no tensors, or the name is not known.
    """
    if Path(weights).suffix in TENSOR_FILES:
        return _read_file(Path(weights), weights)
    try:
        known: Any = get_weight(f"{named}.{weights}")
    except (ValueError, AttributeError, KeyError):
        raise ConfigError(
            f"weights {weights!r} of {name}: expected seeded[:N], a file "
            f"({', '.join(TENSOR_FILES)}), or {example}"
        ) from None
    try:
        return known.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise ConfigError(
            f"weights {weights!r} of {name}: could not be fetched: {error}; fetch {known.url} "
            "elsewhere and give the file"
        ) from error


def _read_file(path: Path, weights: str) -> State:
    if not path.is_file():
        raise ConfigError(f"weights file {weights!r} does not exist")
    try:
        if path.suffix == ".safetensors":
            return _plain_state(load_file(path))
        return _plain_state(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, EOFError, RuntimeError, TypeError, UnpicklingError, SafetensorError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"weights file {weights!r}: not a file of tensors: {reason}") from error


def _plain_state(loaded: Any) -> State:
    """Unwrap a training checkpoint, and DataParallel's names."""
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict):
        raise TypeError(f"expected a dictionary of tensors, found {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"expected a tensor under {name!r}, found {type(value).__name__}")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def piergiaj_names(state: Mapping[str, Tensor]) -> State:
    """Give an I3D checkpoint's tensors the names of piergiaj/pytorch-i3d.

    Accepts those names themselves, those of hassony2/kinetics_i3d_pytorch and video_features,
    and TensorFlow's variables, whose kernels are turned and whose batch norms scale by 1. What
    is none of these keeps its name.
    """
    named: State = {}
    for key, value in state.items():
        plain = key.replace("/", ".")
        name = plain
        for pattern, replacement in _I3D_RENAMES:
            name = pattern.sub(replacement, name)
        if plain.endswith(".conv_3d.w"):
            # TF: time, height, width, in, out.
            value = value.permute(4, 3, 0, 1, 2)
        elif ".batch_norm." in plain:
            value = value.flatten()
            scale = name.rpartition(".")[0] + ".weight"
            named.setdefault(scale, torch.ones_like(value))
        named[name] = value
    return named


def load(network: nn.Module, state: Mapping[str, Tensor], weights: str) -> None:
    """Put a checkpoint's tensors into a network that has the same ones.

    Counters may be missing, and so may the classifier (`network.heads`), which is then zero.

    Raises:
        ConfigError: Tensors are missing, unexpected, or of another shape; all kinds are listed.
    """
    own = network.state_dict()
    heads = _heads(network)
    found = {name: value for name, value in state.items() if name in own or not _is(name, heads)}
    idle = {name for name in own if name.endswith(COUNTER) or _is(name, heads)}
    missing = sorted(set(own) - set(found) - idle)
    unexpected = sorted(set(found) - set(own))
    misfits = [
        f"{key} {tuple(found[key].shape)} for {tuple(own[key].shape)}"
        for key in sorted(set(own) & set(found))
        if found[key].shape != own[key].shape
    ]
    if missing or unexpected or misfits:
        raise ConfigError(
            f"weights {weights!r} do not fit: missing {_some(missing)}; "
            f"unexpected {_some(unexpected)}; of another shape {_some(misfits)}"
        )
    absent = {name: torch.zeros_like(own[name]) for name in idle - set(found)}
    network.load_state_dict({**found, **absent})


def _heads(network: nn.Module) -> tuple[str, ...]:
    """Prefixes of the classifier's tensors, which features do not depend on."""
    heads: Any = getattr(network, "heads", ())
    return tuple(heads)


def _is(name: str, prefixes: tuple[str, ...]) -> bool:
    return name.startswith(prefixes)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED]) or 'none'}{more}"


def weights_digest(network: nn.Module) -> str:
    """Give the SHA-256 of a network's tensors: names, types, shapes and bytes, sorted by name.

    Counters of batches and the classifier (`network.heads`) are left out, since features do not
    depend on them: the same weights have the same digest with or without them.
    """
    heads = _heads(network)
    state = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name.endswith(COUNTER) or _is(name, heads):
            continue
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return state.hexdigest()
