"""Experiments as they are written: what they inherit, and lists that stand for their values.

A list in place of one value of an experiment means each of them. All combinations are made, in the
order written; the last key varies fastest.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, get_origin

from ..cache import ConfigError
from ..fuse.settings import ExperimentSettings, FuseSettings, WindowSettings
from .reading import check_keys, expect, hints_of, join, make, read_value

LIMIT = 10_000
"""Experiments at most: more are a slip of the pen."""
Axes = dict[tuple[str, ...], list[Any]]
"""Key, such as (training, lr), to the values that it takes in turn."""


def read_experiments(
    entries: Any, fuse: FuseSettings, where: str = "fuse.experiments"
) -> tuple[tuple[ExperimentSettings, ...], tuple[str, ...]]:
    """Make the experiments that entries stand for.

    Args:
        entries: A list of mappings, as they are written.
        fuse: Its `window` and `training` hold where an entry does not say otherwise; an entry of
            another window preset takes nothing from `window`.
        where: Where the entries stand.

    Returns:
        The experiments, and for each the place of its entry.

    Raises:
        ConfigError: A wrong key or value, an empty list, a value twice, or more than `LIMIT`.
    """
    combinations = _combinations(ExperimentSettings, entries, where)
    made = tuple(_experiment(chosen, fuse, place) for place, chosen in combinations)
    return made, tuple(place for place, _ in combinations)


def _experiment(chosen: dict[str, Any], fuse: FuseSettings, place: str) -> ExperimentSettings:
    window = _window(chosen.get("window", {}), fuse.window)
    training = dataclasses.replace(fuse.training, **chosen.get("training", {}))
    return make(ExperimentSettings, {**chosen, "window": window, "training": training}, place)


def _window(own: Mapping[str, Any], shared: WindowSettings) -> WindowSettings:
    """Put what an entry says over what all share; another preset comes with its own numbers."""
    other = own.get("preset", shared.preset) != shared.preset
    return dataclasses.replace(WindowSettings() if other else shared, **own)


def _combinations(kind: Any, entries: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Give each combination of each mapping of a list, with the mapping's place."""
    expect(isinstance(entries, list | tuple), where, "a list", entries)
    places = [f"{where}[{number}]" for number in range(len(entries))]
    read = {p: _axes(kind, entry, p, ()) for p, entry in zip(places, entries, strict=True)}
    _guard(read, where)
    return [
        (place, _nested(axes, values))
        for place, axes in read.items()
        for values in itertools.product(*axes.values())
    ]


def _axes(kind: Any, values: Any, where: str, path: tuple[str, ...]) -> Axes:
    check_keys(kind, values, where)
    axes: Axes = {}
    for key, value in values.items():
        hint, place, key_path = hints_of(kind)[key], join(where, key), (*path, key)
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            axes |= _axes(hint, value, place, key_path)
        else:
            axes[key_path] = _values(hint, value, place)
    return axes


def _values(hint: Any, value: Any, where: str) -> list[Any]:
    """Read the values that a field takes in turn."""
    if not _is_several(hint, value):
        return [read_value(hint, value, where)]
    expect(len(value) > 0, where, "a value, or a list of at least one", value)
    if dataclasses.is_dataclass(hint):
        read = [chosen for _, chosen in _combinations(hint, value, where)]
    else:
        read = [read_value(hint, one, f"{where}[{i}]") for i, one in enumerate(value)]
    seen: set[str] = set()
    for one in read:
        told = repr(one)
        expect(told not in seen, where, "each value once", value)
        seen.add(told)
    return read


def _is_several(hint: Any, value: Any) -> bool:
    """Say whether a list stands for each of its values, and not for one value that is a list."""
    if not isinstance(value, list | tuple):
        return False
    return get_origin(hint) is not tuple or any(isinstance(one, list | tuple) for one in value)


def _nested(axes: Axes, values: tuple[Any, ...]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for (*outer, key), value in zip(axes, values, strict=True):
        inner = nested
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[key] = value
    return nested


def _guard(read: Mapping[str, Axes], where: str) -> None:
    sizes = {place: math.prod(map(len, axes.values())) for place, axes in read.items()}
    total = sum(sizes.values())
    if total <= LIMIT:
        return
    place = max(sizes, key=lambda name: sizes[name])
    keys = {".".join(path): len(values) for path, values in read[place].items()}
    product = " * ".join(f"{key} {count:,}" for key, count in keys.items() if count > 1)
    most = f"{place} alone gives {sizes[place]:,} ({product}); " if product else ""
    raise ConfigError(
        f"{where}: expected at most {LIMIT:,} experiments, found {total:,}; {most}"
        "list fewer values, or divide them among several configurations"
    )
