"""Label files: one row of valence and arousal per frame, -5 where there is no label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cache import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER = "valence,arousal"
UNLABELLED = -5.0


def read_labels(path: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read a label file.

    Returns:
        Values (rows, 2), valence first, zeros where there is no label; and valid (rows,), False
        where either column is -5.

    Raises:
        DataError: Another header, no row, a row that is not two numbers, or a value outside
            [-1, 1].
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    header = lines[0].strip() if lines else ""
    if header != HEADER:
        raise DataError(f"{path}: expected the header {HEADER!r}, found {header[:60]!r}")
    while not lines[-1].strip():
        lines.pop()
    if len(lines) == 1:
        raise DataError(f"{path}: has no row after its header")
    values = _values(path, lines[1:])
    valid = np.all(values != UNLABELLED, axis=1)
    values[~valid] = 0.0
    outside = np.flatnonzero(np.any(np.abs(values) > 1, axis=1))
    if len(outside):
        raise DataError(
            f"{path}, line {outside[0] + 2}: expected values in [-1, 1] or -5, "
            f"found {lines[outside[0] + 1]!r}"
        )
    return values, valid


def _values(path: Path, lines: list[str]) -> NDArray[np.float64]:
    """Read numbers (rows, 2); what the fast reader does not take is read line by line."""
    try:
        values = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)
    except ValueError:
        values = np.empty(0)
    # It skips blank lines, and takes what is not finite.
    if values.shape == (len(lines), 2) and np.isfinite(values).all():
        return values
    return np.array([_row(path, number, line) for number, line in enumerate(lines, 2)])


def _row(path: Path, number: int, line: str) -> list[float]:
    try:
        valence, arousal = (float(field) for field in line.split(","))
    except ValueError:
        raise DataError(f"{path}, line {number}: expected two numbers, found {line!r}") from None
    if not (np.isfinite(valence) and np.isfinite(arousal)):
        raise DataError(f"{path}, line {number}: expected finite numbers, found {line!r}")
    return [valence, arousal]
