"""Words with times, and the transcript that they make: what every format is read into."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from ..cache import MediaError


@dataclass(frozen=True, slots=True)
class Word:
    """A spoken word; it lasts from its start to before its end."""

    text: str
    start_s: float
    """Seconds on the container's clock."""
    end_s: float
    confidence: float | None = None
    """The recogniser's own, mostly 0 to 1; None where it gives none."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in one source."""

    words: tuple[Word, ...] = ()
    """By start, then by end; of equal ones as they were written. None where nothing was said."""
    language: str = ""
    """As the file has it, `en` or `german`; empty where it does not say."""
    recogniser: str = ""
    """What heard the words, as the file or its format says."""

    @classmethod
    def of(cls, words: Iterable[Word], language: str = "", recogniser: str = "") -> Transcript:
        """Put words in order; those of white space alone are left out."""
        told = [word for word in words if word.text]
        told.sort(key=lambda word: (word.start_s, word.end_s))
        return cls(tuple(told), language, recogniser)


def timed(text: Any, start: Any, end: Any, confidence: Any, where: str) -> Word:
    """Check what a file says of a word.

    Args:
        text: The word; white space around it is dropped.
        start: Seconds.
        end: Seconds, not before the start; a word without length belongs to no row.
        confidence: A number, or None.
        where: The file and the place in it, for messages.

    Raises:
        MediaError: No text, times that are no numbers, or an end before the start.
    """
    if not isinstance(text, str):
        raise MediaError(f"{where}: expected a word, found {text!r:.40}")
    if not (_number(start) and _number(end)):
        raise MediaError(
            f"{where}: expected start and end of {text.strip()!r:.40} in seconds, "
            f"found {start!r:.20} and {end!r:.20}"
        )
    if end < start:
        raise MediaError(f"{where}: {text.strip()!r:.40} ends at {end:g} s, before {start:g} s")
    if not (confidence is None or _number(confidence)):
        raise MediaError(f"{where}: expected a confidence, found {confidence!r:.40}")
    sure = None if confidence is None else float(confidence)
    return Word(text.strip(), float(start), float(end), sure)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def spread(texts: Sequence[str], start_s: float, end_s: float) -> list[Word]:
    """Share a stretch of time among words, by their number of characters."""
    total = sum(map(len, texts)) or 1
    shares = accumulate(map(len, texts), initial=0)
    edges = [start_s + (end_s - start_s) * share / total for share in shares]
    return [Word(text, *edge) for text, edge in zip(texts, pairwise(edges), strict=True)]
