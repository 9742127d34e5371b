"""`concord fuse`: stage two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .options import AS_JSON, DEVICE, SETTINGS, STORE, THREADS


@click.group("fuse")
def group() -> None:
    """Stage two: train fusion heads on stored rows."""


@group.command()
@AS_JSON
def heads(*, as_json: bool) -> None:
    """List the fusion heads: those of the papers, of their programs, and of installed packages."""
    from ..fuse.catalogue import HEADS, head_names
    from .tables import print_table

    columns = ("head", "variant", "paper", "length", "causal", "modalities", "settings")
    rows = [
        {"head": name, **{column: getattr(info, column) for column in columns[1:]}}
        for name, info in HEADS.items()
    ]
    own = dict.fromkeys(columns, "") | {"variant": "own"}
    rows += [{**own, "head": name} for name in head_names() if name not in HEADS]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    shown = [{**row, "takes": _takes(row), "settings": ", ".join(row["settings"])} for row in rows]
    print_table("fusion heads", ("head", "paper", "takes", "settings"), shown, whole=("head",))


def _takes(row: dict[str, Any]) -> str:
    causal = {"yes": ", causal", "optional": ", causal on request"}.get(row["causal"], "")
    length = {"any": "any length", "fixed": "one length"}.get(row["length"], "")
    return f"{length}{causal}; {row['modalities']}" if length else ""


@group.command()
@SETTINGS
@STORE
@click.option("--dataset", help="`name` or `name@edition`; default the configuration's name.")
@click.option(
    "--coverage",
    type=click.Path(exists=True, path_type=Path),
    help="Take edition and recipes from here; default the configuration's, where it is.",
)
@click.option("--runs", type=click.Path(path_type=Path), help="Where finished runs are kept.")
@click.option("--results", type=click.Path(path_type=Path), help="Where to write all results.")
@DEVICE
@THREADS
def train(
    settings: str,
    store: Path | None,
    dataset: str | None,
    coverage: Path | None,
    runs: Path | None,
    results: Path | None,
    device: str,
    threads: int,
) -> None:
    """Train every experiment of the configuration with every seed, in one process.

    Finished runs are kept and not trained again.
    """
    from ..cache import ConfigError, FeatureStore
    from ..cache.atomic import write_json
    from ..fuse.grid import Grid
    from .config import load_config
    from .device import held_device, set_up_torch
    from .progress import progress

    set_up_torch(threads)
    config = load_config(settings)
    if not config.fuse.experiments:
        raise ConfigError("fuse.experiments: expected at least one, found none")
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
    with held_device(device) as held, progress("fuse") as told:
        outcome = Grid(opened, manifest, config.fuse, folder, held, recipes).go(told)
    if results:
        write_json(results, outcome)
    _print(outcome)


def _print(found: dict[str, Any]) -> None:
    from .tables import print_table

    columns = ("experiment", "width", "valence", "arousal", "score", "seeds", "rows")
    rows = [
        {
            "experiment": e["name"],
            "width": e["width"],
            **{name: _mean(e["scores"][name]) for name in ("valence", "arousal", "score")},
            "seeds": len(e["seeds"]),
            "rows": e["rows"],
        }
        for e in found["experiments"]
    ]
    print_table("CCC on the validation split, mean ± spread over seeds", columns, rows)


def _mean(spread: dict[str, Any]) -> str:
    if spread["mean"] is None:
        return "undefined"
    std = "" if spread["std"] is None else f" ± {spread['std']:.3f}"
    return f"{spread['mean']:.3f}{std}"
