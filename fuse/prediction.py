"""Predictions of finished runs for the tracks of any data set in the store, labelled or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import ConfigError, DataError, NotInStoreError
from .ensemble import Ensemble, load_member
from .evaluate import Problem, predict, present
from .finished import Finished, identity_of
from .heads import build_head
from .protocols import TrackRows, fill
from .results import clocked, trace
from .rows import LABELS, Rows, load_rows
from .scaling import Scaling
from .streams import listed, same_stream
from .trouble import not_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import FeatureStore, Manifest
    from .settings import ExperimentSettings

COLUMNS = ("time", "valence", "arousal", "valence_spread", "arousal_spread", "filled")
"""Of a track's table."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, eq=False)
class TrackPrediction:
    """What S runs say of a track's N rows."""

    track: str
    split: str
    values: NDArray[np.float64]
    """(S, N, 2), valence first; rows without a value are filled as in protocol `official`."""
    filled: NDArray[np.bool_]
    """(N,): no stream has a value there."""
    seconds: NDArray[np.float64]
    """(N,) on the container's clock; NaN where no stream carries one."""
    labels: NDArray[Any]
    """(N, 2); they mean something where `labelled` is true."""
    labelled: NDArray[np.bool_]
    """(N,)"""

    @property
    def mean(self) -> NDArray[np.float64]:
        """(N, 2), over the runs."""
        return self.values.mean(0)

    @property
    def spread(self) -> NDArray[np.float64] | None:
        """(N, 2): sample standard deviation over the runs; None of a single one."""
        return self.values.std(0, ddof=1) if len(self.values) > 1 else None

    def table(self) -> str:
        """Write a line for each row as CSV: `COLUMNS`, single precision, seconds or row numbers."""
        mean, spread = self.mean.astype(np.float32), self.spread
        times = [f"{t:.6f}" for t in self.seconds] if clocked(self.seconds) else range(len(mean))
        spreads = [("", "")] * len(mean) if spread is None else spread.astype(np.float32)
        lines = [",".join(COLUMNS)]
        for time, values, around, filled in zip(times, mean, spreads, self.filled, strict=True):
            lines.append(",".join(map(str, (time, *values, *around, int(filled)))))
        return "\n".join(lines) + "\n"

    def trace(self, name: str) -> dict[str, Any]:
        """Give the track over time, as pages draw it; `name` is what the prediction is called."""
        return trace(self.track, self.seconds, self.labels, self.labelled, {name: self.values})


def read_run(path: Path) -> Finished:
    """Read a run that is to predict.

    Raises:
        ConfigError: No finished run, or one of a version whose settings are not known here.
    """
    run = Finished.read(path)
    try:
        run.experiment()
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: of another version ({error}); train it again") from error
    return run


def runs_beside(runs: Sequence[Finished], *, alone: bool = False) -> list[Finished]:
    """Give runs with the other seeds of their experiment that stand beside them, by seed.

    Args:
        runs: Of one experiment, at least one.
        alone: These runs only.

    Raises:
        ConfigError: The runs differ in more than the seed, or one cannot be read.
    """
    wanted = _but_seed(runs[0].path)
    for run in runs[1:]:
        found = _but_seed(run.path)
        if found != wanted:
            raise ConfigError(
                f"{runs[0].path} and {run.path}: expected runs that differ in the seed alone, "
                f"found other {', '.join(_differing(wanted, found))}; "
                "predict with each experiment on its own"
            )
    by_seed = {run.record["seed"]: run for run in runs}
    for folder in () if alone else sorted({run.path.parent for run in runs}):
        for path in sorted(each.parent for each in folder.glob("*/run.json")):
            if not path.name.startswith(".") and _but_seed(path) == wanted:
                other = Finished.read(path)
                by_seed.setdefault(other.record["seed"], other)
    return [by_seed[seed] for seed in sorted(by_seed)]


def predict_tracks(
    runs: Sequence[Finished],
    store: FeatureStore,
    manifest: Manifest,
    splits: Sequence[str] = (),
    *,
    device: str = "cpu",
    memory: float = 0.0,
    progress: Progress | None = None,
) -> list[TrackPrediction]:
    """Predict every row of some tracks by every run.

    Args:
        runs: Of one experiment.
        store: Where the data set's rows are.
        manifest: The data set's edition.
        splits: Those that are wanted; all by default.
        device: Where heads are applied.
        memory: GiB that the rows may take; 0 for half of what is free.
        progress: Told how many runs of how many have predicted.

    Raises:
        ConfigError: A stream is there under another recipe than the runs were trained on, or a
            run's weights do not fit this version's head.
        DataError: A stream holds a number that is not finite.
        NotInStoreError: A stream or every track of a split is missing.
    """
    identity = runs[0].identity()
    experiment = runs[0].experiment()
    streams = {
        name: same_stream(store, manifest, full)
        for name, full in zip(experiment.streams, identity["streams"], strict=True)
    }
    known = listed(manifest, LABELS)
    # Labels are only shown: under several recipes nothing says which are meant.
    labels = store[known[0]] if len(known) == 1 else None
    kept = replace(manifest, tracks=tuple(track for track in manifest if track.rows))
    wanted = tuple(splits or dict.fromkeys(track.split for track in kept))
    if not wanted:
        raise NotInStoreError(f"{store.place}: {manifest.name} has no track with a row")
    rows = load_rows(store, kept, streams, labels, splits=wanted, device=device, memory=memory)
    found: list[NDArray[np.float64]] = []
    for done, run in enumerate(runs, 1):
        found.append(_predicted(run, experiment, rows))
        if progress:
            progress(done, len(runs), f"seed {run.record['seed']} has predicted")
    values = np.stack(found)
    return [_of_track(rows, at, values) for at in range(len(rows.tracks))]


def _predicted(run: Finished, experiment: ExperimentSettings, rows: Rows) -> NDArray[np.float64]:
    """Predict all rows by one run: (N, 2), NaN where no stream has a value."""
    state, scaling = run.weights()
    device, every = str(rows.device), tuple(range(len(rows.tracks)))
    window = experiment.window.resolved()
    head = build_head(rows.dims(experiment.streams), window.length, experiment)
    load_member(head, state, str(run.path))
    scaling = Scaling.from_tensors(scaling.tensors(), device)
    problem = Problem(rows, experiment.streams, (), every, scaling)
    found = predict(Ensemble([head.to(device)]), problem, every, window)[0].numpy()
    _check_finite(run, problem, found)
    return found.astype(np.float64)


def _check_finite(run: Finished, problem: Problem, predictions: NDArray[np.float32]) -> None:
    """Refuse a prediction (n, 2) of a row with a value that is no number."""
    bad = present(problem, problem.validation) & ~np.isfinite(predictions).all(1)
    if bad.any():
        at = int(np.searchsorted(problem.rows.firsts, bad.argmax(), "right")) - 1
        for stream in problem.streams:
            found = not_finite(problem.rows, stream, problem.rows.numbers([at]))
            if found:
                raise DataError(f"{run.path}: stream {stream!r} holds {found}")
        raise DataError(
            f"{run.path}: no finite prediction for track {problem.rows.tracks[at].track!r}, whose "
            "features are finite; they may be far from what the run was trained on"
        )


def _of_track(rows: Rows, at: int, values: NDArray[np.float64]) -> TrackPrediction:
    """Cut one track out of predictions (S, N, 2) of all rows, and fill it."""
    track, first = rows.tracks[at], rows.firsts[at]
    here = slice(first, first + track.rows)
    labels, labelled = rows.labels[here].cpu().numpy(), rows.labelled[here].cpu().numpy()
    parts = [
        TrackRows(
            track=track.track,
            family=track.family,
            predictions=each[here],
            labels=labels,
            labelled=labelled,
            face=rows.face[here],
            times=rows.times[here],
        )
        for each in values
    ]
    return TrackPrediction(
        track=track.track,
        split=track.split,
        values=np.stack([fill(part) for part in parts]),
        filled=~parts[0].valued,
        seconds=rows.times[here],
        labels=labels,
        labelled=labelled,
    )


def _but_seed(path: Path) -> dict[str, Any]:
    return {name: value for name, value in identity_of(path).items() if name != "seed"}


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Name the parts in which two identities differ, such as `experiment.width`."""
    found: list[str] = []
    for name in dict.fromkeys([*first, *second]):
        a, b = first.get(name), second.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += [f"{name}.{inner}" for inner in _differing(a, b)]
        elif a != b:
            found.append(name)
    return found
