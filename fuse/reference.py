"""The authors' programs by name, and their trained weights in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..cache import ConfigError
from .reference_jca import JcaCvprw, JcaTbiom
from .reference_jmt import JmtBlock, JmtConcat, JmtFc, JmtSelfAttention
from .reference_lfan import LfanEncoder, LfanModel, TcnReference
from .reference_rjcma import RjcmaCode

if TYPE_CHECKING:
    from .variant import CodeVariant

REFERENCES: dict[str, type[CodeVariant]] = {
    "jca:tbiom": JcaTbiom,
    "jca:cvprw": JcaCvprw,
    "rjcma:code": RjcmaCode,
    "jmt:block": JmtBlock,
    "jmt:self_attention": JmtSelfAttention,
    "jmt:fc": JmtFc,
    "concat:jmt": JmtConcat,
    "leader_follower:encoder": LfanEncoder,
    "leader_follower:model": LfanModel,
    "tcn": TcnReference,
}
"""Code variants by name: method, then which of its programs or which part."""


def from_reference(
    name: str, state_dict: Mapping[str, Tensor], heads: int | None = None
) -> CodeVariant:
    """Load weights that an authors' program saved; the result computes what the program computes.

    All sizes are read from the tensors. The model is in evaluation mode and float32, or float64
    where the tensors are; float16 and bfloat16 become float32. It shares no memory with the state
    dict. `unused` of the model lists the tensors that the program holds and never uses. The prefix
    `module.` of `DataParallel` is taken off.

    Example:
        Valence and arousal of windows of 16 rows, from the checkpoint of a JCA model:

            model = from_reference("jca:tbiom", torch.load("jca.pt", weights_only=True))
            with torch.no_grad():
                out = model(audio=audio, visual=visual)  # (B, 16, 512) each
            out["valence"], out["arousal"]  # (B, 16) each

    Args:
        name: One of `REFERENCES`.
        state_dict: The program's tensors, in its order.
        heads: Attention heads, which no tensor tells; by default 1 for jmt, 2 for leader_follower.

    Raises:
        ConfigError: Unknown name; tensors that are missing, have another shape, or that the
            variant does not know; heads that do not divide the width, or for a variant without.
    """
    variant = find_reference(name)
    tensors = _tensors(state_dict)
    model = variant(**variant.sizes(tensors, heads))
    dead = tuple(key for key in tensors if re.fullmatch(variant.DEAD, key))
    live = {key: tensor for key, tensor in tensors.items() if key not in dead}
    _check(name, live, model.state_dict())
    floating = [tensor.dtype for tensor in live.values() if tensor.is_floating_point()]
    model.to(reduce(torch.promote_types, floating, torch.float32))
    model.load_state_dict(live)
    model.unused = dead
    return model.eval()


def find_reference(name: str) -> type[CodeVariant]:
    """Give the class of a code variant.

    Raises:
        ConfigError: Unknown name.
    """
    if name not in REFERENCES:
        raise ConfigError(f"unknown code variant {name!r}; known: {', '.join(REFERENCES)}")
    return REFERENCES[name]


def _tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check that it is one, and take the prefix of `DataParallel` off."""
    for key, value in state_dict.items():
        if not isinstance(value, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(
                f"state dict: {key!r} is {type(value).__name__}, expected a tensor; "
                "of a checkpoint with other things beside it, give the state dict alone"
            )
    if all(key.startswith("module.") for key in state_dict):
        return {key.removeprefix("module."): tensor for key, tensor in state_dict.items()}
    return dict(state_dict)


def _check(name: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse a state dict that is not the variant's, naming all that is wrong.

    Raises:
        ConfigError: Tensors are missing, have another shape, or are not known.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in expected.items()}
    wrong = [f"{key} is missing" for key in shapes if key not in found]
    wrong += [
        f"{key} has shape {tuple(tensor.shape)}, expected {shapes[key]}"
        for key, tensor in found.items()
        if key in shapes and tuple(tensor.shape) != shapes[key]
    ]
    unknown = [key for key in found if key not in shapes]
    if unknown:
        wrong.append(f"not known: {', '.join(unknown)}; drop them if they belong to backbones")
    if wrong:
        raise ConfigError(f"state dict of {name!r}: {'; '.join(wrong)}")
