"""Inflation: weights of a picture network become those of a clip network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

MARGIN = 6
"""Cells at either end that a clip's edge reaches: beyond, the effect is below 1e-5."""
_STEM = {"conv1": "Conv3d_1a_7x7", "conv2": "Conv3d_2b_1x1", "conv3": "Conv3d_2c_3x3"}
_UNITS = {
    "branch1": "b0",
    "branch2.0": "b1a",
    "branch2.1": "b1b",
    "branch3.0": "b2a",
    "branch3.1": "b2b",
    "branch4.1": "b3b",
}
_BLOCK = re.compile(r"inception([345])([a-e])\.(branch\d(?:\.\d)?)\.(.+)")
_AUXILIARY = ("aux1.", "aux2.")
"""Classifiers that only training uses."""


def inflate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn torchvision's GoogLeNet (Inception v1) into I3D, as Carreira and Zisserman 2017 do.

    Kernels are repeated along time and divided by their length there, so that a clip that stands
    still gives what the picture gives; batch norms and the classifier are copied. That identity
    holds for a picture network that pads as TensorFlow does, and, where time is padded with
    zeros, only in cells `MARGIN` away from the clip's ends: take such cells with `interior`, or
    build the network with `edges="replicate"`, where it holds in every cell.

    Args:
        state: GoogLeNet's tensors under torchvision's names, with or without the auxiliary
            classifiers, for pictures in [-1, 1].

    Returns:
        I3D's tensors under piergiaj's names; what has no counterpart keeps its name, so that
        loading can name it.
    """
    kept = {name: value for name, value in state.items() if not name.startswith(_AUXILIARY)}
    return {_name(name): _repeat(value) for name, value in kept.items()}


def _name(name: str) -> str:
    block = _BLOCK.fullmatch(name)
    if block and block[3] in _UNITS:
        # Torchvision counts blocks from a, DeepMind from b, where a is the layer before.
        letter = chr(ord(block[2]) + 1)
        return f"Mixed_{block[1]}{letter}.{_UNITS[block[3]]}.{_tensor(block[4])}"
    first, _, rest = name.partition(".")
    if first in _STEM:
        return f"{_STEM[first]}.{_tensor(rest)}"
    return f"logits.conv3d.{rest}" if first == "fc" else name


def _tensor(name: str) -> str:
    return "conv3d.weight" if name == "conv.weight" else name


def _repeat(value: Tensor) -> Tensor:
    """(out, in, K, K) to (out, in, K, K, K) / K; a matrix to a convolution of one cell."""
    if value.ndim == 4:
        length = value.shape[-1]
        return value.unsqueeze(2).repeat(1, 1, length, 1, 1) / length
    return value[:, :, None, None, None] if value.ndim == 2 else value


def interior(cells: Tensor, margin: int = MARGIN) -> Tensor:
    """Cut the cells that a clip's edges reach: (B, T', dim) to (B, T' - 2 margin, dim).

    For inflated weights with time padded by zeros; a clip of 8 (2 margin + n) frames leaves n
    cells, a shorter one none.
    """
    return cells[:, margin : max(margin, cells.shape[1] - margin)]
