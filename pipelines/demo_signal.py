"""Latents of the demo data set: what the face shows, what the voice sounds, and the labels."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from numpy.typing import NDArray

FloatArray: TypeAlias = "NDArray[np.float64]"
"""Arrays of this module are float64; shapes stand in the docstrings."""

GRID_RATE = 50  # latent samples per second
LEAD = 0.5  # s: the voice runs ahead, so that the 1 s of sound ending at a row is centred on it
MARGIN = 2.0  # s of latent before the first row and after the last
SMOOTHING = 0.6  # s: sd of the Gaussian kernel; the autocorrelation falls to 1/e after twice that
SHRINKAGE = 0.1  # keeps the decorrelation of very short tracks well conditioned
LABEL_SD = 0.4
OFFSET_SD = 0.03  # label offset between tracks
UNLABELLED = -5.0


@dataclass(frozen=True, slots=True)
class Signal:
    """The hidden course of one track, on its rows and (for the voice) on a regular grid."""

    shown: FloatArray
    """(rows, 2): valence and arousal as the face shows them, mean 0, sd 1."""
    sounded: FloatArray
    """(rows, 2): the same as the voice sounds them."""
    voice: FloatArray
    """(samples, 2): `sounded` at `GRID_RATE`, `LEAD` seconds early, from time 0 on."""
    labels: FloatArray
    """(rows, 2): valence and arousal in [-1, 1], every row labelled."""


def random_stream(seed: int, *names: str) -> np.random.Generator:
    """Give the random numbers that belong to these names, whatever else was drawn before."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def smooth_noise(rng: np.random.Generator, times: FloatArray, width: float) -> FloatArray:
    """Draw a stationary Gaussian course (times,) of sd 1, smooth over `width` seconds.

    The times must increase; the course between the points of the inner grid is interpolated.
    """
    step = width / 5
    kernel = np.exp(-0.5 * (np.arange(-20, 21) / 5) ** 2)
    count = int((times[-1] - times[0]) / step) + 2
    white = rng.standard_normal(count + kernel.size - 1)
    kernel /= np.sqrt(np.sum(kernel**2))
    course: FloatArray = np.convolve(white, kernel, mode="valid").astype(np.float64)
    points: FloatArray = times[0] + step * np.arange(count)
    return np.interp(times, points, course)


def track_signal(seed: int, source: str, track: str, rows: int, rate: Fraction) -> Signal:
    """Draw the course of one track; tracks of one source hear the same voice.

    Half of each label's variance is shown by the face and the other half sounded by the voice:
    either explains a correlation of about 0.71. On the rows of the track the four latents have
    mean 0 and sd 1 and are nearly uncorrelated, so that pooled scores are stable.
    """
    seconds = rows / float(rate)
    grid = np.arange(int((seconds + 2 * MARGIN) * GRID_RATE) + 1) / GRID_RATE - MARGIN
    heard = random_stream(seed, source, "voice latents")
    seen = random_stream(seed, track, "face latents")
    drawn = [smooth_noise(rng, grid, SMOOTHING) for rng in (heard, heard, seen, seen)]
    times = np.arange(rows) / float(rate)
    course = _whitened(np.stack(drawn, axis=1), _at(times, grid, np.stack(drawn, axis=1)))
    on_rows = _at(times, grid, course)
    mixed = (on_rows[:, :2] + on_rows[:, 2:]) / np.sqrt(2)
    offset = OFFSET_SD * random_stream(seed, track, "offset").uniform(-1.7, 1.7, size=2)
    early = np.arange(int(seconds * GRID_RATE) + 2) / GRID_RATE + LEAD
    return Signal(
        shown=on_rows[:, 2:],
        sounded=on_rows[:, :2],
        voice=_at(early, grid, course[:, :2]),
        labels=np.clip(LABEL_SD * mixed + offset, -1, 1),
    )


def label_text(labels: FloatArray, unlabelled: Sequence[range], decimals: int) -> str:
    """Write labels (rows, 2) as Aff-Wild2's text file; `unlabelled` rows (0-based) become -5."""
    lines = [",".join(_number(value, decimals) for value in row) for row in labels]
    for row in (row for run in unlabelled for row in run):
        lines[row] = f"{UNLABELLED:g},{UNLABELLED:g}"
    return "\n".join(["valence,arousal", *lines]) + "\n"


def _number(value: float, decimals: int) -> str:
    """Print the shortest form of a rounded number, as the corpus does: 0.25, 1, -0.4."""
    rounded = round(float(value), decimals)
    return str(int(rounded)) if rounded.is_integer() else str(rounded)


def _at(times: FloatArray, grid: FloatArray, course: FloatArray) -> FloatArray:
    """Interpolate a course (grid, dims) at other times: (times, dims)."""
    return np.stack([np.interp(times, grid, column) for column in course.T], axis=1)


def _whitened(course: FloatArray, rows: FloatArray) -> FloatArray:
    """Apply to a course (grid, dims) the triangular map that whitens its values on the rows.

    Column k changes by columns before it only: the voice stays the same for every track that
    hears it.
    """
    covariance = np.cov(rows.T, bias=True)
    spread = np.diag(np.diag(covariance))
    factor = np.linalg.cholesky((1 - SHRINKAGE) * covariance + SHRINKAGE * spread)
    centred = np.linalg.solve(factor, (course - rows.mean(axis=0)).T).T
    white = np.linalg.solve(factor, (rows - rows.mean(axis=0)).T).T
    return centred / white.std(axis=0)
