"""Test lists and templates: which tracks a challenge withholds, and how many rows each has.

A list has a track a line; a list of counts `track,count`; a template a header and a line for each
row, `<track>/<number>.jpg,…`, numbered from 00001 without a gap.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..cache import DataError

NAMES = re.compile(
    r"(.*[ _-])?va_test_set([ _-](sample|example|template))?\.txt"
    r"|test_set_va_challenge\.txt"
    r"|valence_arousal_estimation_challenge_test_set_release\.txt",
    re.IGNORECASE,
)
"""Of lists and templates in all editions."""
HEADER = "image_location"
FIRST = b"/00001.jpg"
COUNT = re.compile(r"(?P<track>[^,;\s]+)[,;\s]+(?P<rows>\d+)")


def is_test_list(name: str) -> bool:
    """Say whether a file of this name is a list or template of test tracks."""
    return bool(NAMES.fullmatch(name))


def read_test_list(path: Path) -> dict[str, int | None]:
    """Read a list or template of test tracks, whatever the file's name says it is.

    Returns:
        Track to its rows; None where the file does not say.

    Raises:
        DataError: It cannot be read, or holds something else.
    """
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if content.startswith(HEADER.encode()):
        return dict(_template(path, content.rstrip() + b"\n"))
    try:
        lines = [line.strip() for line in content.decode().splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a list of test tracks: {error}") from error
    return _listed(path, [line for line in lines if line])


def _template(path: Path, content: bytes) -> dict[str, int]:
    """Count a template's rows, track by track: each begins at its row 00001."""
    starts: list[int] = []
    at = content.find(FIRST)
    while at >= 0:
        starts.append(content.rfind(b"\n", 0, at) + 1)
        at = content.find(FIRST, at + 1)
    if not starts or starts[0] != content.find(b"\n") + 1:
        raise DataError(f"{path}: expected <track>/00001.jpg in the first line after the header")
    found: dict[str, int] = {}
    for first, end in zip(starts, [*starts[1:], len(content)], strict=True):
        name = content[first : content.find(b"/", first)]
        rows = content.count(b"\n", first, end)
        own = content.count(b"\n" + name + b"/", first - 1, end)
        last = content[content.rfind(b"\n", 0, end - 1) + 1 : end]
        track = name.decode(errors="replace")
        if own != rows or not last.startswith(b"%s/%05d.jpg" % (name, rows)) or track in found:
            raise DataError(
                f"{path}: track {track!r}: expected its rows in one block, numbered from 00001 "
                f"without a gap; found {rows} lines that end with {last.strip()!r}"
            )
        found[track] = rows
    return found


def _listed(path: Path, lines: list[str]) -> dict[str, int | None]:
    counts = [COUNT.fullmatch(line) for line in lines]
    found: dict[str, int | None] = {}
    for line, count in zip(lines, counts, strict=True):
        track = count["track"] if count else line
        if track in found:
            raise DataError(f"{path}: track {track!r} is listed twice")
        if not count and re.search(r"[,;/]", line):
            raise DataError(f"{path}: expected a track or track,count in each line, found {line!r}")
        found[track] = int(count["rows"]) if count else None
    return found


def count_rows(path: Path) -> int:
    """Count the rows of one test track's own template: a file like its label file.

    Raises:
        DataError: It cannot be read, or has no row after its header.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    lines = content.rstrip().count(b"\n")
    if not lines:
        raise DataError(f"{path}: has no row after its header")
    return lines
