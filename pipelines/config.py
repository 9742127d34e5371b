"""Configuration: one set of frozen dataclasses, read from YAML, with an answer to every typo."""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from ..cache import ConfigError
from ..extract.settings import KINDS, StreamSettings
from ..fuse.settings import FuseSettings
from .checks import check, near

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Which data set."""

    adapter: Literal["demo", "affwild2"] = "demo"
    """`demo` is generated at `path`; `affwild2` is a folder of yours in Aff-Wild2's layout."""
    path: str = "results/demo/data"
    name: str = ""
    """Name in the store; the adapter's own name where empty."""
    profile: str = "demo"
    """Which demo (adapter demo)."""
    seed: int = 0
    """Which random numbers make the demo (adapter demo)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a workflow is told."""

    data: DataSettings = field(default_factory=DataSettings)
    results: str = "results/demo"
    """Folder for receipts, runs, report and logs."""
    store: str = ""
    """Folder of the feature store; `store` below `results` where empty."""
    shards: Literal["zarr", "hdf5"] = "zarr"
    """Format of the store's shards."""
    streams: dict[str, StreamSettings] = field(default_factory=dict)
    """Stream name, `visual/…` or `audio/…`, to its settings."""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Streams that share a job and one decode, by a name of yours; others have their own job."""
    parts: int = 4
    """Pieces that the sources are cut into, one extraction job each per group."""
    failure_budget: float = 0.25
    """Share of all sources that may end in quarantine."""
    device: str = "auto"
    """auto, cpu, or cuda:N."""
    threads: int = 1
    """Processor threads of a job; small heads gain nothing from a second one."""
    fuse: FuseSettings = field(default_factory=FuseSettings)

    @property
    def store_path(self) -> str:
        """Where the store is."""
        return self.store or f"{self.results}/store"

    @property
    def data_name(self) -> str:
        """The data set's name in the store."""
        return self.data.name or self.data.adapter


def load_config(path: str | Path) -> Config:
    """Read a configuration file (YAML or JSON), or JSON text that begins with a brace.

    Raises:
        ConfigError: Not readable, an unknown key (with the nearest right one), or a wrong value.
    """
    text = str(path)
    if not text.lstrip().startswith("{"):
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"configuration {path}: cannot be read: {error.strerror}") from error
        return parse_config(_yaml(text, str(path)))
    try:
        return parse_config(json.loads(text))
    except json.JSONDecodeError as error:
        raise ConfigError(f"configuration {text[:40]!r}…: not JSON: {error}") from error


def _yaml(text: str, path: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {path}: not YAML: {error}") from error


def parse_config(values: Any) -> Config:
    """Check plain values, such as Snakemake's `config`, and make the configuration of them."""
    config = build(Config, values, "")
    data = dataclasses.replace(config.data, path=_folder(config.data.path))
    store = _folder(config.store) if config.store else ""
    config = dataclasses.replace(config, data=data, results=_folder(config.results), store=store)
    check(config)
    return config


def _folder(path: str) -> str:
    return os.path.normpath(Path(path).expanduser())


def build(kind: type[T], values: Any, where: str) -> T:
    """Make a dataclass of plain values.

    Args:
        kind: The dataclass.
        values: A mapping of its fields.
        where: Where the values stand, such as `fuse.training`.

    Raises:
        ConfigError: With the place, what was expected and what was found.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where or 'configuration'}: expected keys and values, found {values!r}")
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # pyright: ignore[reportArgumentType]
    for key in values:
        if key not in names:
            raise ConfigError(
                f"{_join(where, key)}: unknown key{near(str(key), names)}; "
                f"keys here: {', '.join(names)}"
            )
    made = {name: _value(hints[name], values[name], _join(where, name)) for name in values}
    try:
        return kind(**made)
    except TypeError as error:
        raise ConfigError(f"{where}: {str(error).partition('__init__() ')[2]}") from None


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _value(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return build(kind, value, where)
    if origin is Literal:
        return _choice(get_args(kind), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, found {value!r}")
        inner = get_args(kind)[0]
        return tuple(_value(inner, one, f"{where}[{i}]") for i, one in enumerate(value))
    if origin is dict:
        return _mapping(get_args(kind)[1], value, where)
    return _plain(kind, value, where)


def _mapping(kind: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected keys and values, found {value!r}")
    if get_origin(kind) is not types.UnionType:
        return {str(key): _value(kind, one, _join(where, key)) for key, one in value.items()}
    made: dict[str, Any] = {}
    for name, one in value.items():
        modality, _, backbone = str(name).partition("/")
        if modality not in KINDS or not backbone:
            raise ConfigError(
                f"{_join(where, name)}: expected a stream name such as visual/resnet18, "
                f"one of {', '.join(f'{known}/…' for known in KINDS)}{near(modality, list(KINDS))}"
            )
        made[str(name)] = build(KINDS[modality], one or {}, _join(where, name))
    return made


def _choice(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in choices:
        raise ConfigError(
            f"{where}: expected one of {', '.join(map(str, choices))}, found {value!r}"
            + near(str(value), [str(choice) for choice in choices])
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
        raise ConfigError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value
