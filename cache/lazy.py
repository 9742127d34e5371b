"""Packages whose names are imported on first use, so that a command's help comes at once."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make a package's `__getattr__`.

    Args:
        package: The package's `__name__`.
        homes: Exported name to the module of the package that holds it.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message)
        return getattr(importlib.import_module(f".{homes[name]}", package), name)

    return getattr_
