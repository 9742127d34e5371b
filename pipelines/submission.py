"""Submissions: predictions of every row of the test tracks, as challenge servers read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..cache import DataError
from ..cache.atomic import atomic_write

if TYPE_CHECKING:
    from numpy.typing import NDArray

Style = Literal["file", "folder"]
"""`file`: all tracks in one, a line per image (ABAW5 and later). `folder`: a file per track, a line
per row (ABAW1 to ABAW3)."""
HEADERS: dict[Style, str] = {
    "file": "image_location,valence,arousal",
    "folder": "valence,arousal",
}
DIGITS = 6
"""Decimals of a value."""

Expected = Sequence[tuple[str, int]]
"""Tracks and their rows, in the template's order."""


def write_submission(
    out: Path, style: Style, expected: Expected, predictions: Mapping[str, NDArray[Any]]
) -> None:
    """Write a submission, atomically file by file.

    Args:
        out: A file, or a folder.
        style: Which of the two.
        expected: What the template asks for.
        predictions: Track to (rows, 2), valence first; clipped to [-1, 1] here.

    Raises:
        DataError: A track is missing, has another number of rows, or holds a value that is no
            number; nothing is written.
    """
    _check(expected, predictions)
    if style == "file":
        parts = (
            line
            for track, _ in expected
            for line in _lines(predictions[track], f"{track}/{{:05d}}.jpg,")
        )
        _write(out, style, parts)
        return
    for track, _ in expected:
        _write(out / f"{track}.txt", style, _lines(predictions[track], ""))


def _check(expected: Expected, predictions: Mapping[str, NDArray[Any]]) -> None:
    for track, rows in expected:
        values = predictions.get(track)
        if values is None:
            raise DataError(
                f"track {track!r}: expected {rows} rows as the template has them, found no "
                "prediction; extract the test tracks, or name the data set's edition with --data"
            )
        if values.shape != (rows, 2):
            raise DataError(
                f"track {track!r}: expected predictions of {rows} rows as the template has them, "
                f"found {len(values)}; extract it again with this template in the data set"
            )
        wrong = np.flatnonzero(~np.isfinite(values).all(1))
        if len(wrong):
            raise DataError(f"track {track!r}: row {wrong[0]} holds a prediction that is no number")


def _lines(values: NDArray[Any], location: str) -> Iterator[str]:
    """Give a track's lines; `location` takes the image's number, from 1."""
    # Adding 0 makes a zero of minus zero.
    rounded = np.round(np.clip(values.astype(np.float64), -1, 1), DIGITS) + 0.0
    for number, (valence, arousal) in enumerate(rounded.tolist(), 1):
        yield f"{location.format(number)}{valence:.{DIGITS}f},{arousal:.{DIGITS}f}\n"


def _write(path: Path, style: Style, lines: Iterator[str]) -> None:
    atomic_write(path, "".join((f"{HEADERS[style]}\n", *lines)).encode())
