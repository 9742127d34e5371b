"""A grid of runs: experiments by seeds, in one process over one copy of the rows.

Every finished run is kept under a digest of all that determines it, so a grid that was broken
off, or whose settings changed in part, trains only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import DataError, FeatureStore, Manifest, TrainingError, digest
from .checkpoint import SECONDS, SUFFIX, Checkpoint
from .evaluate import Problem
from .finished import check_tensorboard, publish
from .folds import Fold, fold_of, straddling
from .groups import grouped, why_apart
from .results import experiment_names
from .rows import LABELS, Rows, load_rows
from .run import Run
from .scaling import Scaling
from .streams import stream_of, visual_of
from .training import build, train

if TYPE_CHECKING:
    from .settings import ExperimentSettings, FuseSettings

VERSION = 2
"""Raised by hand when the same settings train other weights."""
TRAINING = ".training"
"""Folder, among the finished runs, of the checkpoints of those in training."""
UNREAD = 1e-12
"""GiB for rows of which no feature is read: all stay in the store."""
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
        *,
        checkpoint_seconds: float = SECONDS,
    ) -> None:
        """Find what the experiments need; nothing is read yet.

        Args:
            store: The store.
            manifest: The data set's edition.
            settings: Experiments, windows, training, protocol.
            folder: Where finished runs are kept.
            device: Where heads are trained; the rows are kept there.
            recipes: Stream name to recipe digest, where the manifest lists several.
            checkpoint_seconds: Between two checkpoints of a run in training.

        Raises:
            ConfigError: An experiment is listed twice.
            NotInStoreError: A stream is not in the manifest, or under several recipes.
        """
        self.store, self.manifest, self.settings = store, manifest, settings
        self.folder, self.device, self.seconds = folder, device, checkpoint_seconds
        self.names = experiment_names(settings.experiments)
        self.named = dict(zip(self.names, settings.experiments, strict=True))
        used = dict.fromkeys(name for e in settings.experiments for name in e.streams)
        known = recipes or {}
        self.streams = {name: stream_of(store, manifest, name, known) for name in used}
        self.labels = stream_of(store, manifest, LABELS, known)
        self.faces = None
        if settings.protocol == "faces_only":
            self.faces = stream_of(store, manifest, settings.faces or visual_of(manifest), known)
        self.runs = [run for e in settings.experiments for run in runs_of(e)]
        self._folds: dict[str, Fold] = {}
        self._scalings: dict[tuple[str, str], Scaling] = {}
        self._digests: dict[tuple[ExperimentSettings, int], str] = {}

    @cached_property
    def rows(self) -> Rows:
        """All rows that the experiments need, read at first use.

        Where all runs are finished no feature is read: labels, masks and times are enough.
        """
        wanted = any(not self.finished(run) for run in self.runs)
        return load_rows(
            self.store,
            self.manifest,
            self.streams,
            self.labels,
            faces=self.faces,
            device=self.device,
            memory=self.settings.memory if wanted else UNREAD,
        )

    @cached_property
    def _items(self) -> dict[str, str]:
        """Stream to a digest of its items, track by track."""
        return {
            name: digest([track.items.get(stream.full_name) for track in self.manifest])
            for name, stream in self.streams.items()
        }

    def train(
        self, progress: Progress, note: Callable[[str], None], batch: tuple[int, int] = (0, 1)
    ) -> list[str]:
        """Train what is missing.

        Args:
            progress: Told how many runs of how many are finished, and the newest scores.
            note: Told what a log should say.
            batch: (i, n): only the i-th of n batches of runs that are trained together.

        Returns:
            Digests of the batch's runs.

        Raises:
            TrainingError: Runs that could not be trained; all others are finished and kept.
        """
        if any(run.experiment.training.tensorboard for run in self.runs):
            check_tensorboard()
        Checkpoint.tidy(self.folder / TRAINING)
        groups = grouped(self.runs)[batch[0] :: batch[1]]
        wanted = [run for group in groups for run in group]
        teller = _Teller(progress, note, len(wanted), sum(self.finished(run) for run in wanted))
        failures: list[str] = []
        for group in groups:
            missing = [run for run in group if not self.finished(run)]
            try:
                if missing:
                    self._train_group(group, missing, teller, failures)
            except (DataError, TrainingError) as error:
                failures.append(f"{missing[0].name.rpartition(', ')[0]}: {error}")
        teller.end()
        if failures:
            raise TrainingError("\n".join(failures))
        return [self.digest(run) for run in wanted]

    def _train_group(
        self, group: Sequence[Run], missing: Sequence[Run], teller: _Teller, failures: list[str]
    ) -> None:
        problem = self.problem(group[0].experiment)
        teller.told_of(self.rows.told)
        fold = group[0].experiment.fold
        both = straddling(self.rows.tracks, self._folds[fold])
        if both:
            teller.told_of(
                f"fold {fold}: {len(both)} recordings have tracks on both sides: "
                f"{', '.join(both[:5])}{', …' if len(both) > 5 else ''}; grouped folds have none"
            )
        for runs, checkpoint in self._portions(problem, group, missing, teller):
            for run in runs:
                run.together = tuple(other.seed for other in runs)
            for run in train(problem, runs, checkpoint, teller.epoch):
                if run.failure:
                    failures.append(run.failure)
                else:
                    publish(self.path(run), run, problem.scaling, self.identity(run))
                teller.finished()
            checkpoint.remove()

    def _portions(
        self, problem: Problem, group: Sequence[Run], missing: Sequence[Run], teller: _Teller
    ) -> list[tuple[list[Run], Checkpoint]]:
        """Cut the missing runs of a group into those that are trained at once."""
        by_digest = {self.digest(run): run for run in group}
        left = [self.digest(run) for run in missing]
        held = Checkpoint.holding(self.folder / TRAINING, left, by_digest, self.seconds)
        if held:
            return [([by_digest[each] for each in held.members], held)]
        if len(missing) > 1:
            heads = [build(problem, run.experiment, run.seed) for run in (missing[0], missing[-1])]
            dims = problem.rows.dims(problem.streams)
            why = why_apart(missing[0].experiment, heads, dims, self.device)
            if not why:
                return [(list(missing), self._checkpoint(missing))]
            teller.told_of(f"{missing[0].name}: {len(missing)} runs one by one: {why}")
        return [([run], self._checkpoint([run])) for run in missing]

    def problem(self, experiment: ExperimentSettings, *, scaled: bool = True) -> Problem:
        """Give rows, tracks and scaling of an experiment.

        Args:
            experiment: Its fold and its streams count.
            scaled: With scaling, which is measured at first use; else it is empty.
        """
        if experiment.fold not in self._folds:
            self._folds[experiment.fold] = fold_of(self.rows.tracks, experiment.fold)
        fold = self._folds[experiment.fold]
        mean, scale = {}, {}
        for name in experiment.streams if scaled else ():
            at = (experiment.fold, name)
            if at not in self._scalings:
                self._scalings[at] = Scaling.of(self.rows, [name], fold.train)
            mean |= self._scalings[at].mean
            scale |= self._scalings[at].scale
        return Problem(self.rows, experiment.streams, fold.train, fold.val, Scaling(mean, scale))

    def identity(self, run: Run) -> dict[str, Any]:
        """Everything that determines a run: the very items that it reads among them."""
        experiment = run.experiment
        told = asdict(experiment)
        told["window"] = asdict(experiment.window.resolved())
        for name in ("seeds", "tensorboard"):
            told["training"].pop(name)
        return {
            "version": VERSION,
            "manifest": self.manifest.name,
            "items": {name: self._items[name] for name in experiment.streams},
            "streams": [self.streams[name].full_name for name in experiment.streams],
            "experiment": told,
            "seed": run.seed,
        }

    def digest(self, run: Run) -> str:
        """Name a run's folder."""
        at = run.experiment, run.seed
        if at not in self._digests:
            self._digests[at] = digest(self.identity(run))[:24]
        return self._digests[at]

    def path(self, run: Run) -> Path:
        """Where a run is kept when it is finished."""
        return self.folder / self.digest(run)

    def finished(self, run: Run) -> bool:
        """Whether a run is kept."""
        return self.path(run).is_dir()

    def _checkpoint(self, runs: Sequence[Run]) -> Checkpoint:
        members = [self.digest(run) for run in runs]
        path = self.folder / TRAINING / f"{digest(members)[:24]}{SUFFIX}"
        return Checkpoint(path, members, self.seconds)


class _Teller:
    """Counts finished runs and words the progress."""

    def __init__(
        self, progress: Progress, note: Callable[[str], None], total: int, done: int
    ) -> None:
        self.progress, self.note, self.total, self.done = progress, note, total, done
        self.text, self.began, self.told = "", False, set[str]()
        progress(done, total, "reading rows" if done < total else "all are finished")

    def told_of(self, text: str) -> None:
        """Say something once."""
        if text and text not in self.told:
            self.told.add(text)
            self.note(text)

    def epoch(self, runs: Sequence[Run]) -> None:
        """Tell the newest scores; the very first ones at once."""
        newest = runs[0].curve[-1]
        seeds = ", ".join(str(run.seed) for run in runs)
        self.text = (
            f"{runs[0].experiment.head}, seed{'s'[: len(runs) > 1]} {seeds}, epoch {newest.epoch}: "
            f"validation CCC {newest.valence:.3f} valence, {newest.arousal:.3f} arousal"
        )
        if not self.began:
            self.began = True
            self.note(self.text)
        self.progress(self.done, self.total, self.text)

    def finished(self) -> None:
        """Count one more."""
        self.done += 1
        self.progress(self.done, self.total, self.text)

    def end(self) -> None:
        """All are done."""
        self.progress(self.total, self.total, "done")


def runs_of(experiment: ExperimentSettings) -> list[Run]:
    """Give an experiment's runs, none of them trained yet."""
    return [Run(experiment, seed) for seed in experiment.training.seeds]
