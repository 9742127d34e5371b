"""Sentences: where a transcript is cut, so that each piece fits into an encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .words import Word

Chunk = Literal["sentence", "longest"]

ENDS = (".", "!", "?", "…", "。", "！", "？", "؟", "।")  # noqa: RUF001 - marks of many scripts
"""Last characters of a sentence's last word; closing quotes and brackets may follow."""
CLOSING = "\"'’”»)]"  # noqa: RUF001


def sentences(words: Sequence[Word], pause: float) -> Iterator[slice]:
    """Cut where a sentence ends by its punctuation, or where nothing is said for a while.

    Args:
        words: In their order.
        pause: Seconds from one word's end to the next one's start, at least, that end a sentence.
    """
    first = 0
    for number, word in enumerate(words, 1):
        last = number == len(words)
        if last or _ends(word) or words[number].start_s - word.end_s >= pause:
            yield slice(first, number)
            first = number


def _ends(word: Word) -> bool:
    return word.text.rstrip(CLOSING).endswith(ENDS)


def chunks(
    words: Sequence[Word], lengths: Sequence[int], limit: int, pause: float, rule: Chunk
) -> list[slice]:
    """Cut a transcript into pieces that fit.

    A sentence that is too long is cut at the longest pause in the second half of what fits, and
    so on. A single word that is too long stands alone.

    Args:
        words: In their order.
        lengths: Tokens that each word takes.
        limit: Most tokens of a piece.
        pause: As for `sentences`.
        rule: `sentence`: each one stands alone; `longest`: as many whole ones as fit together.
    """
    found: list[slice] = []
    for whole in sentences(words, pause):
        for part in _parts(words, lengths, limit, whole):
            joined = rule == "longest" and found and _fits(lengths, found[-1].start, part, limit)
            first = found.pop().start if joined else part.start
            found.append(slice(first, part.stop))
    return found


def _fits(lengths: Sequence[int], first: int, part: slice, limit: int) -> bool:
    return sum(lengths[first : part.stop]) <= limit


def _parts(
    words: Sequence[Word], lengths: Sequence[int], limit: int, whole: slice
) -> Iterator[slice]:
    first = whole.start
    while first < whole.stop:
        stop, total = first + 1, lengths[first]
        while stop < whole.stop and total + lengths[stop] <= limit:
            total += lengths[stop]
            stop += 1
        if stop < whole.stop:
            stop = _longest_pause(words, first + (stop - first + 1) // 2, stop)
        yield slice(first, stop)
        first = stop


def _longest_pause(words: Sequence[Word], first: int, last: int) -> int:
    """Find the word, from `first` to `last`, before which nothing is said for longest.

    Of equal pauses the latest, so that pieces are few.
    """
    return max(range(first, last + 1), key=lambda n: (words[n].start_s - words[n - 1].end_s, n))
