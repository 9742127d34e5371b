"""A grid of runs: experiments by seeds, in one process over one copy of the rows.

Every finished run is kept under a digest of all that determines it, so a grid that was broken
off, or whose settings changed in part, trains only what is missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from ..cache import FeatureStore, Manifest, NotInStoreError, Stream, digest
from ..cache.atomic import fsync_tree, publish_folder, temporary_sibling, write_json
from .evaluate import OFFICIAL
from .results import SCORES, Finished, experiment_names, summary, traces
from .rows import LABELS, Scaling, load_rows
from .training import Run, train

if TYPE_CHECKING:
    from .settings import ExperimentSettings, FuseSettings

VERSION = 1
"""Raised by hand when the same settings train other weights."""
Progress = Callable[[int, int, str], None]


class Grid:
    """Experiments over one data set edition."""

    def __init__(
        self,
        store: FeatureStore,
        manifest: Manifest,
        settings: FuseSettings,
        folder: Path,
        device: str = "cpu",
        recipes: Mapping[str, str] | None = None,
    ) -> None:
        """Gather what the experiments need.

        Args:
            store: The store.
            manifest: The data set's edition.
            settings: Experiments, windows, training.
            folder: Where finished runs are kept.
            device: Where heads are trained; the rows are kept there.
            recipes: Stream name to recipe digest, where the manifest lists several.

        Raises:
            ConfigError: An experiment is listed twice.
            NotInStoreError: A stream is not in the manifest, or under several recipes.
        """
        self.manifest = manifest
        self.settings = settings
        self.folder = folder
        self.names = experiment_names(settings.experiments)
        used = dict.fromkeys(name for e in settings.experiments for name in e.streams)
        known = recipes or {}
        self.streams = {name: _stream(store, manifest, name, known) for name in used}
        labels = _stream(store, manifest, LABELS, known)
        training = load_rows(store, manifest, "train", self.streams, labels)
        validation = load_rows(store, manifest, "val", self.streams, labels)
        scaling = Scaling.of(training)
        scaling.apply(training)
        scaling.apply(validation)
        self.training, self.validation = training.to(device), validation.to(device)

    def go(self, progress: Progress) -> dict[str, Any]:
        """Train what is missing and give the results of all experiments, as they are reported."""
        named = list(zip(self.names, self.settings.experiments, strict=True))
        plan = [(n, e, seed) for n, e in named for seed in self.settings.training.seeds]
        finished: dict[str, list[Finished]] = {name: [] for name in self.names}
        for done, (name, experiment, seed) in enumerate(plan):
            progress(done, len(plan), f"{name}, seed {seed}")
            finished[name].append(self._finished(experiment, seed))
        progress(len(plan), len(plan), "done")
        return {
            "version": VERSION,
            "dataset": self.manifest.dataset,
            "edition": self.manifest.edition,
            "protocol": {
                "name": "official",
                "description": OFFICIAL,
                "split": "val",
                "rows": int(self.validation.labelled.sum()),
                "filled": max((r[0].record["filled"] for r in finished.values()), default=0),
                "smoothing": "none",
            },
            "experiments": [
                summary(
                    name,
                    experiment,
                    self.settings,
                    [self.streams[stream] for stream in experiment.streams],
                    finished[name],
                )
                for name, experiment in named
            ],
            "traces": traces(self.validation, finished, self.settings.traces),
        }

    def _finished(self, experiment: ExperimentSettings, seed: int) -> Finished:
        identity = self._identity(experiment, seed)
        path = self.folder / digest(identity)[:24]
        if not path.is_dir():
            run = train(
                self.training.of_streams(experiment.streams),
                self.validation.of_streams(experiment.streams),
                experiment,
                self.settings.window,
                self.settings.training,
                seed,
            )
            _save(path, run, identity)
        record = json.loads((path / "run.json").read_bytes())
        return Finished(record, load_file(path / "predictions.safetensors")["predictions"])

    def _identity(self, experiment: ExperimentSettings, seed: int) -> dict[str, Any]:
        """Everything that determines a run: the very items that it reads among them."""
        training = asdict(self.settings.training)
        training.pop("seeds")
        return {
            "version": VERSION,
            "manifest": self.manifest.name,
            "items": {
                name: digest([t.items.get(self.streams[name].full_name) for t in self.manifest])
                for name in experiment.streams
            },
            "streams": [self.streams[name].full_name for name in experiment.streams],
            "experiment": asdict(experiment),
            "window": asdict(self.settings.window),
            "training": training,
            "seed": seed,
        }


def _stream(
    store: FeatureStore, manifest: Manifest, name: str, recipes: Mapping[str, str]
) -> Stream:
    base, _, start = name.partition("@")
    start = start or recipes.get(base, "")
    wanted = f"{base}@{start}"
    listed = {full for track in manifest for full in track.items if full.startswith(wanted)}
    if len(listed) == 1:
        return store[listed.pop()]
    found = ", ".join(sorted(listed)) or "none"
    raise NotInStoreError(
        f"{manifest.name}: expected one stream {name!r}, found {found}; "
        "run with --forcerun extract, or name one by the start of its digest"
    )


def _save(path: Path, run: Run, identity: dict[str, Any]) -> None:
    """Publish a run's folder: weights, predictions, curve and configuration."""
    assert run.best is not None
    assert run.predictions is not None
    temporary = temporary_sibling(path)
    temporary.mkdir(parents=True)
    configuration = {"configuration": json.dumps(identity, sort_keys=True)}
    save_file(run.state, temporary / "head.safetensors", configuration)
    save_file({"predictions": run.predictions}, temporary / "predictions.safetensors")
    curve = [asdict(epoch) for epoch in run.curve]
    lines = "".join(json.dumps(epoch) + "\n" for epoch in curve)
    (temporary / "metrics.jsonl").write_text(lines)
    columns = ("epoch", "train_loss", *SCORES)
    record = {
        "seed": run.seed,
        "digest": path.name,
        "parameters": run.parameters,
        "epochs": len(run.curve),
        "best_epoch": run.best_epoch,
        "valence": _number(run.best.valence),
        "arousal": _number(run.best.arousal),
        "score": _number(run.best.mean),
        "rows": run.best.rows,
        "filled": run.filled,
        "curve": {name: [_number(epoch[name]) for epoch in curve] for name in columns},
    }
    write_json(temporary / "run.json", record)
    fsync_tree(temporary)
    publish_folder(temporary, path)


def _number(value: float) -> float | None:
    """A score for JSON: None where it is undefined."""
    return None if math.isnan(value) else value
