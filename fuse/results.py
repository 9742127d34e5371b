"""Results of finished runs, as they are reported: scores per experiment, predictions over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import ConfigError
from .catalogue import variant_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..cache import Stream
    from .rows import Rows
    from .settings import ExperimentSettings, FuseSettings

SCORES = ("valence", "arousal", "score")


@dataclass(frozen=True, slots=True)
class Finished:
    """A run read back from its folder."""

    record: dict[str, Any]
    predictions: Tensor
    """(N, 2) of the validation rows."""


def experiment_names(experiments: Sequence[ExperimentSettings]) -> list[str]:
    """Name experiments for people: head and modalities, and what else tells them apart.

    Raises:
        ConfigError: Two experiments are the same.
    """
    for experiment in experiments:
        if experiments.count(experiment) > 1:
            raise ConfigError(f"fuse.experiments: listed twice, leave one out: {experiment}")
    groups: dict[str, list[ExperimentSettings]] = {}
    for experiment in experiments:
        groups.setdefault(_base_name(experiment), []).append(experiment)
    names: list[str] = []
    for experiment in experiments:
        base = _base_name(experiment)
        differing = [
            f"{field} {_plain(getattr(experiment, field))}"
            for field in asdict(experiment)
            if len({getattr(other, field) for other in groups[base]}) > 1
        ]
        names.append(", ".join([base, *differing]))
    return names


def _base_name(experiment: ExperimentSettings) -> str:
    modalities = "+".join(stream.partition("/")[0] for stream in experiment.streams)
    return f"{experiment.head} / {modalities}"


def _plain(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)  # pyright: ignore[reportUnknownArgumentType]


def summary(
    name: str,
    experiment: ExperimentSettings,
    settings: FuseSettings,
    streams: Sequence[Stream],
    runs: Sequence[Finished],
) -> dict[str, Any]:
    """Give one experiment's line of the table: mean and spread over its runs, one per seed."""
    records = [run.record for run in runs]
    told = {**asdict(experiment), **asdict(settings.window), **asdict(settings.training)}
    for shown in ("head", "streams", "width", "encoder", "encoders", "seeds"):
        told.pop(shown)
    return {
        "name": name,
        "head": experiment.head,
        "variant": variant_of(experiment.head),
        "streams": [f"{stream.name}@{stream.digest[:8]}" for stream in streams],
        "width": experiment.width,
        "encoder": experiment.encoders_told,
        "settings": told,
        "seeds": [record["seed"] for record in records],
        "rows": records[0]["rows"],
        "parameters": records[0]["parameters"],
        "scores": {score: spread([record[score] for record in records]) for score in SCORES},
        "runs": records,
    }


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Give mean and sample standard deviation; undefined values (None) are left out."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": list(values),
    }


def traces(rows: Rows, finished: dict[str, list[Finished]], count: int) -> list[dict[str, Any]]:
    """Annotation and seed-averaged predictions of the `count` longest tracks.

    Times are seconds on the container's clock, or row numbers where no stream carries a clock.
    """
    longest = sorted(range(len(rows.tracks)), key=lambda i: -rows.tracks[i].rows)[:count]
    return [_trace(rows, finished, i) for i in sorted(longest)]


def _trace(rows: Rows, finished: dict[str, list[Finished]], i: int) -> dict[str, Any]:
    track = rows.tracks[i]
    here = slice(rows.first[i], rows.first[i] + track.rows)
    times = rows.times[here]
    if np.isnan(times).any():
        times = np.arange(track.rows, dtype=np.float64)
    labelled = rows.labelled[here, None].cpu().numpy()
    labels = np.where(labelled, rows.labels[here].cpu().numpy(), np.nan)
    return {
        "track": track.track,
        "times": _series(times),
        "labels": {"valence": _series(labels[:, 0]), "arousal": _series(labels[:, 1])},
        "predictions": {name: _mean_trace(runs, here) for name, runs in finished.items()},
    }


def _mean_trace(runs: Sequence[Finished], here: slice) -> dict[str, Any]:
    stack = np.stack([run.predictions[here].numpy() for run in runs]).astype(np.float64)
    mean = stack.mean(0)
    trace: dict[str, Any] = {"valence": _series(mean[:, 0]), "arousal": _series(mean[:, 1])}
    if len(runs) > 1:
        std = stack.std(0, ddof=1)
        trace |= {"valence_std": _series(std[:, 0]), "arousal_std": _series(std[:, 1])}
    return trace


def _series(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else round(float(value), 4) for value in values]
