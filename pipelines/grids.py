"""Grids of runs, opened as the commands of stage two need them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ..cache import ConfigError, FeatureStore
from ..fuse.grid import Grid
from .config import load_config


def opened_grid(
    settings: str,
    store: Path | None,
    dataset: str | None,
    coverage: Path | None,
    runs: Path | None,
    *,
    device: str = "cpu",
    protocol: str | None = None,
    smoothing: str | None = None,
) -> Grid:
    """Open the grid of a configuration.

    Args:
        settings: The configuration: a file or JSON text.
        store: The store; by default the configuration's.
        dataset: `name` or `name@edition`; by default the configuration's name.
        coverage: Edition and recipes of an extraction; by default the configuration's.
        runs: Where finished runs are kept; by default `runs` in the results folder.
        device: Where heads are trained.
        protocol: Instead of the configuration's.
        smoothing: Instead of the configuration's.

    Raises:
        ConfigError: No experiment, or an unknown protocol or smoothing.
    """
    from ..fuse.protocols import check_protocol

    config = load_config(settings)
    if not config.fuse.experiments:
        raise ConfigError("fuse.experiments: expected at least one, found none")
    fuse = dataclasses.replace(
        config.fuse,
        protocol=protocol or config.fuse.protocol,
        smoothing=smoothing or config.fuse.smoothing,
    )
    check_protocol(fuse.protocol, fuse.smoothing)
    opened = FeatureStore(store or config.store_path)
    standard = Path(config.results) / "coverage.json"
    if coverage is None and dataset is None and standard.exists():
        coverage = standard
    recipes: dict[str, str] = {}
    if coverage:
        found = json.loads(coverage.read_bytes())
        dataset = f"{found['dataset']}@{found['edition']}"
        recipes = {name: stream["digest"] for name, stream in found["streams"].items()}
    manifest = opened.manifest(dataset or config.data_name)
    folder = runs or Path(config.results) / "runs"
    return Grid(opened, manifest, fuse, folder, device, recipes)


def portion(text: str) -> tuple[int, int]:
    """Read `i/n`.

    Raises:
        ConfigError: Not two numbers, or i is not below n.
    """
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise ConfigError(f"--batch: expected i/n with i from 0 to n - 1, found {text!r}")
    return int(number), int(count)
