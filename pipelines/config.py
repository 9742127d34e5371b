"""Configuration: one set of frozen dataclasses, read from YAML, with an answer to every typo."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..cache import ConfigError
from ..extract.settings import StreamSettings  # noqa: TC001 - a field's type, read at run time
from ..fuse.settings import FuseSettings
from .bases import laid_over
from .checks import check
from .fallback import LOCAL
from .reading import build
from .standin_plan import PROFILE
from .sweeps import read_experiments


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Which data set."""

    adapter: Literal["demo", "affwild2", "table"] = "demo"
    """`demo` is generated at `path`; `affwild2` is a folder of yours in Aff-Wild2's layout, or its
    stand-in (profile `standin`); `table` is any other corpus, described by a CSV file of its
    tracks."""
    path: str = "results/demo/data"
    """Folder; with `table` the CSV file, or a folder with `tracks.csv`."""
    name: str = ""
    """Name in the store; the adapter's own name where empty."""
    edition: str = ""
    """Name of the label release, such as `ABAW6`; where empty, what the folders' names say.
    Chooses one where several are there (adapter affwild2)."""
    faces: str = ""
    """Pattern of the face roots' names; where empty, `cropped_aligned*`, else `cropped*` (adapter
    affwild2)."""
    profile: str = "demo"
    """Which demo (adapter demo). With adapter affwild2, `standin` has the workflow make a stand-in
    at `path`, which is then read like the real data set."""
    seed: int = 0
    """Which random numbers make what is generated."""

    @property
    def is_made(self) -> bool:
        """Say whether the workflow itself makes the data set."""
        return self.adapter == "demo" or (self.adapter == "affwild2" and self.profile == PROFILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a workflow is told."""

    base: str = ""
    """A shipped configuration that this one is laid over: ablation, jca, jmt, rjcma, …; what stands
    here replaces what stands there, key by key, and null takes a key out."""
    data: DataSettings = field(default_factory=DataSettings)
    results: str = "results/demo"
    """Folder for receipts, runs, report and logs."""
    store: str = ""
    """Folder of the feature store; `store` below `results` where empty."""
    shards: Literal["zarr", "hdf5"] = "zarr"
    """Format of the store's shards."""
    stores: tuple[str, ...] = (LOCAL,)
    """Where rows are looked for, in this order, before any are computed: `local` is the project's
    own store, others are remotes by name (`concord cache remote add`), URL or folder. With any of
    these the workflow begins with their manifest, and needs no media."""
    labels: str = ""
    """Your own label folder, laid out as the data set's, where the labels may not be shared with
    the rows; it must hold the very labels of the manifest. Goes with `stores`."""
    cache_limit: str = ""
    """Most that pulled rows may take in the local store, such as `20 GB`: those used least recently
    are removed. Rows computed here are not counted; no limit where empty."""
    unreachable: Literal["stop", "compute"] = "stop"
    """What is done where a store of the list does not answer and rows are missing."""
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
    def falls_back(self) -> bool:
        """Whether rows are looked for in other stores than the project's own."""
        return any(name != LOCAL for name in self.stores)

    @property
    def store_path(self) -> str:
        """Where the store is."""
        return self.store or f"{self.results}/store"

    @property
    def data_name(self) -> str:
        """The data set's name in the store."""
        return self.data.name or self.data.adapter


def load_config(path: str | Path) -> Config:
    """Read a configuration file (YAML, or JSON if it is named so), or JSON text: `{…}`.

    Raises:
        ConfigError: Not readable, an unknown key (with the nearest right one), or a wrong value.
    """
    text = str(path)
    if not text.lstrip().startswith("{"):
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"configuration {path}: cannot be read: {error.strerror}") from error
        # The reader of YAML takes a second for what JSON's reads in a millisecond.
        read = _json if Path(path).suffix == ".json" else _yaml
        return parse_config(read(text, str(path)))
    return parse_config(_json(text, f"{text[:40]!r}…"))


def _json(text: str, path: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"configuration {path}: not JSON: {error}") from error


def _yaml(text: str, path: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {path}: not YAML: {error}") from error


def parse_config(values: Any) -> Config:
    """Check plain values, such as Snakemake's `config`, and make the configuration of them."""
    rest, entries = _taken_out(laid_over(values))
    config = build(Config, rest, "")
    experiments, places = read_experiments(entries, config.fuse)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, path=_folder(config.data.path)),
        results=_folder(config.results),
        store=_folder(config.store) if config.store else "",
        labels=_folder(config.labels) if config.labels else "",
        fuse=dataclasses.replace(config.fuse, experiments=experiments),
    )
    check(config, places)
    return config


def _taken_out(values: Any) -> tuple[Any, Any]:
    """Take the experiments out, as they are written; what is no mapping is left to be refused."""
    fuse = values.get("fuse") if isinstance(values, dict) else None
    if not isinstance(fuse, dict) or "experiments" not in fuse:
        return values, []
    rest = {key: value for key, value in fuse.items() if key != "experiments"}
    return {**values, "fuse": rest}, fuse["experiments"]


def _folder(path: str) -> str:
    return os.path.normpath(Path(path).expanduser())
