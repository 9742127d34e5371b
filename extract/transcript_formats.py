"""Formats of transcripts: what recognisers write as JSON, and NIST's CTM; subtitles lie apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..cache import MediaError
from .subtitles import read_srt, read_vtt
from .words import Transcript, Word, spread, timed

Record = dict[str, Any]

CONFIDENCES = ("confidence", "conf", "probability", "score")
"""What plain JSON, Vosk, Whisper and WhisperX call it."""
VOSK = {"result", "text", "partial", "alternatives"}


def read_json(text: str, name: str) -> Transcript:
    """Read JSON of a recogniser, told apart by its keys.

    `words` is plain JSON: `{"language", "recogniser", "words": [{"word", "start", "end",
    "confidence"}]}`, or the list of words alone; `segments` is Whisper's or WhisperX's, whose
    segments without words share their time among these; anything of `result` is Vosk's: one
    result, a list of them, or one after another, as its programs print them.

    Raises:
        MediaError: It is none of these, or a word is malformed.
    """
    found = _documents(text, name)
    if len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    if not all(isinstance(each, dict) for each in found):
        raise MediaError(f"{name}: expected JSON objects, found {found!r:.60}")
    if len(found) == 1 and "words" in found[0]:
        return _plain(found[0], name)
    if len(found) == 1 and "segments" in found[0]:
        return _whisper(found[0], name)
    if all("word" in each for each in found):
        return Transcript.of(_words(found, name))
    if all(VOSK & each.keys() for each in found):
        return Transcript.of(_vosk(found, name), recogniser="vosk")
    keys = sorted({str(key) for each in found for key in each})
    raise MediaError(
        f"{name}: expected words, Whisper's segments or Vosk's results, "
        f"found keys {', '.join(keys)[:80]}"
    )


def _documents(text: str, name: str) -> list[Any]:
    """Read JSON documents one after another, with or without line breaks between them."""
    found: list[Any] = []
    at = _skip(text, 0)
    try:
        while at < len(text):
            document, end = json.JSONDecoder().raw_decode(text, at)
            found.append(document)
            at = _skip(text, end)
    except json.JSONDecodeError as error:
        raise MediaError(f"{name}, line {error.lineno}: expected JSON: {error.msg}") from None
    except RecursionError:
        raise MediaError(f"{name}: expected a transcript, found JSON nested too deep") from None
    if not found:
        raise MediaError(f"{name}: expected JSON, found an empty file")
    return found


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _plain(record: Record, name: str) -> Transcript:
    words = _list(record["words"], f"{name}: words")
    told = [_told(record, key, name) for key in ("language", "recogniser")]
    return Transcript.of(_words(words, name), *told)


def _told(record: Record, key: str, name: str) -> str:
    value = record.get(key)
    if not (value is None or isinstance(value, str)):
        raise MediaError(f"{name}: {key}: expected a name, found {value!r:.40}")
    return value or ""


def _list(value: Any, where: str) -> list[Record]:
    if not (isinstance(value, list) and all(isinstance(each, dict) for each in value)):
        raise MediaError(f"{where}: expected a list of objects, found {value!r:.60}")
    return value


def _words(records: Sequence[Record], where: str) -> Iterator[Word]:
    for number, record in enumerate(records, 1):
        yield _word(record, f"{where}, word {number}")


def _word(record: Record, where: str) -> Word:
    confidence = next((record[key] for key in CONFIDENCES if key in record), None)
    return timed(record.get("word"), record.get("start"), record.get("end"), confidence, where)


def _vosk(results: Sequence[Record], name: str) -> Iterator[Word]:
    for number, result in enumerate(results, 1):
        where = f"{name}, result {number}"
        if "alternatives" in result:
            result = next(iter(_list(result["alternatives"], where)), {})
        if "result" in result:
            yield from _words(_list(result["result"], where), where)
        elif str(result.get("text", "")).strip():
            raise MediaError(f"{where}: has text without times; recognise with SetWords(True)")


def _whisper(record: Record, name: str) -> Transcript:
    words: list[Word] = []
    for number, segment in enumerate(_list(record["segments"], f"{name}: segments"), 1):
        words += _segment(segment, f"{name}, segment {number}")
    return Transcript.of(words, _told(record, "language", name), "whisper")


def _segment(segment: Record, where: str) -> list[Word]:
    text = segment.get("text", "")
    whole = timed(text, segment.get("start"), segment.get("end"), None, where)
    if not segment.get("words"):
        return spread(whole.text.split(), whole.start_s, whole.end_s)
    records = _list(segment["words"], where)
    words: list[Word] = []
    waiting: list[str] = []
    for number, record in enumerate(records, 1):
        if "start" not in record and "end" not in record and isinstance(record.get("word"), str):
            waiting.append(record["word"].strip())
            continue
        word = _word(record, f"{where}, word {number}")
        words += _between(waiting, words[-1].end_s if words else whole.start_s, word.start_s)
        words.append(word)
        waiting = []
    return words + _between(waiting, words[-1].end_s if words else whole.start_s, whole.end_s)


def _between(texts: Sequence[str], start_s: float, end_s: float) -> list[Word]:
    """Words that WhisperX could not align share the time between their neighbours."""
    return spread(texts, start_s, max(start_s, end_s))


def read_ctm(text: str, name: str) -> Transcript:
    """Read a CTM file of one recording: file, channel, start, duration, word and confidence.

    Raises:
        MediaError: A line is malformed, or the lines are of several recordings.
    """
    words: list[Word] = []
    recordings: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        where = f"{name}, line {number}"
        if len(fields) < 5:
            raise MediaError(
                f"{where}: expected file, channel, start, duration and word, found {line!r:.60}"
            )
        recordings.setdefault(fields[0], number)
        if len(recordings) > 1:
            raise MediaError(
                f"{where}: expected one recording, found {' and '.join(recordings)}; "
                "give each its own file"
            )
        words.append(_ctm_word(fields, where))
    return Transcript.of(words)


def _ctm_word(fields: Sequence[str], where: str) -> Word:
    try:
        start, duration = float(fields[2]), float(fields[3])
        sure = None if len(fields) < 6 or fields[5].upper() == "NA" else float(fields[5])
    except ValueError:
        raise MediaError(
            f"{where}: expected start, duration and confidence as numbers, "
            f"found {' '.join(fields[2:6])!r:.60}"
        ) from None
    return timed(fields[4], start, start + duration, sure, where)


FORMATS: dict[str, Callable[[str, str], Transcript]] = {
    ".json": read_json,
    ".jsonl": read_json,
    ".ctm": read_ctm,
    ".srt": read_srt,
    ".vtt": read_vtt,
}
"""Suffix to what reads such a file's text; the second argument is its name, for messages."""
SUFFIXES = tuple(FORMATS)
"""Of files that are transcripts; what kind of JSON a file holds is told by its content."""
