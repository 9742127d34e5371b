"""Scores of a grid's finished runs by its protocol: the table, a comparison, track by track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch

from ..cache import ConfigError
from .bootstrap import paired
from .evaluate import track_rows
from .finished import Finished
from .grid import Grid, runs_of
from .maps import maps_of
from .protocols import PROTOCOLS, Scored, diagnostics, scored
from .results import number, summary, traces
from .run import SCORES

if TYPE_CHECKING:
    from torch import Tensor

    from .settings import ExperimentSettings

RESULTS = 1
"""Version of the results' form."""
TRACED = 12
"""Experiments whose predictions are shown over time, the best ones; so many are held at once."""


@dataclass(frozen=True, slots=True, eq=False)
class _Seeds:
    """An experiment's runs."""

    runs: list[Finished]
    results: list[Scored]


class Scores:
    """Finished runs of a grid, as its protocol scores them."""

    def __init__(self, grid: Grid) -> None:
        """Take a grid of which every run is finished; nothing is read yet."""
        self.grid = grid
        self._held: dict[str, _Seeds] = {}

    def results(self) -> dict[str, Any]:
        """Score all experiments, as they are reported.

        Raises:
            ConfigError: A run is not finished.
        """
        lines = [self._summary(name) for name in self.grid.names]
        first = lines[0] if lines else {"rows": 0, "filled": 0}
        shown = set(_best(lines, TRACED))
        return {
            "version": RESULTS,
            "dataset": self.grid.manifest.dataset,
            "edition": self.grid.manifest.edition,
            "protocol": self._protocol(first["rows"], first["filled"]),
            "experiments": lines,
            "traces": traces(
                self.grid.rows,
                {name: self._seeds(name).results for name in self.grid.names if name in shown},
                self.grid.settings.traces,
            ),
            "maps": [self._maps(name) for name in self.grid.names if name in shown],
            "published": self.grid.settings.published,
        }

    def compare(self, first: str, second: str) -> dict[str, Any]:
        """Compare two experiments' predictions, averaged over their seeds.

        Args:
            first: Name in the table.
            second: Name in the table; what is told is first less second.

        Returns:
            Scores of both, their difference, intervals and shares by paired bootstrap.

        Raises:
            ConfigError: Unknown names, experiments scored on different rows, or a run is not
                finished.
        """
        averaged = [self._averaged(name) for name in (first, second)]
        found = paired(averaged[0], averaged[1], self.grid.settings.resamples)
        a, b = ({each: number(getattr(one, each)) for each in SCORES} for one in averaged)
        return {
            "protocol": self._protocol(averaged[0].rows, averaged[0].filled),
            "first": a,
            "second": b,
            "difference": {each: number(getattr(found, each)) for each in SCORES},
            "intervals": found.intervals,
            "not_positive": found.not_positive,
            "families": found.families,
        }

    def diagnostics(self) -> list[dict[str, Any]]:
        """Describe every track of every run, as the protocol sees it.

        Raises:
            ConfigError: A run is not finished.
        """
        found: list[dict[str, Any]] = []
        for name in self.grid.names:
            seeds = self._seeds(name)
            for run, result in zip(seeds.runs, seeds.results, strict=True):
                tracks = diagnostics(result)
                found.append({"name": name, "seed": run.record["seed"], "tracks": tracks})
        return found

    def scored(self, predictions: Tensor, experiment: ExperimentSettings) -> Scored:
        """Score predictions (n, 2) of an experiment's validation tracks."""
        problem = self.grid.problem(experiment, scaled=False)
        settings = self.grid.settings
        return scored(settings.protocol, settings.smoothing, track_rows(problem, predictions))

    def _summary(self, name: str) -> dict[str, Any]:
        experiment, seeds = self.grid.named[name], self._seeds(name)
        streams = [self.grid.streams[stream] for stream in experiment.streams]
        resamples = self.grid.settings.resamples
        return summary(name, experiment, streams, seeds.runs, seeds.results, resamples)

    def _maps(self, name: str) -> dict[str, Any]:
        experiment, run = self.grid.named[name], self._seeds(name).runs[0]
        problem = self.grid.problem(experiment, scaled=False)
        windows = maps_of(problem, experiment, run, self.grid.settings.maps)
        return {"experiment": name, "seed": run.record["seed"], "windows": windows}

    def _seeds(self, name: str) -> _Seeds:
        """Read and score an experiment's runs; a few experiments are held, for who asks again."""
        if name not in self._held:
            if len(self._held) >= TRACED:
                self._held.clear()
            experiment = self.grid.named[name]
            runs = self._finished(experiment)
            self._held[name] = _Seeds(runs, [self.scored(r.predictions, experiment) for r in runs])
        return self._held[name]

    def _averaged(self, name: str) -> Scored:
        if name not in self.grid.named:
            near = get_close_matches(name, self.grid.names, 1, 0.3)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(map(repr, self.grid.names[:TRACED]))
            more = len(self.grid.names) - TRACED
            known += f" and {more} more" if more > 0 else ""
            raise ConfigError(f"unknown experiment {name!r}{meant}; known: {known}")
        experiment = self.grid.named[name]
        runs = self._finished(experiment)
        mean = torch.stack([run.predictions.double() for run in runs]).mean(0)
        return self.scored(mean, experiment)

    def _finished(self, experiment: ExperimentSettings) -> list[Finished]:
        wanted = runs_of(experiment)
        missing = [run for run in wanted if not self.grid.finished(run)]
        if missing:
            seeds = ", ".join(str(run.seed) for run in missing)
            raise ConfigError(
                f"{self.grid.folder}: {missing[0].name.rpartition(',')[0]}: no finished run of "
                f"seeds {seeds}; run `concord fuse train` with this configuration first"
            )
        return [Finished.read(self.grid.path(run)) for run in wanted]

    def _protocol(self, rows: int, filled: int) -> dict[str, Any]:
        settings = self.grid.settings
        return {
            "name": settings.protocol,
            "description": PROTOCOLS[settings.protocol],
            "split": "val",
            "rows": rows,
            "filled": filled,
            "smoothing": settings.smoothing,
        }


def _best(lines: Sequence[dict[str, Any]], count: int) -> list[str]:
    """Name the experiments of the best mean scores; undefined ones come last."""

    def place(line: dict[str, Any]) -> float:
        mean = line["scores"]["score"]["mean"]
        return float("inf") if mean is None else -mean

    return [line["name"] for line in sorted(lines, key=place)[:count]]
