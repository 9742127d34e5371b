"""Check a submission against its template: every fault with its line and its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..cache import DataError
from .submission import HEADERS, Expected, Style

NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
ROW: dict[Style, re.Pattern[str]] = {
    "file": re.compile(rf"([^,/]+)/(\d{{5,}})\.jpg,({NUMBER}),({NUMBER})"),
    "folder": re.compile(rf"()()({NUMBER}),({NUMBER})"),
}
PLACE = re.compile(r"([^,/]+)/(\d{5,})\.jpg")
NOT_A_VALUE = -5.0
"""What label files have in rows without an annotation."""
MOST = 1000
"""Faults that are looked for; a file with more is beyond reading line by line."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a server would refuse, or score as nonsense."""

    file: str
    line: int
    """From 1, the header's; 0 where it is about the file."""
    reason: str


def check_submission(path: Path, expected: Expected) -> list[Fault]:
    """Find the faults of a submission, at most `MOST`.

    Args:
        path: A file with all tracks, or a folder with a file per track.
        expected: What the template asks for.

    Raises:
        DataError: There is no such file or folder.
    """
    if not path.exists():
        raise DataError(f"{path}: expected a submission, a file or a folder; found nothing")
    columns = _Columns()
    of = _of_folder if path.is_dir() else _of_single
    found = list(islice(of(path, expected, columns), MOST))
    return [*found, *(Fault(path.name, 0, reason) for reason in columns.faults())]


def _of_single(path: Path, expected: Expected, columns: _Columns) -> Iterator[Fault]:
    return _of_file(path, "file", expected, columns)


def _of_folder(folder: Path, expected: Expected, columns: _Columns) -> Iterator[Fault]:
    names = [f"{track}.txt" for track, _ in expected]
    there = {each.name for each in folder.iterdir() if not each.name.startswith(".")}
    for name in sorted(there.difference(names)):
        yield Fault(name, 0, "no track of the template has this name; remove it")
    for name, track in zip(names, expected, strict=True):
        if name in there:
            yield from _of_file(folder / name, "folder", [track], columns)
        else:
            yield Fault(name, 0, f"missing: expected a file of {track[1]} rows")


def _of_file(path: Path, style: Style, expected: Expected, columns: _Columns) -> Iterator[Fault]:
    content = path.read_bytes()
    checks = _Lines(path.name, style, expected, columns)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        yield checks.fault(line, "not UTF-8; write plain text")
        return
    if text.startswith("\ufeff"):
        yield checks.fault(1, "begins with a byte-order mark; write plain UTF-8 without one")
        text = text[1:]
    if "\r" in text:
        line = text.count("\n", 0, text.index("\r")) + 1
        yield checks.fault(line, "a carriage return: lines end in LF alone")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text and not text.endswith("\n"):
        yield checks.fault(text.count("\n") + 1, "the last line does not end in a newline")
    yield from checks.of(text.removesuffix("\n").split("\n") if text else [])


class _Columns:
    """What is seen of a submission's values: a column that never changes was not predicted."""

    def __init__(self) -> None:
        self._values: tuple[set[str], set[str]] = set(), set()
        self._equal = True
        self._rows = 0

    def add(self, valence: str, arousal: str) -> None:
        self._rows += 1
        for seen, text in zip(self._values, (valence, arousal), strict=True):
            if len(seen) < 2:
                seen.add(str(float(text)))
        self._equal = self._equal and valence == arousal

    def faults(self) -> Iterator[str]:
        if self._rows < 2:
            return
        for name, seen in zip(("valence", "arousal"), self._values, strict=True):
            if len(seen) == 1:
                yield f"{name} has the same value, {min(seen)}, in every row"
        if self._equal and all(len(seen) > 1 for seen in self._values):
            yield "valence and arousal are the same in every row"


class _Lines:
    """Checks of one file's lines, with the place in the template that the next is expected at."""

    def __init__(self, file: str, style: Style, expected: Expected, columns: _Columns) -> None:
        self._file = file
        self._style: Style = style
        self._tracks = dict(expected)
        self._starts: dict[str, int] = {}
        self._total = 0
        for track, rows in expected:
            self._starts[track] = self._total
            self._total += rows
        self._order = list(expected)
        self._next = 0
        self._seen = bytearray(self._total)
        self._columns = columns

    def fault(self, line: int, reason: str) -> Fault:
        return Fault(self._file, line, reason)

    def of(self, lines: list[str]) -> Iterator[Fault]:
        header = HEADERS[self._style]
        first = lines[0] if lines else ""
        if first != header:
            yield self.fault(1, f"expected the header {header!r}, found {first[:80]!r}")
        headless = bool(lines) and self._is_row(first)
        for number, line in enumerate(lines[0 if headless else 1 :], 1 if headless else 2):
            yield from self._row(number, line)
        yield from self._end(len(lines))

    def _is_row(self, line: str) -> bool:
        return ROW[self._style].fullmatch(line) is not None

    def _row(self, number: int, line: str) -> Iterator[Fault]:
        match = ROW[self._style].fullmatch(line)
        if match is None:
            yield self.fault(number, self._wrong(line))
            yield from self._placed(number, PLACE.match(line) if self._style == "file" else None)
            return
        yield from self._placed(number, match)
        for target, text in zip(("valence", "arousal"), match.group(3, 4), strict=True):
            value = float(text)
            if value == NOT_A_VALUE:
                yield self.fault(
                    number, f"{target} is -5, which marks a missing label; predict it instead"
                )
            elif not -1 <= value <= 1:
                yield self.fault(number, f"{target} is {text}, expected -1 to 1; clip it")
        self._columns.add(match[3], match[4])

    def _placed(self, number: int, match: re.Match[str] | None) -> Iterator[Fault]:
        """Compare a line's image with the one that is expected there, and go on from it."""
        if self._style == "folder":
            if self._next < self._total:
                self._seen[self._next] = 1
            elif self._next == self._total:
                yield self.fault(number, f"expected {self._total} rows, found more")
            self._next += 1
            return
        if match is None:
            self._next += 1
            return
        track, frame = match[1], match[2]
        rows = self._tracks.get(track)
        if rows is None:
            yield self.fault(number, f"unknown track {track!r}; the template has none of this name")
            return
        if len(frame) > 5 and frame.startswith("0"):
            yield self.fault(number, f"image number {frame!r}: expected five digits")
        if not 1 <= int(frame) <= rows:
            yield self.fault(number, f"image {frame} of track {track!r}, which has 1 to {rows}")
            return
        here = self._starts[track] + int(frame) - 1
        if self._seen[here]:
            yield self.fault(number, f"a second line for {track}/{frame}.jpg")
        elif here != self._next:
            yield self.fault(
                number, f"expected {self._name(self._next)}, found {track}/{frame}.jpg"
            )
        self._seen[here] = 1
        self._next = here + 1

    def _name(self, place: int) -> str:
        for track, rows in self._order:
            start = self._starts[track]
            if start <= place < start + rows:
                return f"{track}/{place - start + 1:05d}.jpg"
        return "the end"

    def _wrong(self, line: str) -> str:
        """Say why a line is no row."""
        fields = line.split(",")
        wanted = 3 if self._style == "file" else 2
        columns = HEADERS[self._style]
        if not line.strip():
            return "an empty line"
        if len(fields) != wanted:
            index = len(fields) == wanted + 1 and fields[0].strip().isdecimal()
            more = "; the first looks like an index column, leave it out" if index else ""
            return f"expected {wanted} values ({columns}), found {len(fields)}{more}"
        if line != line.strip() or any(field != field.strip() for field in fields):
            return "a space around a value; write none"
        if self._style == "file" and not PLACE.fullmatch(fields[0]):
            return f"image_location is {fields[0]!r}: expected <track>/<five digits>.jpg"
        for name, text in zip(("valence", "arousal"), fields[-2:], strict=True):
            if not re.fullmatch(NUMBER, text):
                return f"{name} is {text!r}: {_kind(text)}"
        raise AssertionError(line)

    def _end(self, lines: int) -> Iterator[Fault]:
        missing = self._seen.count(0)
        if missing:
            first = self._seen.index(0)
            where = self._name(first) if self._style == "file" else f"row {first + 1}"
            yield self.fault(
                lines, f"{missing} of {self._total} rows are missing; the first is {where}"
            )


def _kind(text: str) -> str:
    if not text:
        return "no value; every row needs one"
    try:
        value = float(text)
    except ValueError:
        return "expected a number"
    return "not finite" if not math.isfinite(value) else "expected a plain decimal number"
