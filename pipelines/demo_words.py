"""Words of the demo data set: a transcript with times that says a part of what is felt.

Somebody speaks in sentences, and is silent between them: about half of the time. Most sentences
are about what is felt in their middle, by a word for the sign of valence and one for that of
arousal; the others are about nothing. So words alone explain a part of the labels, where there
are any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .demo_signal import random_stream

if TYPE_CHECKING:
    import numpy as np

    from .demo_signal import FloatArray

VALENCE = (("awful", "sad", "wrong", "broken"), ("lovely", "happy", "right", "sunny"))
"""Words for a negative and a positive valence."""
AROUSAL = (("calmly", "slowly", "quiet", "sleepy"), ("wildly", "quickly", "loud", "thrilling"))
NEUTRAL = ("the", "it", "is", "was", "we", "they", "so", "and", "that", "there", "said", "doesn't")
VOCABULARY = tuple(sorted({*NEUTRAL, *(word for pair in (*VALENCE, *AROUSAL) for word in pair)}))
MEANT = 0.75  # share of sentences that are about what is felt
PAUSE = (0.8, 2.2)  # s between sentences: longer than what ends one
LENGTH = (0.18, 0.45)  # s that a word takes
FILLERS = (1, 4)  # neutral words of a sentence


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
    at = sound_start + rng.uniform(0.1, 1.0)
    while (texts := _sentence(rng, labels, at, rate)) and at + LENGTH[1] * len(texts) < end:
        for text in texts:
            stop = at + rng.uniform(*LENGTH)
            words.append(_word(text, at, stop, rng.uniform(0.6, 1.0)))
            at = stop
        at += rng.uniform(*PAUSE)
    return {"language": "en", "recogniser": "demo", "words": words}


def _sentence(rng: np.random.Generator, labels: FloatArray, at: float, rate: float) -> list[str]:
    texts = [str(rng.choice(NEUTRAL)) for _ in range(rng.integers(*FILLERS, endpoint=True))]
    meant = [str(rng.choice(pair)) for pair in _pairs(labels, at + 0.6, rate)]
    if rng.random() < MEANT:
        texts[rng.integers(len(texts), endpoint=True) :] = meant
    return texts


def _pairs(labels: FloatArray, at: float, rate: float) -> list[tuple[str, ...]]:
    valence, arousal = labels[min(int(at * rate), len(labels) - 1)] > 0
    return [VALENCE[int(valence)], AROUSAL[int(arousal)]]


def _word(text: str, start: float, end: float, confidence: float) -> dict[str, Any]:
    times = {"start": round(start, 3), "end": round(end, 3)}
    return {"word": text, **times, "confidence": round(confidence, 2)}
