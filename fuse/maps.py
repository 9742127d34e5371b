"""Attention and correlation maps of finished runs, for some windows and small enough for a page."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from .ensemble import load_member
from .heads import build_head
from .parts import FusionHead
from .results import clocked
from .scaling import Scaling
from .windows import OUTSIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .evaluate import Problem
    from .finished import Finished
    from .settings import ExperimentSettings

LARGEST = 64
"""Cells of a map's side; a larger one is averaged over blocks."""
LEVELS = 255
"""Steps from a map's lowest value to its highest."""


def maps_of(
    problem: Problem, experiment: ExperimentSettings, run: Finished, count: int
) -> list[dict[str, Any]]:
    """Give the maps of a run's best weights for windows spread over the longest validation track.

    Args:
        problem: Rows, streams and validation tracks.
        experiment: The run's settings.
        run: The run.
        count: Windows; several may be the same one where a track is short.

    Returns:
        For each window `track`, `rows` and `times` (first and last; None without a clock), and
        `maps` by their names in `concord.fuse.equations`; empty for a head that has none.
    """
    rows, window = problem.rows, experiment.window.resolved()
    state, scaling = run.weights()
    head = build_head(rows.dims(experiment.streams), window.length, experiment)
    if not isinstance(head, FusionHead) or not count:
        return []
    load_member(head, state, str(run.path)).to(rows.device).eval()
    scaling = Scaling.from_tensors(scaling.tensors(), str(rows.device))
    at = max(problem.validation, key=lambda track: rows.tracks[track].rows)
    numbers = _spread(problem, experiment, at, count)
    batch = rows.batch(problem.streams, numbers)
    found = head.maps(scaling(batch.features), batch.valid, batch.rows)
    if not found:
        return []
    return [
        {**_place(problem, at, one), "maps": {m: small(x[k]) for m, x in found.items()}}
        for k, one in enumerate(numbers)
    ]


def _spread(
    problem: Problem, experiment: ExperimentSettings, at: int, count: int
) -> NDArray[np.int64]:
    """Give row numbers (count, T) of a track's windows around evenly spaced rows."""
    rows = problem.rows
    windows = rows.windows([at], experiment.window.resolved(), scoring=True)
    middles = (
        windows.starts
        + np.minimum(windows.ends - windows.starts, (windows.length or 10**9) * windows.dilation)
        / 2
    )
    wanted = rows.firsts[at] + (np.arange(count) + 0.5) / count * rows.tracks[at].rows
    return windows.rows(np.abs(middles[None] - wanted[:, None]).argmin(1))


def _place(problem: Problem, at: int, numbers: NDArray[np.int64]) -> dict[str, Any]:
    """Say where in its track a window lies."""
    inside = numbers[numbers != OUTSIDE]
    ends = [int(inside[0]), int(inside[-1])]
    track, times = problem.rows.tracks[at], problem.rows.times[ends]
    return {
        "track": track.track,
        "rows": [end - problem.rows.firsts[at] for end in ends],
        "times": [round(float(time), 4) for time in times] if clocked(times) else None,
    }


def small(x: Tensor) -> dict[str, Any]:
    """Write a map (rows, columns), or one for each of T rows (T, …), in `LEVELS` steps of grey.

    Returns:
        `shape` of the map, `size` of what is written, `low` and `high` of its values, and `cells`:
        a byte for each, row by row, in Base64.
    """
    plane = x.flatten(1).float().cpu()
    rows, columns = plane.shape
    size = min(rows, LARGEST), min(columns, LARGEST)
    cells = adaptive_avg_pool2d(plane[None], size)[0]
    low, high = float(cells.min()), float(cells.max())
    steps = ((cells - low) / ((high - low) or 1.0) * LEVELS).round().to(torch.uint8)
    return {
        "shape": [rows, columns],
        "size": list(size),
        "low": round(low, 6),
        "high": round(high, 6),
        "cells": base64.b64encode(steps.numpy().tobytes()).decode(),
    }
