"""Transcribing: the words of a data set's sources, written beside them, one file each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import MediaError
from ..cache.atomic import write_json
from .decoder import Decoder, Ended, Request, SoundChunk
from .media import GAP_SECONDS
from .recogniser import RATE
from .words import Transcript, Word, timed

if TYPE_CHECKING:
    from .dataset import Dataset
    from .recogniser import Recogniser

Progress = Callable[[int, int, str], None]
Failures = dict[str, str]
"""Source to why it could not be transcribed."""
FOLDER = "transcripts"


def untold(dataset: Dataset) -> dict[str, str | None]:
    """Give the sources of which some track has no transcript, with their media."""
    tracks = [track for track in dataset.tracks if track.transcript is None]
    return {t.source: t.media for t in tracks if not _written(dataset, t.source).exists()}


def _written(dataset: Dataset, source: str) -> Path:
    return Path(dataset.root) / FOLDER / f"{source}.json"


def transcribe_all(
    dataset: Dataset, recogniser: Recogniser, progress: Progress, note: Callable[[str], None]
) -> Failures:
    """Write `transcripts/<source>.json` for every source that has no transcript yet.

    Each file is there as a whole or not at all, so a run that was broken off goes on. A source
    without sound gets a transcript without words.

    Args:
        dataset: The tracks.
        recogniser: What hears the words.
        progress: Called with (sources done, sources in all, the source that comes next).
        note: Told of sources whose sound is damaged.

    Returns:
        Sources that could not be read.
    """
    root, todo = Path(dataset.root), untold(dataset)
    failures: Failures = {}
    with Decoder() as decoder:
        for done, (source, media) in enumerate(todo.items()):
            progress(done, len(todo), source)
            if media is None:
                failures[source] = f"{source}: has no media file"
                continue
            try:
                transcript, problem = transcribe(root / media, recogniser, decoder)
            except MediaError as error:
                failures[source] = str(error)
                continue
            if problem:
                note(f"{problem}; kept what was heard before")
            write_json(_written(dataset, source), _record(transcript, recogniser))
    progress(len(todo), len(todo), "done")
    return failures


def transcribe(path: Path, recogniser: Recogniser, decoder: Decoder) -> tuple[Transcript, str]:
    """Hear the words of one file.

    Sound is decoded in a child process and heard as it comes. Each stretch between gaps is heard
    to its end, so no last word is lost.

    Args:
        path: The file.
        recogniser: What hears the words.
        decoder: What decodes the sound.

    Returns:
        The words, on the container's clock; and what the decoder complained of, if anything.

    Raises:
        MediaError: Nothing could be decoded.
    """
    hearing = _Hearing(recogniser)
    problem, given = "", False
    # A file of sound alone is one too: when its rows are does not matter here.
    for answer in decoder.answers(Request(kind="sound", path=path, rate=RATE, frames=1)):
        if isinstance(answer, SoundChunk):
            hearing.take(answer)
            given = True
        elif isinstance(answer, Ended):
            problem = answer.problem
    if problem and not given:
        raise MediaError(problem)
    hearing.end()
    return hearing.transcript(), problem


class _Hearing:
    """The words of one file in the making."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._words: list[Word] = []
        self._languages: Counter[str] = Counter()
        self._start_s = 0.0
        self._heard = 0
        """Samples of the present stretch."""

    def take(self, chunk: SoundChunk) -> None:
        """Hear the next sound; a gap before it ends a stretch."""
        expected = self._start_s + self._heard / chunk.rate
        if self._heard and abs(chunk.start_s - expected) >= GAP_SECONDS:
            self.end()
        if not self._heard:
            self._start_s = chunk.start_s
            self._recogniser.begin()
        self._heard += len(chunk.samples)
        self._keep(self._recogniser.hear(chunk.samples))

    def end(self) -> None:
        """Have the stretch heard to its end."""
        if self._heard:
            before = len(self._words)
            self._keep(self._recogniser.end())
            self._languages[self._recogniser.language] += len(self._words) - before
        self._heard = 0

    def _keep(self, words: Iterable[Word]) -> None:
        for word in words:
            times = self._start_s + word.start_s, self._start_s + word.end_s
            self._words.append(timed(word.text, *times, word.confidence, self._recogniser.name))

    def transcript(self) -> Transcript:
        """Give what was heard; the language is that of most words, and none is told of silence."""
        language = self._languages.most_common(1)[0][0] if self._words else ""
        name = f"{self._recogniser.name}, {self._recogniser.model}"
        return Transcript.of(self._words, language, name)


def _record(transcript: Transcript, recogniser: Recogniser) -> dict[str, Any]:
    """Give a transcript as plain JSON has it."""
    return {
        "language": transcript.language,
        "recogniser": transcript.recogniser,
        "model": {"name": recogniser.model, "sha256": recogniser.model_sha256},
        "words": [
            {
                "word": word.text,
                "start": round(word.start_s, 3),
                "end": round(word.end_s, 3),
                "confidence": word.confidence,
            }
            for word in transcript.words
        ],
    }
