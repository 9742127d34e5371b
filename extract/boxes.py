"""Box files: which part of each frame shows a track's person."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cache import MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER = ["row", "left", "top", "right", "bottom"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the upright frame; right and bottom lie outside."""


def read_boxes(path: Path, rows: int) -> dict[int, Box]:
    """Read a track's boxes: a CSV file with the header `row,left,top,right,bottom`.

    Args:
        path: The file; rows are counted from 0, and those without a face left out.
        rows: Rows of the track; boxes of later ones are dropped.

    Returns:
        Row to box.

    Raises:
        MediaError: The file cannot be read, holds something else, or no box at all.
    """
    boxes: dict[int, Box] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            if [name.strip() for name in header] != HEADER:
                raise MediaError(
                    f"{path.name}: expected the header {','.join(HEADER)!r}, "
                    f"found {','.join(header)[:80]!r}"
                )
            for number, line in enumerate(lines, 2):
                if line:
                    row, box = _box(line, f"{path.name}, line {number}")
                    boxes[row] = box
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"{path.name}: box file cannot be read: {error}") from error
    inside = {row: box for row, box in boxes.items() if row < rows}
    if not inside:
        raise MediaError(f"{path.name}: holds no box for rows 0 to {rows - 1}")
    return inside


def _box(line: list[str], where: str) -> tuple[int, Box]:
    try:
        row, left, top, right, bottom = int(line[0]), *map(float, line[1:])
    except ValueError:
        raise MediaError(
            f"{where}: expected a row and four numbers, found {','.join(line)[:80]!r}"
        ) from None
    if row < 0 or not (
        np.isfinite([left, top, right, bottom]).all() and left < right and top < bottom
    ):
        raise MediaError(f"{where}: expected left < right and top < bottom, found {line!r:.80}")
    return row, (left, top, right, bottom)


def boxed(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Cut a box out of a picture; what lies beyond the picture is black.

    Args:
        image: (H, W, 3).
        box: The box; edges are rounded to whole pixels.

    Returns:
        (h, w, 3), at least one pixel.
    """
    left, top, right, bottom = (round(edge) for edge in box)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    height, width = image.shape[:2]
    # A box far outside would otherwise take any amount of memory.
    left, right = max(left, -width), min(right, 2 * width)
    top, bottom = max(top, -height), min(bottom, 2 * height)
    if left >= right or top >= bottom:
        return np.zeros((1, 1, 3), np.uint8)
    cut = np.zeros((bottom - top, right - left, 3), np.uint8)
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    y, x = max(-top, 0), max(-left, 0)
    cut[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return cut
