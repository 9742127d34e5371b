"""Moments: count, mean, squared deviations and range of many values, added up part by part."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of the finite values of each dimension, (dim,) each, in float64.

    Squared deviations are taken from the mean of their own part, and parts are joined by the
    difference of their means (Chan, Golub and LeVeque), so nothing is lost where the mean is
    large beside the spread. Equal values have a spread of exactly 0.
    """

    count: NDArray[np.int64]
    """Finite values."""
    mean: NDArray[np.float64]
    """0 where there is no finite value."""
    squares: NDArray[np.float64]
    """Sum of the squared deviations from the mean."""
    minimum: NDArray[np.float64]
    """Infinity where there is no finite value."""
    maximum: NDArray[np.float64]
    """Minus infinity where there is no finite value."""
    nan: NDArray[np.int64]
    """Values that are no number."""
    infinite: NDArray[np.int64]
    """Values that are infinite, of either sign."""

    @classmethod
    def none(cls, dim: int) -> Moments:
        """Give the moments of no rows."""
        return cls.of(np.empty((0, dim)))

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Moments:
        """Give the moments of (rows, dim) values, which are overwritten."""
        finite = np.isfinite(values)
        whole = bool(finite.all())
        count = np.full(values.shape[1], len(values)) if whole else finite.sum(0)
        nan = np.zeros_like(count) if whole else np.isnan(values).sum(0)
        where = True if whole else finite
        minimum = values.min(0, initial=np.inf, where=where)
        maximum = values.max(0, initial=-np.inf, where=where)
        mean, squares = _centre(values, np.maximum(count, 1), None if whole else ~finite)
        same = minimum == maximum
        return cls(
            count=count,
            mean=np.where(same, minimum, mean),
            squares=np.where(same, 0.0, squares),
            minimum=minimum,
            maximum=maximum,
            nan=nan,
            infinite=len(values) - count - nan,
        )

    def joined(self, other: Moments) -> Moments:
        """Give the moments of these values and those of another part."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = other.mean - self.mean
            between = apart * (share * self.count) * apart
            mean = self.mean + apart * share
            squares = self.squares + other.squares + between
        return Moments(
            count=count,
            mean=mean,
            squares=squares,
            minimum=np.minimum(self.minimum, other.minimum),
            maximum=np.maximum(self.maximum, other.maximum),
            nan=self.nan + other.nan,
            infinite=self.infinite + other.infinite,
        )

    def overall(self) -> Moments:
        """Give the moments of all dimensions' values together: arrays of one."""
        each = [self._only(slice(d, d + 1)) for d in range(len(self.count))]
        return functools.reduce(Moments.joined, each)

    def _only(self, part: slice) -> Moments:
        return Moments(*(getattr(self, field.name)[part] for field in fields(self)))

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation; 0 where there is no finite value."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))


def _centre(
    values: NDArray[np.float64], count: NDArray[np.int64], left_out: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Subtract the mean of each dimension from (rows, dim) values, in place.

    Args:
        values: Those `left_out` count for nothing.
        count: (dim,) values that are not left out, at least 1.
        left_out: (rows, dim), or None for none.

    Returns:
        The mean, and the sum of squared deviations from it.
    """
    if left_out is not None:
        values[left_out] = 0
    with np.errstate(over="ignore", invalid="ignore"):
        mean = values.sum(0) / count
        values -= mean
        if left_out is not None:
            values[left_out] = 0
        drift = values.sum(0) / count  # What rounding left of the mean.
        squares = np.einsum("ij,ij->j", values, values) - count * np.square(drift)
    return mean + drift, np.maximum(squares, 0)
