"""Predicting with finished runs, as the command does it: where things are and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import ConfigError, FeatureStore
from ..fuse.prediction import predict_tracks, read_run, runs_beside
from .predictions import write_predictions
from .progress import progress

if TYPE_CHECKING:
    from ..cache import Manifest
    from ..fuse.finished import Finished
    from ..fuse.prediction import TrackPrediction

RUNS, STORE, PREDICTIONS = "runs", "store", "predictions"
"""Folders that a workflow keeps beside each other in its results."""


@dataclass(frozen=True, slots=True)
class Predictors:
    """Runs of one experiment, with the data set that they are to predict."""

    runs: list[Finished]
    store: FeatureStore
    manifest: Manifest

    @classmethod
    def opened(
        cls, runs: Sequence[Path], data: str, store: str | None, *, alone: bool
    ) -> Predictors:
        """Read runs and find their store.

        Args:
            runs: Folders of finished runs of one experiment.
            data: `name` or `name@edition` in the store.
            store: Folder or URL; by default the folder `store` beside the first run's `runs`.
            alone: Without the other seeds that stand beside the runs.

        Raises:
            ConfigError: No finished run, other experiments, or no store was found.
        """
        found = runs_beside([read_run(run.resolve()) for run in runs], alone=alone)
        opened = FeatureStore(store or store_beside(runs[0].resolve()))
        return cls(found, opened, opened.manifest(data))

    def predict(self, splits: Sequence[str], device: str) -> list[TrackPrediction]:
        """Predict the tracks of some splits, of all where none is named."""
        with progress("predict") as told:
            return predict_tracks(
                self.runs, self.store, self.manifest, splits, device=device, progress=told
            )


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
    using = Predictors.opened(runs, data, store, alone=alone)
    manifest = using.manifest
    folder = out or first.parent.parent / PREDICTIONS / manifest.name / first.name
    tracks = using.predict((split,) if split else (), device)
    return write_predictions(folder, f"{manifest.dataset} {manifest.edition}", using.runs, tracks)


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
