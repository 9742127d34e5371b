"""Classes of a user's own, named by an entry point of an installed package or as `module:Class`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from .errors import ConfigError


def offered(group: str) -> list[str]:
    """List what installed packages offer under a group of entry points."""
    return sorted(point.name for point in metadata.entry_points(group=group))


def plugged_in(kind: str, group: str, name: str) -> Callable[..., Any] | None:
    """Import what a name stands for; None where no package offers it and it is no `module:Class`.

    Args:
        kind: What it is to people: `head`, `backbone`.
        group: Group of entry points, such as `concord.heads`.
        name: Name of an entry point, or `module:Class`.

    Raises:
        ConfigError: It cannot be imported, or cannot be called.
    """
    for point in metadata.entry_points(group=group):
        if point.name == name:
            return imported(kind, name, point.value)
    return imported(kind, name, name) if ":" in name else None


def imported(kind: str, name: str, target: str) -> Callable[..., Any]:
    """Import `module:Class`.

    Raises:
        ConfigError: It cannot be imported, or cannot be called.
    """
    module, _, attribute = target.partition(":")
    if str(Path.cwd()) not in sys.path:
        # A command does not look for modules where it is called, but people do.
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{kind} {name!r}: {target} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"{kind} {name!r}: {target} is not a class but {found!r}")
    return found
