"""Heads: from the rows of a window to valence and arousal."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import nn

from ..cache import ConfigError
from ..cache.plugins import plugged_in
from .catalogue import GROUP, HEADS, check_head, head_names

if TYPE_CHECKING:
    from .settings import ExperimentSettings

__all__ = ["HEADS", "build_head", "head_names"]


def build_head(dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> nn.Module:
    """Build the head of an experiment.

    A head maps features {stream: (B, T, d)}, valid {stream: (B, T)} and rows (B, T) to (B, T, 2),
    valence first.

    Args:
        dims: Stream to feature width, in the order of the experiment's streams.
        length: Rows of a window.
        settings: Head name, or `module:Class` of your own, called as `Class(dims, length,
            settings)`, and its settings.

    Raises:
        ConfigError: Unknown head, a class that cannot be called so or is no torch module, or
            streams that the head cannot join.
    """
    name = settings.head
    check_head(name, list(dims))
    build = _built_in(name) if name in HEADS else _plugged_in(name)
    head = build(dims, length, settings)
    if not isinstance(head, nn.Module):
        raise ConfigError(f"head {name!r}: expected a torch module, found {type(head).__name__}")
    return head


def _built_in(name: str) -> Callable[..., Any]:
    module, _, attribute = HEADS[name].target.partition(":")
    return getattr(import_module(f".{module}", __package__), attribute)


def _plugged_in(name: str) -> Callable[..., Any]:
    found = plugged_in("head", GROUP, name)
    assert found is not None, name
    try:
        inspect.signature(found).bind({}, 1, None)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"head {name!r}: expected Class(dims, length, settings): {error}"
        ) from error
    return found
