"""What every code variant is: a published program's network, number for number."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ..cache import ConfigError


class CodeVariant(nn.Module, ABC):
    """A network as its authors' program computes it, with their state-dict keys.

    `forward` takes the inputs by name, as keywords, and gives a dict of the outputs and of what is
    computed on the way.
    """

    INPUTS: ClassVar[tuple[str, ...]]
    """Names of the inputs (B, T, d) in the program's order."""
    OUTPUTS: ClassVar[tuple[str, ...]]
    """Names of the final outputs: `valence` and `arousal`; `prediction`, one model per target; or
    the rows `fused` of a block without an output layer."""
    HEADS: ClassVar[int] = 0
    """Attention heads of the program, which no tensor tells; 0 where there are none."""
    NORM: ClassVar[bool] = False
    """With batch norm: `forward` also takes `rows` (B, T), whose statistics it has in training."""
    TIME_FIRST: ClassVar[bool] = False
    """The outputs are (T, B, …), as the program leaves them, not (B, T, …)."""
    DEAD: ClassVar[str] = ""
    """Pattern of the tensors that the program holds and never uses; they are not held here."""

    width: int = 0
    """Width of the rows `fused` of a block without an output layer."""
    unused: tuple[str, ...] = ()
    """The dead tensors found in the state dict that the variant was loaded from."""

    @classmethod
    @abstractmethod
    def sizes(cls, state_dict: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
        """Read the constructor's sizes from the shapes of a state dict.

        Args:
            state_dict: The program's tensors.
            heads: Attention heads; None for the program's own number.

        Raises:
            ConfigError: A tensor that tells a size is missing, or has another number of axes.
        """


def shape(state_dict: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    """Give the shape of a tensor that tells a size.

    Raises:
        ConfigError: It is missing, or has another number of axes.
    """
    if name not in state_dict:
        raise ConfigError(
            f"state dict: {name!r} is missing, found {', '.join(list(state_dict)[:5]) or 'nothing'}"
            ", …; give the state dict of this variant's program"
        )
    found = tuple(state_dict[name].shape)
    if len(found) != axes:
        raise ConfigError(
            f"state dict: {name!r} has shape {found}, expected {axes} axes; "
            "give the state dict of this variant's program"
        )
    return found


def branches(names: Iterable[str], prefix: str) -> list[str]:
    """Name what follows a prefix up to the next dot, in the order of the names."""
    pattern = re.compile(re.escape(prefix) + r"([^.]+)\.")
    return list(dict.fromkeys(match[1] for match in map(pattern.match, names) if match))


def no_heads(heads: int | None) -> None:
    """Refuse a number of attention heads for a variant that has none.

    Raises:
        ConfigError: A number is given.
    """
    if heads is not None:
        raise ConfigError(f"found heads={heads}, but this variant has no attention heads; drop it")


def check_heads(width: int, heads: int) -> None:
    """Refuse a number of attention heads that does not divide a width.

    Raises:
        ConfigError: It does not.
    """
    if heads < 1 or width % heads:
        raise ConfigError(
            f"attention of width {width}: {heads} heads do not divide it; choose a divisor"
        )
