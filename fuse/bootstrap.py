"""Bootstrap intervals of scores and of differences between heads, over families of tracks.

Rows of a track depend on each other, tracks of a recording do too: what is drawn with replacement
is the family. CCC depends on sums over rows alone, so a resample is a row of a matrix of counts
times the sums of the families, and thousands of them take milliseconds.

Intervals are *expanded percentiles* (Hesterberg, The American Statistician, 2015): percentiles of
the resampled coefficient at levels widened by Student's quantile and by sqrt(f / (f - 1)), since
resampled spreads are too small by as much. f is the number of families that count, N^2 / sum n^2
for n rows per family: families of equal size count in full.

They were chosen by the coverage of 95 % intervals in 1000 simulated series of AR(1) families, with
offsets and lengths of their own (quartiles of lengths in the ratios of Aff-Wild2's), about a CCC of
0.65; in brackets that of the difference between two heads whose errors correlate:

    families              20           40           76
    expanded percentiles  .938 (.936)  .931 (.928)  .939 (.941)
    bootstrap-t           .940 (.912)  .944 (.911)  .946 (.930)   intervals 6 to 13 % longer
    BCa                   .894 (.872)  .887 (.885)  .921 (.921)
    percentiles           .906 (.905)  .913 (.909)  .933 (.932)
    rows, not families    .14 (.20)

With 6 families it is .93 (.96), with intervals too long to say much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from ..cache import ConfigError
from .protocols import TARGETS, Scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .concordance import Estimator
    from .protocols import ScoredTrack

    Doubles = NDArray[np.float64]

MEASURES = (*TARGETS, "score")

Runs = Scored | Sequence[Scored]
"""One run, or several of one head (its seeds), whose coefficients are averaged."""
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """All that CCC needs to know of F families, in S runs over the same rows."""

    families: tuple[str, ...]
    """Those with a counted row, in alphabetical order."""
    rows: Doubles
    """(F,) counted rows."""
    moments: Doubles
    """(F, S, 2, 5): sums of p, y, p p, y y and p y, valence first, after centring."""
    centres: Doubles
    """(S, 2, 2): means of p and of y over all rows, taken off before anything is squared."""
    estimator: Estimator

    @classmethod
    def of(cls, runs: Sequence[Scored]) -> Sums:
        """Add up the counted rows of runs.

        Raises:
            ConfigError: The runs differ in protocol, tracks, counted rows or labels.
        """
        for other in runs[1:]:
            _expect_same_rows(runs[0], other)
        tracks = _counted(runs[0])
        lengths = [track.mask.sum() for track in tracks]
        families, number = np.unique([t.rows.family for t in tracks], return_inverse=True)
        rows = np.bincount(number, lengths).astype(np.float64)
        starts = (np.cumsum(rows) - rows).astype(np.int64)
        moments = np.zeros((len(families), len(runs), 2, 5))
        centres = np.zeros((len(runs), 2, 2))
        for s, run in enumerate(runs if tracks else ()):
            p, y = _series(_counted(run))
            centres[s] = np.stack([p.mean(axis=0), y.mean(axis=0)], axis=1)
            p, y = p - centres[s, :, 0], y - centres[s, :, 1]
            terms = np.stack([p, y, p * p, y * y, p * y], axis=-1)
            moments[:, s] = np.add.reduceat(terms, starts)
        names = tuple(str(family) for family in families)
        return cls(names, rows, moments, centres, runs[0].estimator)

    def coefficients(self, counts: NDArray[np.int64]) -> Doubles:
        """CCC of resamples.

        Args:
            counts: (R, F), how often each resample holds each family.

        Returns:
            (R, S, 2), valence first; NaN where both series are constant.
        """
        from .concordance import CORRECTIONS, ROUNDINGS

        weights = counts.astype(np.float64)
        n = (weights @ self.rows)[:, None, None]
        means = np.tensordot(weights, self.moments, 1) / n[..., None]
        p, y, pp, yy, py = np.moveaxis(means, -1, 0)
        centre_p, centre_y = np.moveaxis(self.centres, -1, 0)
        of_p, of_y = np.maximum(pp - p * p, 0), np.maximum(yy - y * y, 0)
        # As in a protocol's score: no more than float32 can tell apart.
        unit, tiny = ROUNDINGS * np.finfo(np.float32).eps, np.finfo(np.float32).tiny
        constant = (of_p <= (unit * (abs(p) + abs(centre_p)) + tiny) ** 2) & (
            of_y <= (unit * (abs(y) + abs(centre_y)) + tiny) ** 2
        )
        off_covariance, off_variance = CORRECTIONS[self.estimator]
        covariance = (py - p * y) * n / np.maximum(n - off_covariance, 1)
        variances = (of_p + of_y) * n / np.maximum(n - off_variance, 1)
        spread = variances + np.square(p + centre_p - y - centre_y)
        return np.where(constant, np.nan, 2 * covariance / np.where(constant, 1, spread))


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one head is above another, on the same rows."""

    valence: float
    """CCC of the first less that of the second; NaN where one is undefined."""
    arousal: float
    score: float
    intervals: dict[str, Interval | None]
    """Of each measure; None where there is none."""
    not_positive: dict[str, float | None]
    """Share of the resamples in which the first head is not above the second."""
    families: int
    """How many were drawn from."""


def intervals(
    scored: Runs, resamples: int, seed: int = 0, level: float = 0.95
) -> dict[str, Interval | None]:
    """Give intervals of the coefficients and of the score.

    Resamples whose coefficient is undefined are left out.

    Args:
        scored: A run, or several whose mean is meant; the draw of families is common to them.
        resamples: How many; 2000 give the limits to about 0.005.
        seed: Of the draw, which depends on the number of families and on nothing else.
        level: Share of data sets whose interval should hold the true value.

    Returns:
        `valence`, `arousal` and `score`; None where fewer than two families have a counted row or
        the measure is undefined.

    Raises:
        ConfigError: No resample, a level outside 0 to 1, or runs over other rows.
    """
    runs = _listed(scored)
    sums = Sums.of(runs)
    values = _resampled(sums, np.full(len(runs), 1 / len(runs)), resamples, seed, level)
    return _limits(values, sums.rows, level)


def paired(
    scored_a: Runs, scored_b: Runs, resamples: int, seed: int = 0, level: float = 0.95
) -> Difference:
    """Compare two heads, family by family: both are resampled together.

    Args:
        scored_a: The first head's run, or several whose mean is meant.
        scored_b: The second's, by the same protocol over the same rows; smoothing may differ.
        resamples: As for `intervals`; so are seed and level.
        seed: Of the draw.
        level: Of the intervals.

    Raises:
        ConfigError: No resample, a level outside 0 to 1, or runs over other rows.
    """
    a, b = _listed(scored_a), _listed(scored_b)
    sums = Sums.of([*a, *b])
    signs = np.repeat([1 / len(a), -1 / len(b)], [len(a), len(b)])
    values = _resampled(sums, signs, resamples, seed, level)
    valence, arousal, score = (float(value) for value in _point(a) - _point(b))
    limits = _limits(values, sums.rows, level)
    shares = {
        measure: None if limits[measure] is None else float((_defined(column) <= 0).mean())
        for measure, column in zip(MEASURES, values.T, strict=True)
    }
    return Difference(valence, arousal, score, limits, shares, len(sums.families))


def _listed(scored: Runs) -> list[Scored]:
    runs = [scored] if isinstance(scored, Scored) else list(scored)
    if not runs:
        raise ConfigError("expected a run to resample, found none; name at least one")
    return runs


def _point(runs: Sequence[Scored]) -> Doubles:
    """(3,) means over runs."""
    return np.mean([[run.valence, run.arousal, run.score] for run in runs], axis=0)


def _resampled(sums: Sums, signs: Doubles, resamples: int, seed: int, level: float) -> Doubles:
    """(R, 3) sums over runs of sign times coefficient, and their mean: the score."""
    if resamples < 1 or not 0 < level < 1:
        raise ConfigError(
            f"{resamples} resamples for intervals of level {level}: use at least 1 resample, "
            "better 2000, and a level between 0 and 1, as 0.95"
        )
    families = len(sums.families)
    if families < 2:
        return np.empty((0, len(MEASURES)))
    draw = np.random.default_rng(seed)
    counts = draw.multinomial(families, np.full(families, 1 / families), size=resamples)
    targets = np.einsum("rst,s->rt", sums.coefficients(counts), signs)
    return np.column_stack([targets, targets.mean(axis=1)])


def _limits(values: Doubles, rows: Doubles, level: float) -> dict[str, Interval | None]:
    """Limits of each column of values (R, 3), where it has a number."""
    found: dict[str, Interval | None] = dict.fromkeys(MEASURES)
    for measure, column in zip(MEASURES, values.T, strict=True):
        known = _defined(column)
        if len(known):
            tail = _tail(rows, level)
            low, high = np.quantile(known, [tail, 1 - tail])
            found[measure] = float(low), float(high)
    return found


def _defined(column: Doubles) -> Doubles:
    return column[~np.isnan(column)]


def _tail(rows: Doubles, level: float) -> float:
    """Share of the resamples beyond each limit."""
    counting = float(rows.sum() ** 2 / np.square(rows).sum())
    wide = _student((1 + level) / 2, max(counting - 1, 1))
    return NormalDist().cdf(-wide * math.sqrt(counting / (counting - 1)))


def _student(share: float, freedom: float) -> float:
    """Student's quantile, by Fisher's and Cornish's expansion about the normal one (1960)."""
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _series(tracks: Sequence[ScoredTrack]) -> tuple[Doubles, Doubles]:
    """Counted predictions and labels of tracks end to end, (N, 2) each."""
    p, y = [t.predictions[t.mask] for t in tracks], [t.labels[t.mask] for t in tracks]
    return np.concatenate(p), np.concatenate(y)


def _counted(run: Scored) -> list[ScoredTrack]:
    """Tracks with a counted row, family by family."""
    tracks = [track for track in run.tracks if track.mask.any()]
    return sorted(tracks, key=lambda track: (track.rows.family, track.rows.track))


def _by_name(run: Scored) -> list[ScoredTrack]:
    return sorted(run.tracks, key=lambda track: track.rows.track)


def _expect_same_rows(first: Scored, other: Scored) -> None:
    """Refuse to compare scores of other rows."""
    if first.protocol != other.protocol:
        raise ConfigError(
            f"cannot compare protocol {first.protocol!r} with {other.protocol!r}; "
            "score both runs by the same one"
        )
    ours, theirs = _by_name(first), _by_name(other)
    names, others = ([track.rows.track for track in side] for side in (ours, theirs))
    if names != others:
        odd = sorted(set(names) ^ set(others)) or names
        raise ConfigError(
            f"cannot compare runs over {len(names)} and {len(others)} tracks, {odd[0]!r} is in one "
            "alone; score both runs on the same fold"
        )
    for a, b in zip(ours, theirs, strict=True):
        same = a.rows.family == b.rows.family and np.array_equal(a.mask, b.mask)
        if not same or not np.array_equal(a.labels[a.mask], b.labels[b.mask]):
            raise ConfigError(
                f"cannot compare runs: track {a.rows.track!r} has {a.mask.sum()} counted rows in "
                f"one and {b.mask.sum()} in the other, or its labels or family differ; "
                "score both runs on the same rows, manifest and visual streams"
            )
