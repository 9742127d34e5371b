"""Roots: which streams and editions the runs and configurations of a project name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import ConfigError, FeatureStore, StoreError
from ..cache.collect import Roots
from ..extract.settings import LABELS

if TYPE_CHECKING:
    from .config import Config

RUN = "head.safetensors"
RECEIPTS = "receipts"


def project_roots(project: Path, store: FeatureStore) -> Roots:
    """Find what a project needs of a store.

    - Every run (`runs/*/head.safetensors`) names its streams and its manifest.
    - Every receipt (`receipts/**.json`) names the streams that an extraction gave last.
    - Every configuration (`*.yaml`, `*.yml`) names streams; their recipes are computed. Where one
      cannot be computed (its weights are not here), all recipes of that name are kept.

    Args:
        project: The project's folder; everything below it is looked at.
        store: The store, for the recipes of a name.

    Raises:
        StoreError: A run, receipt or configuration below the project cannot be read.
    """
    streams: set[str] = set()
    manifests: set[str] = set()
    for path in _files(project, store.path):
        if path.name == RUN:
            configuration = _configuration(path)
            streams |= set(configuration["streams"])
            manifests.add(configuration["manifest"])
        elif path.suffix == ".json":
            streams |= {f"{name}@{value}" for name, value in _receipt(path).items()}
        else:
            streams |= set(_configured(path, store))
    if streams:
        # Small, and no run names the labels that it was trained on.
        streams |= {stream.full_name for stream in store.streams() if stream.name == LABELS}
    return Roots(streams=frozenset(streams), manifests=frozenset(manifests))


def _files(project: Path, store: Path) -> Iterator[Path]:
    """Walk a project once: its runs, receipts and configurations, but not the store."""
    for folder, folders, names in os.walk(project):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() != store.resolve()
        )
        for name in sorted(names):
            path = here / name
            receipt = path.suffix == ".json" and RECEIPTS in here.relative_to(project).parts
            if name == RUN or receipt or path.suffix in (".yaml", ".yml"):
                yield path


def _configuration(run: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(run, framework="numpy") as file:
            found = json.loads(file.metadata()["configuration"])
        return {"streams": [*found["streams"]], "manifest": str(found["manifest"])}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{run}: what this run needs cannot be read ({error!r:.200}); repair or delete the "
            "run's folder first, so that nothing it needs is collected"
        ) from error


def _receipt(path: Path) -> dict[str, str]:
    try:
        record = json.loads(path.read_bytes())
        return {} if "streams" not in record else dict(record["streams"])
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path}: which streams this receipt names cannot be read ({error!r:.200}); "
            "delete it, or run the extraction again"
        ) from error


def _configured(path: Path, store: FeatureStore) -> Iterator[str]:
    """Full names of the streams that a file names, if it is a configuration."""
    from .config import load_config

    try:
        config = load_config(path)
    except ConfigError as error:
        if not _has_streams(path):
            return
        raise StoreError(
            f"{error}; which streams this configuration needs is not known: repair it first, so "
            "that nothing it needs is collected"
        ) from error
    for name in config.streams:
        recipe = _recipe(config, name)
        for stream in store.streams():
            if stream.name == name and recipe in (None, stream.digest):
                yield stream.full_name


def _has_streams(path: Path) -> bool:
    """Say whether a file that is no sound configuration was meant as one."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
    except yaml.YAMLError:
        return "streams:" in path.read_text(encoding="utf-8", errors="replace")
    return isinstance(found, dict) and "streams" in found


def _recipe(config: Config, name: str) -> str | None:
    """Digest of the recipe of a configured stream; None where its weights are not here."""
    from ..cache import digest
    from ..extract.compute import Workers

    try:
        return digest(Workers({name: config.streams[name]}, "cpu").recipe(name))
    except (OSError, ConfigError):
        return None
