"""The two inputs of the report, as types; `report_reading.py` holds files against them."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

Number = float | None
"""A number, or None where it is undefined or unlabelled."""


class Split(TypedDict):
    """Size of one split."""

    tracks: int
    sources: int
    families: int
    rows: int
    labelled: int
    labels: dict[str, list[float]] | None
    """`valence` and `arousal` to mean and standard deviation; None without a label."""


class Stream(TypedDict):
    """One stream of the store, over all tracks."""

    digest: str
    dim: int
    dtype: str
    items: int
    rows: int
    invalid: int
    repeated: int
    recipe: dict[str, Any]


class Gaps(TypedDict):
    """Rows of one track that a stream could not fill, or filled with their neighbour."""

    invalid: int
    repeated: int


class Track(TypedDict):
    """Coverage of one track; a stream that it lacks is None."""

    track: str
    source: str
    split: str
    rows: int
    labelled: int
    streams: dict[str, Gaps | None]


class Quarantined(TypedDict):
    """One item that could not be computed."""

    source: str
    tracks: list[str]
    stream: str
    error: str
    message: str
    place: str


class Budget(TypedDict):
    """How many sources there are, how many failed, and how many may."""

    sources: int
    quarantined: int
    allowed: int


class Coverage(TypedDict):
    """The file `coverage.json`: what stage one left in the store."""

    version: int
    dataset: str
    edition: str
    splits: dict[str, Split]
    streams: dict[str, Stream]
    tracks: list[Track]
    quarantine: list[Quarantined]
    budget: Budget


class Protocol(TypedDict):
    """The conventions under which everything was scored."""

    name: str
    description: str
    split: str
    rows: int
    filled: int
    smoothing: str


class Score(TypedDict):
    """One score over the seeds."""

    mean: Number
    std: NotRequired[Number]
    values: list[Number]


class Scores(TypedDict):
    """The scores of one experiment; `score` is the mean of the two dimensions."""

    valence: Score
    arousal: Score
    score: Score


class Intervals(TypedDict):
    """Ends of the 95 % intervals of one experiment's means; None where there is none."""

    valence: list[float] | None
    arousal: list[float] | None
    score: list[float] | None


class History(TypedDict):
    """Validation scores and training loss of one run, epoch by epoch."""

    epoch: list[int]
    train_loss: list[Number]
    valence: list[Number]
    arousal: list[Number]
    score: list[Number]


class Run(TypedDict):
    """One seed of one experiment."""

    seed: int
    digest: str
    epochs: int
    best_epoch: int
    valence: Number
    arousal: Number
    score: Number
    curve: History


class Experiment(TypedDict):
    """One head in one configuration, over its seeds."""

    name: str
    head: str
    variant: str
    streams: list[str]
    strides: list[int]
    """Of each stream: rows from one that was computed to the next."""
    width: int
    encoder: str
    fold: str
    window: dict[str, Any]
    settings: dict[str, Any]
    seeds: list[int]
    rows: int
    filled: int
    """Scored rows that took another row's prediction, or 0."""
    without_value: list[str]
    """Tracks in which no row was predicted."""
    in_quarantine: list[str]
    """Tracks that lack a stream."""
    parameters: int
    scores: Scores
    intervals: Intervals
    runs: list[Run]


class Labels(TypedDict):
    """Annotation of one track."""

    valence: list[Number]
    arousal: list[Number]


class Prediction(Labels):
    """Means over the seeds, with their deviation where there are several."""

    valence_std: NotRequired[list[Number] | None]
    arousal_std: NotRequired[list[Number] | None]


class Trace(TypedDict):
    """One track over time."""

    track: str
    times: list[float]
    clock: bool
    """Whether times are seconds; else they are row numbers."""
    labels: Labels
    predictions: dict[str, Prediction]


class Map(TypedDict):
    """An attention or correlation map in steps of grey."""

    shape: list[int]
    size: list[int]
    """Rows and columns of `cells`; larger maps are averaged over blocks."""
    low: float
    high: float
    cells: str
    """A byte for each cell, row by row, in Base64: 0 is `low`, 255 is `high`."""


class MapWindow(TypedDict):
    """Maps of one window."""

    track: str
    rows: list[int]
    """First and last, within the track."""
    times: list[float] | None
    """Seconds of these."""
    maps: dict[str, Map]


class Maps(TypedDict):
    """Maps of one experiment's run."""

    experiment: str
    seed: int
    windows: list[MapWindow]


class Results(TypedDict):
    """The file `results.json`: what stage two measured."""

    version: int
    dataset: str
    edition: str
    protocol: Protocol
    experiments: list[Experiment]
    traces: list[Trace]
    maps: NotRequired[list[Maps]]
    published: NotRequired[bool]
    """Whether figures of papers stand beside."""
