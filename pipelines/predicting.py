"""Predicting with finished runs, as the command does it: where things are and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..cache import ConfigError, FeatureStore
from ..fuse.prediction import predict_tracks, read_run, runs_beside
from .predictions import write_predictions
from .progress import progress

RUNS, STORE, PREDICTIONS = "runs", "store", "predictions"
"""Folders that a workflow keeps beside each other in its results."""


def predicted(
    runs: Sequence[Path],
    data: str,
    store: str | None,
    split: str | None,
    out: Path | None,
    *,
    alone: bool,
    device: str,
) -> Path:
    """Predict the tracks of a data set, and write tables and page.

    Args:
        runs: Folders of finished runs of one experiment.
        data: `name` or `name@edition` in the store.
        store: Folder or URL; by default the folder `store` beside the first run's folder `runs`.
        split: Only its tracks; by default all.
        out: Where to write; by default `predictions/<data set>/<run>` beside `runs`.
        alone: Without the other seeds that stand beside the runs.
        device: Where heads are applied.

    Returns:
        The page.

    Raises:
        ConfigError: No finished run, other experiments, another recipe, or no store was found.
    """
    first = runs[0].resolve()
    found = runs_beside([read_run(run.resolve()) for run in runs], alone=alone)
    opened = FeatureStore(store or store_beside(first))
    manifest = opened.manifest(data)
    folder = out or first.parent.parent / PREDICTIONS / manifest.name / first.name
    splits = (split,) if split else ()
    with progress("predict") as told:
        tracks = predict_tracks(found, opened, manifest, splits, device=device, progress=told)
    return write_predictions(folder, f"{manifest.dataset} {manifest.edition}", found, tracks)


def store_beside(run: Path) -> Path:
    """Find the store of the workflow that a run belongs to.

    Raises:
        ConfigError: There is none where a workflow keeps it.
    """
    path = run.parent.parent / STORE
    if run.parent.name != RUNS or not path.is_dir():
        raise ConfigError(
            f"{run}: no store beside it: expected {path}, and the run in a folder named `{RUNS}`; "
            "name one with --store"
        )
    return path
