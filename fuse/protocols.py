"""How predictions of tracks become scored rows: filling, smoothing, and which rows count.

A protocol is named in every table, with its smoothing and its counts; scores compare within one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .concordance import Estimator

    Bools = NDArray[np.bool_]
    Doubles = NDArray[np.float64]

TARGETS = ("valence", "arousal")
PROTOCOLS = {
    "official": (
        "every labelled row counts; a row is predicted from the streams that have a value there, a "
        "row without any takes the nearest predicted row of its track, the earlier of two, a track "
        "without any gets 0; one CCC with population moments over all rows of the split together"
    ),
    "faces_only": (
        "predictions as in official, but only labelled rows with a face count; one CCC with "
        "population moments over all of them together"
    ),
    "livia": (
        "rows without a value are filled as in official; then a row without a label counts as "
        "prediction 0 and label 0, predictions are clipped and averaged over 20 rows (valence) and "
        "50 (arousal) with zeros beyond a track's ends, and every row counts; one CCC with "
        "population moments over all rows of the split together"
    ),
    "sucv": (
        "rows and predictions as in official; one CCC with a population covariance over sample "
        "variances over all rows of the split together"
    ),
}
"""Name to what it does, in one sentence."""
BOX = re.compile(r"box:([1-9][0-9]{0,5})(?:,([1-9][0-9]{0,5}))?")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrackRows:
    """A track's N rows, at least one, with what a run predicted in them."""

    track: str
    family: str
    predictions: NDArray[Any]
    """(N, 2), valence first; NaN in rows without any value in the run's streams."""
    labels: NDArray[Any]
    """(N, 2); anything where there is no label."""
    labelled: Bools
    """(N,)"""
    face: Bools
    """(N,): a visual stream has a value."""
    times: Doubles
    """(N,) seconds; NaN where no stream carries a clock."""
    absent: tuple[str, ...] = ()
    """Streams of the run that have no item of this track; the items are in quarantine."""

    def __post_init__(self) -> None:
        rows = len(self.predictions)
        expected = {"predictions": (rows, 2), "labels": (rows, 2)}
        expected |= dict.fromkeys(("labelled", "face", "times"), (rows,))
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape or not rows:
                raise ValueError(
                    f"track {self.track!r}: {name} has shape {found}; expected (N, 2) predictions "
                    "and labels and N of everything else, N at least 1"
                )
        bad = ~np.isfinite(self.predictions).all(axis=1) & self.valued
        if bad.any():
            raise ValueError(
                f"track {self.track!r}, row {bad.argmax()}: prediction "
                f"{self.predictions[bad.argmax()].tolist()} is neither two numbers nor two NaNs"
            )

    @property
    def valued(self) -> Bools:
        """(N,): the row was predicted."""
        return np.logical_not(np.isnan(self.predictions).all(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class ScoredTrack:
    """A track as a protocol sees it."""

    rows: TrackRows
    predictions: Doubles
    """(N, 2), filled and smoothed."""
    labels: Doubles
    """(N, 2); they mean something where `mask` is true."""
    mask: Bools
    """(N,): the row enters the score."""

    @property
    def filled(self) -> int:
        """Labelled rows that enter the score with another row's prediction, or with 0."""
        return int((self.mask & self.rows.labelled & ~self.rows.valued).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A run's tracks as a protocol sees them, and the score."""

    protocol: str
    smoothing: str
    tracks: tuple[ScoredTrack, ...]
    valence: float
    """CCC over the counted rows of all tracks together; NaN where it is undefined."""
    arousal: float

    @property
    def score(self) -> float:
        """Mean of the two coefficients; NaN where one is undefined."""
        return (self.valence + self.arousal) / 2

    @property
    def estimator(self) -> Estimator:
        """Of the coefficients."""
        return _estimator(self.protocol)

    @property
    def rows(self) -> int:
        """How many rows enter the score."""
        return sum(int(track.mask.sum()) for track in self.tracks)

    @property
    def filled(self) -> int:
        """How many of them were filled."""
        return sum(track.filled for track in self.tracks)

    @property
    def without_value(self) -> list[str]:
        """Tracks in which no row was predicted."""
        return [track.rows.track for track in self.tracks if not track.rows.valued.any()]

    @property
    def with_absent(self) -> list[str]:
        """Tracks of which a stream of the run has no item."""
        return [track.rows.track for track in self.tracks if track.rows.absent]


def check_protocol(protocol: str, smoothing: str = "none") -> None:
    """Check that there is such a protocol, and that it can be smoothed like this.

    Raises:
        ConfigError: Unknown protocol or smoothing, or a smoothing on top of the protocol's own.
    """
    if protocol not in PROTOCOLS:
        near = get_close_matches(protocol, PROTOCOLS, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown protocol {protocol!r}{meant}; known: {', '.join(PROTOCOLS)}")
    parse_smoothing(smoothing)
    if protocol == "livia" and smoothing != "none":
        raise ConfigError(
            f"protocol 'livia' smooths by itself; found smoothing {smoothing!r} on top; "
            "use smoothing 'none', or another protocol"
        )


def parse_smoothing(text: str) -> tuple[int, int]:
    """Give the rows that predictions of valence and of arousal are averaged over; `none` is 1.

    Raises:
        ConfigError: Neither `none` nor `box:N` nor `box:N,M` with 1 to 999999 rows.
    """
    if text == "none":
        return 1, 1
    match = BOX.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"unknown smoothing {text!r}; use 'none', 'box:N' (as 'box:25': a moving average over "
            "25 rows) or 'box:N,M' (as 'box:20,50': over 20 rows for valence, 50 for arousal), "
            "1 to 999999 rows each"
        )
    valence, arousal = match.groups()
    return int(valence), int(arousal or valence)


def scored(protocol: str, smoothing: str, tracks: Sequence[TrackRows]) -> Scored:
    """Fill, smooth and score.

    Args:
        protocol: One of `PROTOCOLS`.
        smoothing: As for `parse_smoothing`; a moving average of filled predictions, track by
            track, with copies of a track's first and last row beyond its ends.
        tracks: Of a run, each once.

    Raises:
        ConfigError: As for `check_protocol`.
    """
    check_protocol(protocol, smoothing)
    sizes = parse_smoothing(smoothing)
    seen = tuple(_seen(protocol, track, smoothed(fill(track), sizes)) for track in tracks)
    predictions = [track.predictions[track.mask] for track in seen] or [np.zeros((0, 2))]
    labels = [track.labels[track.mask] for track in seen] or [np.zeros((0, 2))]
    p, y = np.concatenate(predictions), np.concatenate(labels)
    valence, arousal = (_ccc(p[:, i], y[:, i], _estimator(protocol)) for i in range(2))
    return Scored(protocol, smoothing, seen, valence, arousal)


def fill(track: TrackRows) -> Doubles:
    """Give rows without a value the prediction of the nearest row with one, the earlier on ties.

    Returns:
        (N, 2); 0 where no row of the track has a value.
    """
    valued = track.valued
    known, missing = np.flatnonzero(valued), np.flatnonzero(~valued)
    if not len(known):
        return np.zeros((len(valued), 2))
    right = np.searchsorted(known, missing).clip(0, len(known) - 1)
    left = (right - 1).clip(0)
    earlier = np.abs(missing - known[left]) <= np.abs(known[right] - missing)
    filled = track.predictions.astype(np.float64)
    filled[missing] = filled[np.where(earlier, known[left], known[right])]
    return filled


def diagnostics(result: Scored) -> list[dict[str, Any]]:
    """Describe every track: its rows, its coefficients where they are defined, its mean errors.

    A track's coefficients are no share of the score, which pools the rows of all tracks; errors
    are prediction minus label. None stands where no row counts or both series are constant.
    """
    return [_diagnosis(track, result.estimator) for track in result.tracks]


def _diagnosis(track: ScoredTrack, estimator: Estimator) -> dict[str, Any]:
    p, y = track.predictions[track.mask], track.labels[track.mask]
    numbers: dict[str, float | None] = {}
    for i, target in enumerate(TARGETS):
        coefficient = _ccc(p[:, i], y[:, i], estimator)
        numbers[target] = None if np.isnan(coefficient) else coefficient
        numbers[f"{target}_error"] = float((p[:, i] - y[:, i]).mean()) if len(p) else None
    return {
        "track": track.rows.track,
        "family": track.rows.family,
        "rows": len(track.mask),
        "scored": len(p),
        "filled": track.filled,
        **numbers,
        "absent": list(track.rows.absent),
    }


def smoothed(predictions: Doubles, sizes: tuple[int, int]) -> Doubles:
    """Average a track's predictions (N, 2) over rows, with copies of its ends beyond them.

    Args:
        predictions: Without gaps.
        sizes: Rows, of valence and of arousal: what `parse_smoothing` gives.
    """
    if sizes == (1, 1):
        return predictions
    from .conventions import box_filter

    columns = [box_filter(predictions[:, i], size, "edge") for i, size in enumerate(sizes)]
    return np.stack(columns, axis=1)


def _seen(protocol: str, track: TrackRows, predictions: Doubles) -> ScoredTrack:
    """Choose the rows that count; livia changes predictions and labels as well."""
    if protocol == "livia":
        from .conventions import UNLABELLED, livia_track

        labels = np.where(track.labelled[:, None], track.labels, UNLABELLED)
        every = np.ones(len(labels), dtype=np.bool_)
        return ScoredTrack(track, *livia_track(predictions, labels), every)
    mask = track.labelled & track.face if protocol == "faces_only" else track.labelled
    return ScoredTrack(track, predictions, track.labels.astype(np.float64), mask)


def _estimator(protocol: str) -> Estimator:
    return "mixed" if protocol == "sucv" else "biased"


def _ccc(predictions: Doubles, labels: Doubles, estimator: Estimator) -> float:
    """CCC of two series (N,); NaN where both are constant in float32, or empty.

    Predictions are float32 numbers: rounding there, and that of a moving average, is no variation.
    """
    import torch

    from .concordance import ccc

    pair = torch.from_numpy(predictions), torch.from_numpy(labels)
    if ccc(*(x.float() for x in pair), estimator=estimator).isnan():
        return float("nan")
    return ccc(*pair, estimator=estimator).item()
