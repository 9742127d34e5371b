"""Label files of any corpus: named or numbered columns, any range, a fixed step or times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cache import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .rows import RowClock

    Numbers = NDArray[np.float64]

Pair = tuple[float, float]
PREAMBLE = ("@", "%", "#")
"""Lines that begin so are left out, such as the head of an ARFF file."""
NUMBER = re.compile("[1-9][0-9]*")
SEPARATORS = (";", "\t", ",")
NO_LABEL = ("", "nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelForm:
    """How a corpus writes its labels. Pairs are valence's and arousal's."""

    valence: str = "valence"
    """Column by its name, or by its number from 1."""
    arousal: str = "arousal"
    time: str = ""
    """Column of seconds; none where empty: rows lie at a fixed step."""
    start_s: float = 0.0
    """Added to that column to give seconds on the media's clock."""
    minimum: Pair = (-1.0, -1.0)
    """Becomes -1."""
    maximum: Pair = (1.0, 1.0)
    """Becomes 1."""
    invalid: str = ""
    """What stands where there is no label, beside an empty field and `nan`."""
    delay_s: Pair = (0.0, 0.0)
    """Seconds by which raters lagged behind: the label of a row is the one given so much later."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """What a label file says."""

    values: Numbers
    """(rows, 2) valence and arousal in [-1, 1]; zeros where there is no label."""
    valid: NDArray[np.bool_]
    """(rows,)"""
    times: Numbers | None
    """(rows,) seconds on the media's clock; None: row i is frame i."""


def read_label_table(path: Path, form: LabelForm, clock: RowClock | None = None) -> LabelTable:
    """Read a label file.

    Args:
        path: Comma, semicolon, tab or blank separated, with a header where columns are named.
        form: How it is written.
        clock: When rows are, where they lie at a fixed step.

    Returns:
        Rows as the file has them; where raters lagged, labels are moved to the earlier rows, by
        the nearest number of rows, and the last rows have none.

    Raises:
        DataError: It cannot be read, a column is missing, a field is no number, a value lies
            outside the range, or times do not ascend or do not fit the clock.
    """
    lines, first, columns = _lines(path, form)
    numbers = _numbers(path, lines, first, columns, form.invalid)
    times = clock.times(len(numbers)) if clock else None
    if form.time:
        own = _ascending(path, numbers[:, 2], first) + form.start_s
        times = own if times is None else _agreeing(path, own, times, first)
    labels = numbers[:, :2]
    marker = _as_number(form.invalid)
    missing = np.isnan(labels) | (labels == marker)
    labels = _scaled(path, np.where(missing, np.nan, labels), form, first)
    labels = _moved(path, labels, form.delay_s, times)
    valid = np.logical_not(np.isnan(labels).any(axis=1, keepdims=True))[:, 0]
    return LabelTable(np.where(valid[:, None], labels, 0.0), valid, times)


def _lines(path: Path, form: LabelForm) -> tuple[list[list[str]], int, list[int]]:
    """Split a file into fields; gives these, the number of the first row's line, and columns."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    start = 0
    while start < len(lines) and (not lines[start].strip() or lines[start].startswith(PREAMBLE)):
        start += 1
    if start == len(lines):
        raise DataError(f"{path}: has no row")
    separator = next((mark for mark in SEPARATORS if mark in lines[start]), None)
    fields = [[part.strip(" \"'") for part in line.split(separator)] for line in lines[start:]]
    wanted = [form.valence, form.arousal, *([form.time] if form.time else [])]
    headed = _is_header(fields[0], wanted, form.invalid)
    header = fields[0] if headed else []
    columns = [_column(path, name, header, len(fields[0])) for name in wanted]
    rows = fields[1:] if headed else fields
    if not rows:
        raise DataError(f"{path}: has no row after its header")
    return rows, start + headed + 1, columns


def _is_header(fields: Sequence[str], wanted: Sequence[str], invalid: str) -> bool:
    """Say whether the first line names columns: where we look for numbers, it has none.

    Other columns may hold text, such as a file's name, in every line.
    """
    numbers = [int(name) for name in wanted if NUMBER.fullmatch(name)]
    looked = [fields[n - 1] for n in numbers if n <= len(fields)] or fields
    return not all(_is_value(field, invalid) for field in looked)


def _is_value(field: str, invalid: str) -> bool:
    return field == invalid or field.lower() in NO_LABEL or _as_number(field) is not None


def _as_number(field: str) -> float | None:
    try:
        return float(field) if field else None
    except ValueError:
        return None


def _column(path: Path, name: str, header: Sequence[str], width: int) -> int:
    """Find a column by name, exact or but for the case, or by number."""
    for known, wanted in ((list(header), name), ([h.lower() for h in header], name.lower())):
        if known.count(wanted) == 1:
            return known.index(wanted)
    if NUMBER.fullmatch(name) and int(name) <= width:
        return int(name) - 1
    found = f"columns {', '.join(header)}" if header else f"{width} columns without names"
    raise DataError(
        f"{path}: expected a column {name!r}, found {found}; name it, or give its number from 1, "
        "in the table of tracks"
    )


def _numbers(
    path: Path, rows: Sequence[Sequence[str]], first: int, columns: Sequence[int], invalid: str
) -> Numbers:
    """Read the columns as numbers (rows, columns); NaN where there is none."""
    width = max(columns)
    found: list[list[float]] = []
    for number, fields in enumerate(rows, first):
        chosen = [fields[at] for at in columns] if len(fields) > width else []
        values = [np.nan if _is_none(field, invalid) else _as_number(field) for field in chosen]
        known = [value for value in values if value is not None and not np.isinf(value)]
        if len(known) < len(columns):
            raise DataError(
                f"{path}, line {number}: expected numbers in columns "
                f"{', '.join(str(at + 1) for at in columns)}, found {' '.join(fields)[:60]!r}"
            )
        found.append(known)
    return np.array(found, np.float64)


def _is_none(field: str, invalid: str) -> bool:
    return field.lower() in NO_LABEL or (bool(invalid) and field == invalid)


def _ascending(path: Path, times: Numbers, first: int) -> Numbers:
    wrong = np.flatnonzero(~(np.diff(times, prepend=-np.inf) > 0))
    if len(wrong):
        at = int(wrong[0])
        raise DataError(
            f"{path}, line {at + first}: expected times in seconds that ascend, found {times[at]:g}"
        )
    return times


def _agreeing(path: Path, own: Numbers, times: Numbers, first: int) -> Numbers:
    """Check a column of times against the rate that the table of tracks states."""
    step = float(times[1] - times[0]) if len(times) > 1 else np.inf
    apart = np.abs((own - own[0]) - (times - times[0]))
    if apart.max() > step / 2:
        at = int(np.argmax(apart > step / 2))
        raise DataError(
            f"{path}, line {at + first}: its time is {own[at] - own[0]:g} s after the first row, "
            f"but {times[at] - times[0]:g} s by the rate that is stated; correct `rate`, or leave "
            "it empty to take the file's own times"
        )
    return times


def _scaled(path: Path, labels: Numbers, form: LabelForm, first: int) -> Numbers:
    """Map (rows, 2) from the corpus' range to [-1, 1]."""
    low, high = np.array(form.minimum), np.array(form.maximum)
    slack = 1e-6 * (high - low)
    outside = np.flatnonzero(((labels < low - slack) | (labels > high + slack)).any(axis=1))
    if len(outside):
        at = int(outside[0])
        found = ", ".join(f"{value:g}" for value in labels[at])
        raise DataError(
            f"{path}, line {at + first}: expected valence in [{low[0]:g}, {high[0]:g}] and arousal "
            f"in [{low[1]:g}, {high[1]:g}], found {found}; correct minimum, maximum or invalid in "
            "the table of tracks"
        )
    if (form.minimum, form.maximum) == ((-1.0, -1.0), (1.0, 1.0)):
        return labels.clip(-1, 1)
    return (2 * (labels - low) / (high - low) - 1).clip(-1, 1)


def _moved(path: Path, labels: Numbers, delay_s: Pair, times: Numbers | None) -> Numbers:
    """Move each column to earlier rows by its delay; the last rows have no label."""
    if not any(delay_s):
        return labels
    if times is None or len(times) < 2:
        raise DataError(f"{path}: delay_s needs the rows' rate or a column of times")
    moved = np.full_like(labels, np.nan)
    step = float(np.median(np.diff(times)))
    for column, delay in enumerate(delay_s):
        rows = round(delay / step)
        moved[: len(labels) - rows, column] = labels[rows:, column]
    return moved
