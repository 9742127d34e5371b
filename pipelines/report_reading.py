"""Reading the report's inputs: a checker that names the key that does not fit its type."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NotRequired, TypeVar, cast, get_args, get_origin, get_type_hints

from ..cache.errors import DataError
from .report_schema import Coverage, Results

VERSION = 1
"""Version of both input files and of `report.json`."""
NAMES = {
    float: "a number",
    int: "a whole number",
    str: "text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
"""Types in the words of error messages; a number comes before a whole one."""

Read = TypeVar("Read", Coverage, Results)


def read(path: Path, kind: type[Read]) -> Read:
    """Parse one input and hold it against its type."""
    try:
        value = json.loads(path.read_bytes(), parse_constant=_refuse, parse_float=_finite)
    except OSError as error:
        raise mismatch(path, "(file)", "a readable file", error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise mismatch(path, "(file)", "valid JSON", str(error)) from error
    if isinstance(value, dict) and value.get("version") != VERSION:
        raise mismatch(path, "version", VERSION, value.get("version"))
    _check(value, kind, path, "")
    return cast("Read", value)


def mismatch(path: Path, key: str, expected: object, found: object) -> DataError:
    """Make the error that says which key of which file should hold what, and what it holds."""
    shown = found if isinstance(found, str) and " " in found else repr(found)
    return DataError(f"{path}: key {key!r}: expected {expected}, found {shown:.120}")


def _refuse(constant: str) -> float:
    """Refuse NaN and Infinity, which are not JSON: undefined numbers are null."""
    raise ValueError(f"{constant} is not JSON; write null")


def _finite(digits: str) -> float:
    """Refuse numbers beyond the range of float64, which Python would read as infinite."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is out of range")
    return value


def _check(value: Any, hint: Any, path: Path, key: str) -> None:
    """Hold a parsed value against a type hint, and name the first key that does not fit."""
    exact = _exact(hint)
    if hint is Any:
        return
    if exact is None:
        _check_container(value, hint, path, key)
    elif type(value) not in exact:
        null = " or null" if NoneType in exact else ""
        name = next(name for kind, name in NAMES.items() if kind in exact)
        raise mismatch(path, key or "(top)", name + null, value)


def _check_container(value: Any, hint: Any, path: Path, key: str) -> None:
    """Check an object of known keys, a list, a mapping, or an optional one of these."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        if value is not None:
            _check(value, arguments[0], path, key)
    elif origin is list:
        _check(value, list, path, key)
        exact = _exact(arguments[0])
        # A trace has thousands of numbers: one look at their types serves for all of them.
        if exact is None or not set(map(type, value)) <= exact:
            for index, item in enumerate(value):
                _check(item, arguments[0], path, f"{key}[{index}]")
    else:
        _check(value, dict, path, key)
        known = dict.fromkeys(value, arguments[1]) if origin is dict else _fields(hint)
        for name, kind in known.items():
            _check_field(value, name, kind, path, f"{key}.{name}" if key else name)


def _check_field(value: dict[str, Any], name: str, kind: Any, path: Path, key: str) -> None:
    """Check one entry, which may be missing where its type says so."""
    optional = get_origin(kind) is NotRequired
    if name in value:
        _check(value[name], get_args(kind)[0] if optional else kind, path, key)
    elif not optional:
        raise DataError(f"{path}: key {key!r}: expected a value, found none; write the file again")


@cache
def _fields(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@cache
def _exact(hint: Any) -> frozenset[type] | None:
    """List the types that a plain value may have; None for a container."""
    if get_origin(hint) is UnionType:
        parts = [_exact(part) for part in get_args(hint)]
        return None if None in parts else frozenset[type]().union(*(p for p in parts if p))
    plain = {bool, int, str, list, dict, NoneType}
    return frozenset({int, float}) if hint is float else frozenset({hint} & plain) or None
