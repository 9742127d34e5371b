"""What published evaluations do to predictions before, and in, their concordance.

The programs published for Affwild2 form two families. Joint cross-attention and the joint
multimodal transformer clip one prediction per frame, smooth it, and count skipped frames as pairs
of zeros (`livia_scores`). Leader-follower attention and RJCMA average overlapping windows and score
the labelled frames as they are (`sucv_scores`). Scores compare within one convention only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..cache import ConfigError
from .concordance import ccc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .concordance import Estimator

    Doubles = NDArray[np.float64]
    Track = tuple[NDArray[Any], NDArray[Any]]
    """Predictions and labels of one video, of one shape, rows first."""

Ends = Literal["zero", "edge"]
LiviaVariant = Literal["tbiom", "jmt"]

UNLABELLED = -5
LIVIA_FRAMES = (20, 50)
"""Frames of the moving averages of valence and arousal."""
PADDINGS: dict[str, Literal["constant", "edge"]] = {"zero": "constant", "edge": "edge"}
SKIPPED_BY = {"tbiom": 1, "jmt": 2}
"""How many of valence and arousal are looked at for the label that skips a frame."""


def clip(x: NDArray[Any]) -> Doubles:
    """Limit predictions of any shape to the range of the labels, -1 to 1."""
    return np.clip(np.asarray(x, np.float64), -1, 1)


def box_filter(x: NDArray[Any], size: int, ends: Ends = "zero") -> Doubles:
    """Moving average over rows i - size // 2 to i - size // 2 + size - 1, in O(N).

    It is divided by `size` everywhere: with zeros beyond the ends, the first and last rows lean
    towards 0, as published.

    Args:
        x: (N, …), finite numbers.
        size: Rows of the window; 1 changes nothing.
        ends: What lies beyond the ends: `zero`s or copies of the `edge` rows.

    Returns:
        The shape of x.

    Raises:
        ConfigError: No row in the window, or unknown ends.
    """
    if size < 1 or ends not in PADDINGS:
        raise ConfigError(
            f"moving average over {size} rows with {ends!r} ends: "
            f"use at least 1 row, and {' or '.join(PADDINGS)} ends"
        )
    before = size // 2
    # One row more in front, so that every window is a difference of two sums.
    widths = [(before + 1, size - 1 - before)] + [(0, 0)] * (x.ndim - 1)
    sums = np.pad(np.asarray(x, np.float64), widths, PADDINGS[ends]).cumsum(axis=0)
    return (sums[size:] - sums[:-size]) / size


def average_windows(predictions: NDArray[Any], starts: NDArray[np.int64], rows: int) -> Doubles:
    """Mean over the windows that cover a row.

    Args:
        predictions: (W, T, …), window by window; what lies outside the rows is padding.
        starts: (W,), row of each window's first prediction.
        rows: N, of the track.

    Returns:
        (N, …).

    Raises:
        ValueError: A row that no window covers.
    """
    numbers = starts[:, None] + np.arange(predictions.shape[1])
    inside = (numbers >= 0) & (numbers < rows)
    covering = np.bincount(numbers[inside], minlength=rows)
    if not covering.all():
        raise ValueError(
            f"row {covering.argmin()} of {rows} lies in none of {len(starts)} windows; "
            "start them so that every row is covered"
        )
    total = np.zeros((rows, *predictions.shape[2:]))
    np.add.at(total, numbers[inside], predictions[inside])
    return total / covering.reshape(-1, *[1] * (total.ndim - 1))


def livia_track(
    predictions: NDArray[Any], labels: NDArray[Any], variant: LiviaVariant = "tbiom"
) -> tuple[Doubles, Doubles]:
    """Rows of one video as they enter `livia_scores`.

    Skipped frames get prediction 0 and label 0; then predictions are clipped and averaged over 20
    frames (valence) and 50 frames (arousal) with zeros beyond the ends. `tbiom` skips a frame whose
    valence is -5, so an arousal of -5 alone stays a label of -5; `jmt` skips either.

    Args:
        predictions: (N, 2), valence first, one per frame.
        labels: (N, 2), -5 where a frame has none.
        variant: The programs of joint cross-attention (T-BIOM) or of the joint multimodal
            transformer (arXiv 2403.10488).

    Returns:
        Predictions and labels, (N, 2) each.

    Raises:
        ConfigError: Unknown variant.
    """
    if variant not in SKIPPED_BY:
        raise ConfigError(
            f"unknown variant {variant!r} of the evaluation; choose {' or '.join(SKIPPED_BY)}"
        )
    skipped = (labels[:, : SKIPPED_BY[variant]] == UNLABELLED).any(axis=1, keepdims=True)
    clipped = clip(np.where(skipped, 0, predictions))
    smoothed = [box_filter(clipped[:, i], size) for i, size in enumerate(LIVIA_FRAMES)]
    return np.stack(smoothed, axis=1), np.where(skipped, 0, labels).astype(np.float64)


def livia_scores(tracks: Sequence[Track], variant: LiviaVariant = "tbiom") -> tuple[float, float]:
    """Evaluation of joint cross-attention and of the joint multimodal transformer.

    One CCC with population moments over the rows of all videos, skipped ones included, as
    `livia_track` leaves them. Published twice, in programs that differ in the frames they skip.

    Args:
        tracks: Predictions (N, 2) and labels (N, 2) of every video.
        variant: As for `livia_track`.

    Returns:
        CCC of valence and of arousal. A constant prediction scores 0, where the programs give NaN.

    Raises:
        ConfigError: Unknown variant.
    """
    predictions, labels = _joined([livia_track(*track, variant) for track in tracks])
    valence, arousal = (_ccc(predictions[:, i], labels[:, i], "biased") for i in range(2))
    return valence, arousal


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one series of predictions agrees with its labels."""

    ccc: float
    """Population covariance over sample variances."""
    rmse: float
    pcc: float
    """Pearson's correlation; NaN where a series is constant."""


def sucv_scores(tracks: Sequence[Track]) -> tuple[Agreement, list[Agreement]]:
    """Evaluation of leader-follower attention (arXiv 2107.01175) and RJCMA (arXiv 2403.13659).

    Predictions are those of `average_windows`, neither clipped nor smoothed; valence and arousal
    are scored apart, over the labelled frames alone.

    Args:
        tracks: Predictions (N,) and labels (N,) of every video, unlabelled frames left out.

    Returns:
        Agreement over all videos joined, and of each.
    """
    return _agreement(*_joined(tracks)), [_agreement(*track) for track in tracks]


def _agreement(predictions: NDArray[Any], labels: NDArray[Any]) -> Agreement:
    p, y = np.asarray(predictions, np.float64), np.asarray(labels, np.float64)
    p_off, y_off = p - p.mean(), y - y.mean()
    with np.errstate(invalid="ignore"):
        pcc = p_off @ y_off / np.sqrt((p_off @ p_off) * (y_off @ y_off))
    return Agreement(_ccc(p, y, "mixed"), float(np.sqrt(np.square(p - y).mean())), float(pcc))


def _joined(tracks: Sequence[Track]) -> Track:
    """Predictions and labels of all videos, one after the other."""
    return np.concatenate([p for p, _ in tracks]), np.concatenate([y for _, y in tracks])


def _ccc(predictions: Doubles, labels: Doubles, estimator: Estimator) -> float:
    pair = torch.from_numpy(predictions), torch.from_numpy(labels)
    return ccc(*pair, estimator=estimator).item()
