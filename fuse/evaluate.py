"""Predictions: windows become one value per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .protocols import TrackRows
from .windows import OUTSIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .ensemble import Ensemble
    from .rows import Rows
    from .scaling import Scaling
    from .settings import WindowSettings

ROWS_AT_ONCE = 16_384
"""Rows that go through the heads at once, all members together."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What a run learns from and what it is scored on."""

    rows: Rows
    streams: tuple[str, ...]
    training: tuple[int, ...]
    """Places of the training tracks."""
    validation: tuple[int, ...]
    scaling: Scaling


@torch.no_grad()
def predict(
    ensemble: Ensemble, problem: Problem, tracks: Sequence[int], window: WindowSettings
) -> Tensor:
    """Predict every row of some tracks by every member: overlapping windows are averaged.

    Args:
        ensemble: Heads; put into evaluation mode.
        problem: Rows, streams and scaling.
        tracks: Places of the tracks.
        window: Resolved; cut with `hop_scoring`.

    Returns:
        (M, n, 2) float32 on the processor, the rows of the tracks in their order; NaN where no
        stream has a value.
    """
    rows, device = problem.rows, problem.rows.device
    ensemble.train(False)
    windows = rows.windows(tracks, window, scoring=True)
    sizes = np.array([rows.tracks[at].rows for at in tracks])
    shifts = np.array([rows.firsts[at] for at in tracks]) - (np.cumsum(sizes) - sizes)
    total = torch.zeros(int(sizes.sum()), len(ensemble), 2, dtype=torch.float64, device=device)
    count = torch.zeros(len(total), 1, 1, dtype=torch.float64, device=device)
    each = max(1, ROWS_AT_ONCE // len(ensemble) // window.length) if window.length else 1
    for first in range(0, len(windows), each):
        chosen = np.arange(first, min(first + each, len(windows)))
        numbers = windows.rows(chosen)
        batch = rows.batch(problem.streams, numbers)
        features = problem.scaling(batch.features)
        out = ensemble(features, batch.valid, batch.rows, shared=True).double()
        local = numbers - shifts[windows.tracks[chosen]][:, None]
        at = torch.from_numpy(local[numbers != OUTSIDE]).to(device)
        total.index_add_(0, at, out[:, batch.rows].transpose(0, 1))
        count.index_add_(0, at, torch.ones(len(at), 1, 1, dtype=torch.float64, device=device))
    means = (total / count).transpose(0, 1).float()
    there = torch.from_numpy(present(problem, tracks)).to(device)
    return torch.where(there[:, None], means, torch.nan).cpu()


def present(problem: Problem, tracks: Sequence[int]) -> NDArray[np.bool_]:
    """Say in which rows (n,) of some tracks at least one stream has a value."""
    index = torch.from_numpy(problem.rows.numbers(tracks)).to(problem.rows.device)
    return (
        torch.stack([problem.rows.valid[stream][index] for stream in problem.streams])
        .any(0)
        .cpu()
        .numpy()
    )


def track_rows(problem: Problem, predictions: Tensor) -> list[TrackRows]:
    """Cut one member's predictions (n, 2) of the validation tracks into tracks, with labels."""
    rows, found, first = problem.rows, [], 0
    for at in problem.validation:
        track = rows.tracks[at]
        here = slice(rows.firsts[at], rows.firsts[at] + track.rows)
        found.append(
            TrackRows(
                track=track.track,
                family=track.family,
                predictions=predictions[first : first + track.rows].numpy(),
                labels=rows.labels[here].cpu().numpy(),
                labelled=rows.labelled[here].cpu().numpy(),
                face=rows.face[here],
                times=rows.times[here],
                absent=tuple(s for s in problem.streams if at in rows.absent.get(s, ())),
            )
        )
        first += track.rows
    return found
