"""From plain values to dataclasses, with an answer to every typo."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

from ..cache import ConfigError
from ..extract.settings import KINDS

T = TypeVar("T")
SHARED = ("fuse.window.", "fuse.training.")
"""Places of settings that experiments share: a list of values there is meant for these."""


def near(word: str, known: list[str]) -> str:
    """Give `; did you mean …?` where a known word is like this one."""
    nearest = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def expect(holds: bool, where: str, expected: str, found: object) -> None:
    """Refuse a value that does not hold what is expected.

    Raises:
        ConfigError: With the place, what was expected and what was found.
    """
    if not holds:
        raise ConfigError(f"{where}: expected {expected}, found {found!r}")


def join(where: str, key: object) -> str:
    """Name the place of a key."""
    return f"{where}.{key}" if where else str(key)


@cache
def hints_of(kind: Any) -> dict[str, Any]:
    """Give the types of a dataclass's fields."""
    return typing.get_type_hints(kind)


def build(kind: type[T], values: Any, where: str) -> T:
    """Make a dataclass of plain values.

    Args:
        kind: The dataclass.
        values: A mapping of its fields.
        where: Where the values stand, such as `fuse.training`.

    Raises:
        ConfigError: With the place, what was expected and what was found.
    """
    check_keys(kind, values, where)
    hints = hints_of(kind)
    made = {key: read_value(hints[key], values[key], join(where, key)) for key in values}
    return make(kind, made, where)


def check_keys(kind: Any, values: Any, where: str) -> None:
    """Check that values are a mapping of a dataclass's fields.

    Raises:
        ConfigError: They are not; an unknown key is answered with the nearest right one.
    """
    expect(isinstance(values, dict), where or "configuration", "keys and values", values)
    names = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in names:
            raise ConfigError(
                f"{join(where, key)}: unknown key{near(str(key), names)}; "
                f"keys here: {', '.join(names)}"
            )


def make(kind: type[T], made: dict[str, Any], where: str) -> T:
    """Make a dataclass of values that have been read.

    Raises:
        ConfigError: One that is needed is missing.
    """
    try:
        return kind(**made)
    except TypeError as error:
        raise ConfigError(f"{where}: {str(error).partition('__init__() ')[2]}") from None


def read_value(kind: Any, value: Any, where: str) -> Any:
    """Read one value of a field's type.

    Raises:
        ConfigError: With the place, what was expected and what was found.
    """
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return build(kind, _spelled_out(kind, value, where), where)
    if origin is Literal:
        return _choice(get_args(kind), value, where)
    if origin is tuple:
        expect(isinstance(value, list | tuple), where, "a list", value)
        inner = get_args(kind)[0]
        return tuple(read_value(inner, one, f"{where}[{i}]") for i, one in enumerate(value))
    if origin is dict:
        return _mapping(get_args(kind)[1], value, where)
    return _plain(kind, value, where)


def _mapping(kind: Any, value: Any, where: str) -> dict[str, Any]:
    expect(isinstance(value, dict), where, "keys and values", value)
    if get_origin(kind) is not types.UnionType:
        return {str(key): read_value(kind, one, join(where, key)) for key, one in value.items()}
    made: dict[str, Any] = {}
    for name, one in value.items():
        modality, _, backbone = str(name).partition("/")
        if modality not in KINDS or not backbone:
            raise ConfigError(
                f"{join(where, name)}: expected a stream name such as visual/resnet18, "
                f"one of {', '.join(f'{known}/…' for known in KINDS)}{near(modality, list(KINDS))}"
            )
        made[str(name)] = build(KINDS[modality], one or {}, join(where, name))
    return made


def _spelled_out(kind: Any, value: Any, where: str) -> Any:
    """Give the settings that a word stands for; anything else is left as it is."""
    short: dict[str, Any] = getattr(kind, "SHORT", {})
    if not short or not isinstance(value, str):
        return value
    if value not in short:
        raise ConfigError(
            f"{where}: expected keys and values, or {' or '.join(short)}, found {value!r}"
            + near(value, list(short))
        )
    return short[value]


def _choice(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        words = [str(choice) for choice in choices]
        raise ConfigError(
            f"{where}: expected one of {', '.join(word or repr('') for word in words)}, "
            f"found {value!r}{near(str(value), words)}{_misplaced(value, where)}"
        )
    return value


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 as text.
        try:
            return float(value)
        except ValueError:
            pass
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(
            f"{where}: expected {kind.__name__}, found {value!r}{_misplaced(value, where)}"
        )
    return value


def _misplaced(value: Any, where: str) -> str:
    several = isinstance(value, list) and where.startswith(SHARED)
    return "; lists of values go into an entry of fuse.experiments" if several else ""
