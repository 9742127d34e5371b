"""Why training cannot go on: where a loss or a gradient stopped being a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from .windows import OUTSIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .evaluate import Problem
    from .rows import Rows
    from .run import Run


def trouble(problem: Problem, run: Run, what: str, numbers: NDArray[np.int64]) -> str:
    """Say what went wrong, where, and what to do.

    Args:
        problem: The rows.
        run: The run.
        what: What is no finite number, and when.
        numbers: (…, T) rows that went in.
    """
    for stream in problem.streams:
        found = not_finite(problem.rows, stream, numbers)
        if found:
            return f"{run.name}: {what}: stream {stream!r} holds {found}"
    return (
        f"{run.name}: {what}, on features that are finite: training diverged; "
        "lower training.lr or training.clip, or add training.warmup"
    )


def not_finite(rows: Rows, stream: str, numbers: NDArray[np.int64]) -> str:
    """Name the first row that is not finite, of those (…, T) that have a value; empty if none."""
    x = rows.sources[stream].take(numbers)
    ok = rows.valid[stream].cpu().numpy()[np.maximum(numbers, 0)] & (numbers != OUTSIDE)
    bad = np.argwhere((~torch.isfinite(x)).any(-1).cpu().numpy() & ok)
    if not len(bad):
        return ""
    row = int(numbers[tuple(bad[0])])
    track = int(np.searchsorted(rows.firsts, row, "right")) - 1
    where = f"row {row - rows.firsts[track]} of track {rows.tracks[track].track!r}"
    return (
        f"a number that is not finite in {where}; look at it with `concord cache stats`, and "
        "extract it again as float32 if float16 overflowed"
    )
