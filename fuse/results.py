"""Results of finished runs, as they are reported: scores per experiment, predictions over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..cache import ConfigError
from .bootstrap import intervals
from .catalogue import variant_of
from .run import SCORES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import Stream
    from .finished import Finished
    from .protocols import Scored, ScoredTrack
    from .rows import Rows
    from .settings import ExperimentSettings, TrainingSettings, WindowSettings


def experiment_names(experiments: Sequence[ExperimentSettings]) -> list[str]:
    """Name experiments for people: head and modalities, and what else tells them apart.

    Raises:
        ConfigError: Two experiments are the same.
    """
    flat = [_flat(experiment) for experiment in experiments]
    bases = [_base_name(experiment) for experiment in experiments]
    seen: set[tuple[Any, ...]] = set()
    for experiment, each in zip(experiments, flat, strict=True):
        if (key := tuple(each.values())) in seen:
            raise ConfigError(f"fuse.experiments: listed twice, leave one out: {experiment}")
        seen.add(key)
    alike: dict[str, list[dict[str, Any]]] = {}
    for base, each in zip(bases, flat, strict=True):
        alike.setdefault(base, []).append(each)
    differing = {base: _differing(group) for base, group in alike.items()}
    return [
        ", ".join([base, *(f"{field} {_plain(each[field])}" for field in differing[base])])
        for base, each in zip(bases, flat, strict=True)
    ]


def _differing(group: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the settings in which some of a group differ."""
    return [field for field in group[0] if len({each[field] for each in group}) > 1]


def _flat(experiment: ExperimentSettings) -> dict[str, Any]:
    """Give all settings, those of windows (resolved) and of training among them."""
    own = _values(experiment)
    window, training = own.pop("window"), own.pop("training")
    return {**own, **_values(window.resolved()), **_values(training)}


def _values(settings: ExperimentSettings | WindowSettings | TrainingSettings) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def _base_name(experiment: ExperimentSettings) -> str:
    modalities = "+".join(stream.partition("/")[0] for stream in experiment.streams)
    return f"{experiment.head} / {modalities}"


def _plain(value: object) -> str:
    """Write a setting in a name; what is empty as `-`."""
    values = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    return " ".join(map(str, values)) or "-"


def summary(
    name: str,
    experiment: ExperimentSettings,
    streams: Sequence[Stream],
    runs: Sequence[Finished],
    results: Sequence[Scored],
    resamples: int,
) -> dict[str, Any]:
    """Give one experiment's line of the table.

    Args:
        name: For people.
        experiment: Its settings.
        streams: Those it reads.
        runs: One per seed.
        results: The same runs, scored.
        resamples: Of the intervals; they are of the mean over the seeds, over families of tracks.
    """
    told = _flat(experiment)
    for shown in ("head", "streams", "width", "encoder", "encoders", "seeds", "fold"):
        told.pop(shown)
    for unseen in ("together", "tensorboard"):
        told.pop(unseen)
    return {
        "name": name,
        "head": experiment.head,
        "variant": variant_of(experiment.head),
        "streams": [f"{stream.name}@{stream.digest[:8]}" for stream in streams],
        "strides": [int(stream.recipe.get("stride") or 1) for stream in streams],
        "width": experiment.width,
        "encoder": experiment.encoders_told,
        "fold": experiment.fold,
        "window": asdict(experiment.window.resolved()),
        "settings": told,
        "seeds": [run.record["seed"] for run in runs],
        "rows": results[0].rows,
        "filled": results[0].filled,
        "without_value": results[0].without_value,
        "in_quarantine": results[0].with_absent,
        "parameters": runs[0].record["parameters"],
        "scores": {
            score: spread([number(getattr(result, score)) for result in results])
            for score in SCORES
        },
        "intervals": intervals(results, resamples),
        "runs": [
            {**run.record, **{score: number(getattr(result, score)) for score in SCORES}}
            for run, result in zip(runs, results, strict=True)
        ],
    }


def number(value: float) -> float | None:
    """Give a score for JSON: None where it is undefined."""
    return None if math.isnan(value) else value


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Give mean and sample standard deviation; undefined values (None) are left out."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": list(values),
    }


def traces(
    rows: Rows, finished: Mapping[str, Sequence[Scored]], count: int
) -> list[dict[str, Any]]:
    """Annotation and seed-averaged predictions of the `count` longest tracks.

    Times are seconds on the container's clock, or row numbers where no stream carries a clock.

    Args:
        rows: Of the data set.
        finished: Experiment to its scored runs; in a fold, over that fold's tracks.
        count: Tracks.
    """
    found: dict[str, dict[str, list[ScoredTrack]]] = {}
    for name, results in finished.items():
        for result in results:
            for track in result.tracks:
                found.setdefault(track.rows.track, {}).setdefault(name, []).append(track)
    longest = sorted(found, key=lambda track: -len(next(iter(found[track].values()))[0].mask))
    chosen = set(longest[:count])
    return [_trace(t.track, found[t.track]) for t in rows.tracks if t.track in chosen]


def _trace(name: str, found: Mapping[str, Sequence[ScoredTrack]]) -> dict[str, Any]:
    track = next(iter(found.values()))[0].rows
    predictions = {
        each: np.stack([track.predictions for track in tracks]) for each, tracks in found.items()
    }
    return trace(name, track.times, track.labels, track.labelled, predictions)


def trace(
    name: str,
    times: NDArray[np.float64],
    labels: NDArray[Any],
    labelled: NDArray[np.bool_],
    predictions: Mapping[str, NDArray[Any]],
) -> dict[str, Any]:
    """Give one track over time, as pages draw it.

    Args:
        name: Of the track.
        times: (N,) seconds; NaN where no stream carries a clock.
        labels: (N, 2), valence first.
        labelled: (N,): the row has a label.
        predictions: Name to (S, N, 2), one for each seed.
    """
    seconds = clocked(times)
    known = np.where(labelled[:, None], labels, np.nan)
    return {
        "track": name,
        "times": _series(times if seconds else np.arange(len(times))),
        "clock": seconds,
        "labels": {"valence": _series(known[:, 0]), "arousal": _series(known[:, 1])},
        "predictions": {each: _over_seeds(stack) for each, stack in predictions.items()},
    }


def clocked(times: NDArray[np.float64]) -> bool:
    """Whether a clock gave every row (N,) a time; else rows are told by their numbers."""
    return not np.isnan(times).any()


def _over_seeds(stack: NDArray[Any]) -> dict[str, Any]:
    mean = stack.mean(0)
    found: dict[str, Any] = {"valence": _series(mean[:, 0]), "arousal": _series(mean[:, 1])}
    if len(stack) > 1:
        std = stack.std(0, ddof=1)
        found |= {"valence_std": _series(std[:, 0]), "arousal_std": _series(std[:, 1])}
    return found


def _series(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else round(float(value), 4) for value in values]
