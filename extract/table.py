"""A table of tracks: any corpus, described by one CSV file."""

from __future__ import annotations

import csv
import difflib
import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from ..cache import DataError
from .dataset import Dataset, Region, Split, Track
from .label_tables import LabelForm, Pair
from .rows import RowClock

FILE = "tracks.csv"
"""The table of a folder."""
SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validation": "val",
    "dev": "val",
    "devel": "val",
    "test": "test",
}
REGIONS: dict[str, Region] = {"": "whole", "whole": "whole", "left": "left", "right": "right"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table; columns but the first three may be left out or empty."""

    track: str
    """Name of the track, each once."""
    media: str
    """Video, or sound alone; paths are relative to the table's folder."""
    split: str
    """train, val (or dev) or test."""
    source: str = ""
    """Name of the media file; its path without suffix where empty."""
    family: str = ""
    """Recording or person that must not be divided by folds; the source where empty."""
    region: str = ""
    """whole, left or right: the part of the picture that shows the person."""
    labels: str = ""
    """Label file; empty where there are none: then `rows` is needed."""
    rows: str = ""
    """Number of rows, where there is no label file."""
    rate: str = ""
    """Rows per second; empty: the label file's times, or row i is frame i."""
    start_s: str = ""
    """Time of the first row in seconds on the media's clock; 0 where empty."""
    delay_s: str = ""
    """Seconds by which raters lagged: one number, or valence's and arousal's."""
    minimum: str = ""
    """Lowest label, which becomes -1: one number, or valence's and arousal's."""
    maximum: str = ""
    """Highest label, which becomes 1."""
    invalid: str = ""
    """What stands in a label file where there is no label."""
    valence: str = ""
    """Column of the label file, by name or by number from 1; `valence` where empty."""
    arousal: str = ""
    time: str = ""
    """Column of seconds; none where empty."""
    faces: str = ""
    """Folder of face crops, numbered by row from 00001."""
    boxes: str = ""
    """Box file; with `rate` or `time` its rows count the frames of the media."""
    transcript: str = ""


COLUMNS = tuple(field.name for field in fields(Line))
NEEDED = tuple(field.name for field in fields(Line) if field.default is MISSING)


def find_table(path: Path) -> Path:
    """Give a table by its own path or by its folder's."""
    return path / FILE if path.is_dir() else path


def scan_table(path: Path, name: str = "table") -> Dataset:
    """Find the tracks of a table; the files that it names are not opened.

    Args:
        path: The CSV file, or a folder with `tracks.csv`.
        name: The data set's name in the store.

    Returns:
        Tracks sorted by name; paths relative to the table's folder.

    Raises:
        DataError: No table, an unknown or missing column, a wrong value, a track twice, or a
            source with two files; says in which line.
    """
    table = find_table(path)
    tracks: dict[str, Track] = {}
    media: dict[str, str] = {}
    for number, line in _lines(table):
        where = f"{table}, line {number}"
        track = _track(line, where)
        if track.name in tracks:
            raise DataError(f"{where}: track {track.name!r} is listed twice")
        if media.setdefault(track.source, line.media) != line.media:
            raise DataError(
                f"{where}: source {track.source!r} is {line.media!r} here and "
                f"{media[track.source]!r} before; give each file its own source"
            )
        tracks[track.name] = track
    if not tracks:
        raise DataError(f"{table}: lists no track")
    return Dataset(name, str(table.parent), tuple(tracks[each] for each in sorted(tracks)))


def _lines(table: Path) -> list[tuple[int, Line]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [column.strip() for column in next(reader, [])]
            _check_header(table, header)
            found: list[tuple[int, Line]] = []
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(header):
                    raise DataError(
                        f"{table}, line {reader.line_num}: expected {len(header)} fields, "
                        f"found {len(values)}"
                    )
                stripped = (value.strip() for value in values)
                line = Line(**dict(zip(header, stripped, strict=True)))
                found.append((reader.line_num, line))
            return found
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: table of tracks cannot be read: {error}") from error


def _check_header(table: Path, header: list[str]) -> None:
    for column in header:
        if column not in COLUMNS:
            nearest = difflib.get_close_matches(column, COLUMNS, 1, 0.5)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise DataError(
                f"{table}: unknown column {column!r}{hint}; columns are {', '.join(COLUMNS)}"
            )
        if header.count(column) > 1:
            raise DataError(f"{table}: column {column!r} is there twice")
    missing = [column for column in NEEDED if column not in header]
    if missing:
        raise DataError(f"{table}: column {missing[0]!r} is missing; needed are {NEEDED}")


def _track(line: Line, where: str) -> Track:
    for column in NEEDED:
        _expect(bool(getattr(line, column)), where, column, "a value", "")
    split = SPLITS.get(line.split.lower())
    _expect(split is not None, where, "split", ", ".join(SPLITS), line.split)
    _expect(line.region.lower() in REGIONS, where, "region", "whole, left or right", line.region)
    _expect(bool(line.labels or line.rows), where, "rows", "a number, since no labels tell it", "")
    _expect(not line.rows or line.rows.isdecimal(), where, "rows", "a whole number", line.rows)
    source = line.source or str(PurePosixPath(line.media).with_suffix(""))
    assert split is not None
    return Track(
        name=line.track,
        source=source,
        split=split,
        family=line.family or source,
        region=REGIONS[line.region.lower()],
        media=line.media,
        labels=line.labels or None,
        faces=line.faces or None,
        boxes=line.boxes or None,
        transcript=line.transcript or None,
        rows=None if line.labels else int(line.rows),
        clock=_clock(line, where),
        form=_form(line, where) if line.labels else None,
    )


def _clock(line: Line, where: str) -> RowClock | None:
    if not line.rate:
        return None
    rate = _number(line.rate, where, "rate")
    _expect(0 < rate <= 10_000, where, "rate", "rows per second, above 0", line.rate)
    return RowClock(rate=rate, start_s=_number(line.start_s or "0", where, "start_s"))


def _form(line: Line, where: str) -> LabelForm:
    form = LabelForm(
        valence=line.valence or "valence",
        arousal=line.arousal or "arousal",
        time=line.time,
        start_s=0.0 if line.rate else _number(line.start_s or "0", where, "start_s"),
        minimum=_pair(line.minimum or "-1", where, "minimum"),
        maximum=_pair(line.maximum or "1", where, "maximum"),
        invalid=line.invalid,
        delay_s=_pair(line.delay_s or "0", where, "delay_s"),
    )
    clocked = bool(line.rate or line.time)
    above = all(low < high for low, high in zip(form.minimum, form.maximum, strict=True))
    _expect(above, where, "maximum", "more than minimum", line.maximum)
    _expect(min(form.delay_s) >= 0, where, "delay_s", "0 or more", line.delay_s)
    _expect(clocked or not any(form.delay_s), where, "rate", "a number, since delay_s needs it", "")
    _expect(clocked or not form.start_s, where, "rate", "a number, since start_s needs it", "")
    return form


def _pair(text: str, where: str, column: str) -> Pair:
    parts = re.split(r"[\s;]+", text)
    _expect(len(parts) in (1, 2), where, column, "one number, or valence's and arousal's", text)
    first, second = (_number(part, where, column) for part in (parts[0], parts[-1]))
    return first, second


def _number(text: str, where: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    _expect(abs(value) < float("inf"), where, column, "a number", text)
    return value


def _expect(holds: bool, where: str, column: str, expected: str, found: Any) -> None:
    if not holds:
        raise DataError(f"{where}: {column}: expected {expected}, found {found!r}")
