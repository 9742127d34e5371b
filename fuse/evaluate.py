"""Evaluation: predictions of windows become one value per row and a pooled score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .concordance import ccc

if TYPE_CHECKING:
    from .rows import Rows

OFFICIAL = (
    "every labelled row counts; a row is predicted from the streams that have a value there, a row "
    "without any takes the nearest predicted row of its track, a track without any gets 0; one "
    "CCC with population moments over all rows of the split together"
)


@dataclass(frozen=True, slots=True)
class Score:
    """Pooled concordance of valence and arousal."""

    valence: float
    arousal: float
    rows: int
    """Labelled rows that were scored."""

    @property
    def mean(self) -> float:
        """The score: mean of the two coefficients; NaN where one is undefined."""
        return (self.valence + self.arousal) / 2


@torch.no_grad()
def predict(head: nn.Module, rows: Rows, numbers: Tensor, batch: int = 256) -> Tensor:
    """Predict every row: overlapping windows are averaged.

    Args:
        head: A head; put into evaluation mode.
        rows: N rows.
        numbers: (windows, T) row numbers that cover every row.
        batch: Windows at a time.

    Returns:
        (N, 2) float32.
    """
    head.eval()
    device = rows.labels.device
    total = torch.zeros(len(rows), 2, dtype=torch.float64, device=device)
    count = torch.zeros(len(rows), 1, dtype=torch.float64, device=device)
    for part in numbers.split(batch):
        features, valid, inside = rows.gather(part)
        out = head(features, valid, inside).double()
        at = part[inside]
        total.index_add_(0, at, out[inside])
        count.index_add_(0, at, torch.ones(len(at), 1, dtype=torch.float64, device=device))
    return (total / count).float()


def fill(predictions: Tensor, rows: Rows) -> tuple[Tensor, int]:
    """Give rows without any value the nearest predicted row of their track, or 0.

    Returns:
        Predictions (N, 2) and how many rows were filled.
    """
    present = torch.stack(list(rows.valid.values())).any(0).cpu().numpy()
    filled = predictions.clone()
    for track, first in zip(rows.tracks, rows.first, strict=True):
        here = np.arange(first, first + track.rows)
        missing, known = here[~present[here]], here[present[here]]
        if not len(known):
            filled[missing] = 0
            continue
        right = np.searchsorted(known, missing).clip(0, len(known) - 1)
        left = (right - 1).clip(0)
        nearer_left = np.abs(missing - known[left]) <= np.abs(known[right] - missing)
        filled[missing] = predictions[np.where(nearer_left, known[left], known[right])]
    return filled, int((~present).sum())


def score(predictions: Tensor, rows: Rows) -> Score:
    """Score filled predictions (N, 2) over all labelled rows together."""
    pooled = [ccc(predictions[:, i], rows.labels[:, i], rows.labelled).item() for i in range(2)]
    return Score(pooled[0], pooled[1], int(rows.labelled.sum()))
