"""Transcripts: words with times from a file of any known format, and the rows they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cache import MediaError
from .transcript_formats import FORMATS, SUFFIXES
from .words import Transcript, Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["SUFFIXES", "Transcript", "Word", "read_transcript", "word_of_rows"]


def read_transcript(path: Path) -> Transcript:
    """Read a transcript: Vosk, Whisper, WhisperX or plain JSON, CTM, SRT or WebVTT.

    Words out of order are put in order of their start; a transcript without words is one too.

    Raises:
        MediaError: The file cannot be read or is malformed; says where, and what was expected.
    """
    reader = FORMATS.get(path.suffix.lower())
    if reader is None:
        raise MediaError(f"{path.name}: expected a transcript ({', '.join(SUFFIXES)})")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{path.name}: transcript cannot be read: {error}") from error
    return reader(text, path.name)


def word_of_rows(times: NDArray[np.float64], words: Sequence[Word]) -> NDArray[np.int64]:
    """Find the word that is spoken at each row's time.

    A word is spoken from its start to before its end, so one without length never is. Where words
    overlap, the one that comes later in the transcript counts.

    Args:
        times: (rows,) seconds, ascending.
        words: The words.

    Returns:
        (rows,) number of the word; -1 in silence.
    """
    spoken = np.full(len(times), -1, np.int64)
    edges = np.array([(word.start_s, word.end_s) for word in words]).reshape(-1, 2)
    for number, (first, stop) in enumerate(np.searchsorted(times, edges).tolist()):
        spoken[first:stop] = number
    return spoken
