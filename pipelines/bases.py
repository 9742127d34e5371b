"""Configurations that are shipped, for one of the user's to be laid over: `base: ablation`."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from ..cache import ConfigError
from .reading import near

KEY = "base"
FOLDER = files("concord.pipelines").joinpath("configs")


def base_names() -> list[str]:
    """List the configurations that are shipped."""
    return sorted(path.name.removesuffix(".yaml") for path in FOLDER.iterdir())


def laid_over(values: Any) -> Any:
    """Lay plain values over the shipped configuration that they name, if they name one.

    A mapping is laid over key by key; anything else replaces what was there, and null takes it out.

    Raises:
        ConfigError: There is none of that name.
    """
    if not isinstance(values, dict) or not values.get(KEY):
        return values
    import yaml

    name, known = values[KEY], base_names()
    if name not in known:
        meant = near(str(name), known)
        raise ConfigError(f"{KEY}: expected one of {', '.join(known)}, found {name!r}{meant}")
    below = yaml.safe_load(FOLDER.joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    own = {key: value for key, value in values.items() if key != KEY}
    return _over(laid_over(below), own)


def _over(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    merged = {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}
    return {key: value for key, value in merged.items() if value is not None}
