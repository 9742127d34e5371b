"""Subtitles: SRT and WebVTT, whose cues share their time among their words."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ..cache import MediaError
from .words import Transcript, Word, spread

CLOCK = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
TIMES = re.compile(rf"\s*{CLOCK}\s+-->\s+{CLOCK}(\s.*)?")
INLINE = re.compile(rf"<{CLOCK}>")
TAG = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")
"""`<i>`, `<v Name>`, `<c.yellow>`, and the braces that some programs put into SRT."""
APART = ("NOTE", "STYLE", "REGION")
"""First words of WebVTT blocks that are no cues."""


@dataclass(frozen=True, slots=True)
class _Cue:
    """One subtitle, with the file and line of its times for messages."""

    start_s: float
    end_s: float
    text: str
    where: str


def read_srt(text: str, name: str) -> Transcript:
    """Read SRT.

    Raises:
        MediaError: A block has no times, or ends before it starts.
    """
    cues = [_cue(block, name) for block in _blocks(text)]
    return Transcript.of(word for cue in cues for word in _plain(cue))


def _plain(cue: _Cue) -> list[Word]:
    return spread(_clean(cue.text).split(), cue.start_s, cue.end_s)


def read_vtt(text: str, name: str) -> Transcript:
    """Read WebVTT; times within a cue are those of the words that follow them.

    Raises:
        MediaError: No WEBVTT in the first line, a cue without times, or times that go back.
    """
    first, *blocks = [*_blocks(text)] or [[(1, "")]]
    if not re.match(r"WEBVTT(\s|$)", first[0][1]) or first[0][0] != 1:
        raise MediaError(f"{name}, line 1: expected WEBVTT, found {first[0][1]!r:.40}")
    header = [line.partition(":") for _, line in first[1:]]
    language = next((value.strip() for key, _, value in header if key == "Language"), "")
    cues = [_cue(block, name) for block in blocks if block[0][1].split()[0] not in APART]
    words = [word for cue in cues for word in _timed(cue)]
    return Transcript.of(words, language)


def _timed(cue: _Cue) -> Iterator[Word]:
    """Give a cue's words; each stretch between times within it is shared among its own."""
    pieces = INLINE.split(cue.text)
    starts = [_seconds(pieces[at : at + 4]) for at in range(1, len(pieces), 5)]
    edges = pairwise([cue.start_s, *starts, cue.end_s])
    for text, (start, end) in zip(pieces[::5], edges, strict=True):
        if end < start:
            raise MediaError(f"{cue.where}: times within the cue go back, from {start:g} s")
        yield from spread(_clean(text).split(), start, end)


def _blocks(text: str) -> Iterator[list[tuple[int, str]]]:
    """Give blocks between blank lines: numbers, from 1, and texts of their lines."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []


def _cue(block: list[tuple[int, str]], name: str) -> _Cue:
    """Read a block: its times, after a number or name or not, and the text below them."""
    for place, (number, line) in enumerate(block[:2]):
        match = TIMES.fullmatch(line)
        if match:
            start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:8])
            where = f"{name}, line {number}"
            if end < start:
                raise MediaError(f"{where}: the cue ends at {end:g} s, before {start:g} s")
            return _Cue(start, end, "\n".join(text for _, text in block[place + 1 :]), where)
    number, line = block[min(1, len(block) - 1)]
    raise MediaError(
        f"{name}, line {number}: expected times such as 00:00:01,000 --> 00:00:02,500, "
        f"found {line!r:.60}"
    )


def _seconds(parts: tuple[str | None, ...] | list[str]) -> float:
    hours, minutes, seconds, thousandths = parts
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return (whole * 1000 + int((thousandths or "0").ljust(3, "0"))) / 1000


def _clean(text: str) -> str:
    return html.unescape(TAG.sub("", text))
