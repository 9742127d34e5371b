"""Labels and predictions of the stand-in, as numbers and as the text of their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .demo_signal import random_stream, smooth_noise, track_signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .demo_signal import FloatArray, Signal
    from .standin_plan import Film, Plan

MEAN = {"train": (0.074, 0.297), "val": (0.172, 0.344), "test": (0.074, 0.297)}
"""Split to the means of valence and arousal: of the corpus, as published counts have them."""
SPREAD = {"train": (0.402, 0.298), "val": (0.392, 0.269), "test": (0.402, 0.298)}
HELD = 0.45  # share of rows that keep the row before's labels; rounding repeats a few more
UNLABELLED = "-5,-5"
NOISE = 0.2  # sd of the predictions' errors
CONSTANT = {"38": (0.3, 0.3), "video59_right": (0.1, 0.2)}
"""Tracks that are predicted to be the same throughout."""
TOO_MUCH = {"video59": (7, 1.25)}
"""Track to a row and a valence beyond the range."""


@dataclass(frozen=True, slots=True)
class Made:
    """What was made up of one track, before anything was written."""

    plan: Plan
    signal: Signal
    course: FloatArray
    """(rows, 2): what is felt, held from row to row as people hold a lever."""
    lines: tuple[str, ...]
    """The labels as they are written, a row each."""
    older: tuple[str, ...]
    """The same of the older release."""

    @property
    def values(self) -> FloatArray:
        """(rows, 2) numbers as they are written, -5 included."""
        return np.array([[float(number) for number in line.split(",")] for line in self.lines])

    def text(self, *, older: bool = False) -> str:
        """Write the label file."""
        lines = ("valence,arousal", *(self.older if older else self.lines))
        return self.plan.mark + "".join(line + self.plan.end for line in lines)


def make_labels(seed: int, plan: Plan, film: Film) -> Made:
    """Make up a track's course and its labels."""
    signal = track_signal(seed, plan.source, plan.name, plan.rows, film.rate)
    mixed = (signal.shown + signal.sounded) / np.sqrt(2)
    felt = np.clip(np.array(MEAN[plan.split]) + SPREAD[plan.split] * mixed, -1, 1)
    held = random_stream(seed, plan.name, "held").random(plan.rows) < HELD
    held[0] = False
    course = felt[np.maximum.accumulate(np.where(held, 0, np.arange(plan.rows)))]
    lines = _lines(plan, course, (*plan.unlabelled, plan.withdrawn))
    return Made(plan, signal, course, lines, _lines(plan, course, plan.unlabelled))


def predict(seed: int, made: Made, rate: float) -> FloatArray:
    """Make up what some model would predict, (rows, 2), with 6 decimals."""
    plan = made.plan
    rng = random_stream(seed, plan.name, "predictions")
    times = np.arange(plan.rows) / rate
    slow = np.stack([smooth_noise(rng, times, 0.5) for _ in range(2)], axis=1)
    predicted = 0.8 * made.course + NOISE * slow + 0.05 * rng.standard_normal((plan.rows, 2))
    if plan.name in CONSTANT:
        predicted[:] = CONSTANT[plan.name]
    if plan.name in TOO_MUCH:
        row, valence = TOO_MUCH[plan.name]
        predicted[row, 0] = valence
    return np.round(predicted, 6)


def _lines(plan: Plan, course: FloatArray, unlabelled: Sequence[range]) -> tuple[str, ...]:
    lines = [",".join(_text(value, plan.decimals) for value in row) for row in course.tolist()]
    for row in (row for run in unlabelled for row in run):
        lines[row] = UNLABELLED
    for row, line in plan.lines:
        lines[row] = line
    return tuple(lines)


def _text(value: float, decimals: int) -> str:
    """Print a number, without zeros at its end: 0.25, 1, -0.4."""
    text = f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
