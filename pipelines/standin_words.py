"""Transcripts of the stand-in: those of the demo, and what is odd about some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .demo_words import demo_transcript

if TYPE_CHECKING:
    from .demo_signal import FloatArray
    from .standin_plan import Film


def make_words(seed: int, film: Film, felt: FloatArray, end: float) -> dict[str, Any]:
    """Make up what is said in a film.

    Args:
        seed: What is drawn.
        film: The film.
        felt: (rows, 2), on average over its persons.
        end: Seconds at which its last frame is shown.

    Returns:
        Plain values, as a transcript in JSON has them.
    """
    said = demo_transcript(seed, film.source, felt, float(film.rate), max(0.0, film.sound_start))
    words: list[dict[str, Any]] = said["words"]
    if film.words == "empty":
        words.clear()
    elif film.words == "overlapping":
        words[1:1] = [_word("sunny", words[0]["start"] + 0.05, words[0]["end"] + 0.1)]
    elif film.words == "late":
        words.append(_word("lovely", end + 1.0, end + 1.4))
    elif film.words == "german":
        said["language"] = "de"
    elif film.words == "contracted":
        words[0] |= {"word": "doesn't"}
    return said


def _word(text: str, start: float, end: float) -> dict[str, Any]:
    return {"word": text, "start": round(start, 3), "end": round(end, 3), "confidence": 0.9}
