"""Words of the demo data set: a transcript with times that says a part of what is felt.

Somebody speaks in sentences, and is silent between them: about half of the time. Words for valence
and for arousal mostly agree with the sign that it has while they are said, by chance they do not;
others mean nothing. So words alone explain a part of the labels, where there are any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .demo_signal import random_stream

if TYPE_CHECKING:
    import numpy as np

    from .demo_signal import FloatArray

VALENCE = (("awful", "broken"), ("lovely", "sunny"))
"""Words for a negative and a positive valence."""
AROUSAL = (("calmly", "quiet"), ("wildly", "loud"))
NEUTRAL = ("the", "it", "is", "was", "they", "and", "that", "there", "doesn't")
MEANINGS = (VALENCE, AROUSAL)
VOCABULARY = tuple(sorted({*NEUTRAL, *(w for pair in MEANINGS for words in pair for w in words)}))
HONEST = 0.85  # share of words that say what is felt; the others are drawn
PAUSE = (0.8, 1.8)  # s between sentences: longer than what ends one
LENGTH = (0.2, 0.5)  # s that a word takes
SENTENCE = (("n", "v", "a"), ("v", "n", "a"), ("n", "n", "v", "a", "v"), ("a", "v", "n", "a"))
"""What the words of a sentence are about: nothing, valence, arousal."""


def demo_transcript(
    seed: int, source: str, labels: FloatArray, rate: float, sound_start: float
) -> dict[str, Any]:
    """Make up what is said in one source.

    Args:
        seed: What is drawn.
        source: Name of the source.
        labels: (rows, 2): valence and arousal as the source's persons have them on average.
        rate: Rows per second.
        sound_start: Seconds before which nothing is heard.

    Returns:
        Plain values, as a transcript in JSON has them.
    """
    rng = random_stream(seed, source, "words")
    end = len(labels) / rate
    words: list[dict[str, Any]] = []
    at = sound_start + rng.uniform(0.1, 0.8)
    while True:
        kinds = SENTENCE[rng.integers(len(SENTENCE))]
        if at + LENGTH[1] * len(kinds) >= end:
            return {"language": "en", "recogniser": "demo", "words": words}
        for kind in kinds:
            stop = at + rng.uniform(*LENGTH)
            felt = labels[int((at + stop) / 2 * rate)]
            words.append(_word(_text(rng, kind, felt), at, stop, rng.uniform(0.6, 1.0)))
            at = stop
        at += rng.uniform(*PAUSE)


def _text(rng: np.random.Generator, kind: str, felt: FloatArray) -> str:
    if kind == "n":
        return str(rng.choice(NEUTRAL))
    column = "va".index(kind)
    sign = int(felt[column] > 0) if rng.random() < HONEST else int(rng.integers(2))
    return str(rng.choice(MEANINGS[column][sign]))


def _word(text: str, start: float, end: float, confidence: float) -> dict[str, Any]:
    times = {"start": round(start, 3), "end": round(end, 3)}
    return {"word": text, **times, "confidence": round(confidence, 2)}
