"""Transcripts: every format tells the same words, rows find theirs, and broken files are told."""

from __future__ import annotations

import json

import numpy as np
import pytest
from concord.cache import DataError, MediaError
from concord.extract.affwild2 import scan
from concord.extract.sentences import chunks, sentences
from concord.extract.transcripts import SUFFIXES, Transcript, Word, read_transcript, word_of_rows
from hypothesis import given
from hypothesis import strategies as st

# Each word of a cue takes a tenth of a second per character, so that shared time is their own.
WORDS = [
    ("it", 0.5, 0.7),
    ("doesn't", 0.7, 1.4),
    ("rain.", 1.4, 1.9),
    ("Really", 3.0, 3.6),
    ("fine!", 3.6, 4.1),
]
ROW_RATE = 4
# Row times 0, 0.25, …: 0.5 is the first of "it", 0.75 to 1.25 of "doesn't", and so on.
ROWS = [-1, -1, 0, 1, 1, 1, 2, 2, -1, -1, -1, -1, 3, 3, 3, 4, 4, -1, -1, -1]
HOURS = 1 / 3600


def vosk(words=WORDS):
    return {
        "result": [{"conf": 0.9, "word": w, "start": a, "end": b} for w, a, b in words],
        "text": " ".join(word for word, _, _ in words),
    }


def plain(words=WORDS):
    return [{"word": w, "start": a, "end": b, "confidence": 0.9} for w, a, b in words]


def whisper(words=WORDS, key="probability"):
    text = " ".join(word for word, _, _ in words)
    own = [{"word": f" {w}", "start": a, "end": b, key: 0.9} for w, a, b in words]
    return {"id": 0, "start": words[0][1], "end": words[-1][2], "text": text, "words": own}


def without(segment, *keys):
    return {key: value for key, value in segment.items() if key not in keys}


def unaligned():
    """WhisperX gives words that it could not align without times."""
    segment = whisper(WORDS[:3], "score")
    segment["words"][1] = {"word": "doesn't"}
    return segment


def clock(seconds, mark):
    minutes, left = divmod(round(seconds * 1000), 60_000)
    return f"00:{minutes:02}:{left // 1000:02}{mark}{left % 1000:03}"


def line(words, mark):
    return f"{clock(words[0][1], mark)} --> {clock(words[-1][2], mark)}"


def srt(*cues):
    blocks = [
        f"{n}\n{line(cue, ',')}\n" + "\n".join(w for w, *_ in cue) for n, cue in enumerate(cues, 1)
    ]
    return "\n\n".join(blocks) + "\n"


VTT = f"""WEBVTT
Kind: captions
Language: en

STYLE
::cue {{ color: lime }}

NOTE this is said by nobody
at any time

first
{line(WORDS[:3], ".")} align:start position:0%
<v Ann>it<00:00:00.700><c> doesn&#39;t</c><00:00:01.400><c> rain.</c>

{line(WORDS[3:], ".")[3:].replace("> 00:", "> ")}
<i>Really</i> fine!
"""

FORMATS = {
    "plain": (".json", json.dumps({"language": "en", "recogniser": "me", "words": plain()})),
    "plain list": (".json", json.dumps(plain())),
    "plain list out of order": (".json", json.dumps(plain()[::-1])),
    "vosk": (".json", json.dumps(vosk())),
    "vosk list": (".json", json.dumps([vosk(WORDS[:3]), {"text": ""}, vosk(WORDS[3:])])),
    "vosk lines": (
        ".jsonl",
        "\n".join(map(json.dumps, [vosk(WORDS[:3]), {"partial": "rea"}, vosk(WORDS[3:])])),
    ),
    "vosk printed": (
        ".json",
        "\n".join(json.dumps(part, indent=2) for part in [vosk(WORDS[:3]), vosk(WORDS[3:])]),
    ),
    "vosk alternatives": (".json", json.dumps({"alternatives": [vosk(), vosk(WORDS[:1])]})),
    "whisper": (
        ".json",
        json.dumps(
            {"text": "…", "segments": [whisper(WORDS[:3]), whisper(WORDS[3:])], "language": "en"}
        ),
    ),
    "whisper without words": (
        ".json",
        json.dumps(
            {"segments": [without(whisper(part), "words") for part in (WORDS[:3], WORDS[3:])]}
        ),
    ),
    "whisperx": (
        ".json",
        json.dumps(
            {
                "segments": [without(unaligned(), "id"), whisper(WORDS[3:], "score")],
                "word_segments": [],
            }
        ),
    ),
    "ctm": (
        ".ctm",
        ";; a comment\n" + "\n".join(f"a 1 {a} {b - a:.3f} {w} 0.9" for w, a, b in WORDS) + "\n",
    ),
    "ctm without confidence": (".ctm", "".join(f"a A {a} {b - a:.3f} {w}\n" for w, a, b in WORDS)),
    "srt": (".srt", srt(WORDS[:3], WORDS[3:])),
    "srt word by word": (".srt", srt(*([word] for word in WORDS)).replace("\n", "\r\n")),
    "srt with tags": (".srt", srt(WORDS[:3], WORDS[3:]).replace("it\n", "{\\an8}<b>it</b>\n")),
    "vtt": (".vtt", VTT),
}


def write(folder, suffix, text):
    path = folder / f"a{suffix}"
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, name):
    told = read_transcript(write(tmp_path, *FORMATS[name]))
    assert [word.text for word in told.words] == [word for word, *_ in WORDS]
    found = np.array([(word.start_s, word.end_s) for word in told.words])
    assert np.allclose(found, [times for _, *times in WORDS], atol=1e-9)
    times = np.arange(len(ROWS)) / ROW_RATE
    # A nanosecond later than the grid, since starts that are shares of a cue are rounded.
    assert word_of_rows(times + 1e-9, told.words).tolist() == ROWS


def test_the_same_words_after_a_byte_order_mark(tmp_path):
    suffix, text = FORMATS["srt"]
    plain_text = read_transcript(write(tmp_path, suffix, text))
    assert read_transcript(write(tmp_path, suffix, "\ufeff" + text)) == plain_text


@pytest.mark.parametrize(
    ("name", "language", "recogniser", "confidence"),
    [
        ("plain", "en", "me", 0.9),
        ("vosk", "", "vosk", 0.9),
        ("whisper", "en", "whisper", 0.9),
        ("whisper without words", "", "whisper", None),
        ("ctm", "", "", 0.9),
        ("ctm without confidence", "", "", None),
        ("vtt", "en", "", None),
    ],
)
def test_what_a_file_says_of_itself(tmp_path, name, language, recogniser, confidence):
    told = read_transcript(write(tmp_path, *FORMATS[name]))
    assert (told.language, told.recogniser) == (language, recogniser)
    assert {word.confidence for word in told.words} == {confidence}


def test_unaligned_words_lie_between_their_neighbours(tmp_path):
    segment = whisper(WORDS[:3], "score")
    segment["words"][0] = {"word": "it"}
    segment["words"][2] = {"word": "rain."}
    told = read_transcript(write(tmp_path, ".json", json.dumps({"segments": [segment]})))
    assert told.words[0] == Word("it", 0.5, 0.7, None)
    assert told.words[2] == Word("rain.", 1.4, 1.9, None)
    assert told.words[1].confidence == 0.9


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", "[]"),
        (".json", '{"language": "de", "words": []}'),
        (".json", '{"text": ""}'),
        (".json", '{"segments": [], "text": "", "language": "de"}'),
        (".ctm", ""),
        (".ctm", ";; nothing\n\n"),
        (".srt", ""),
        (".vtt", "WEBVTT\n"),
        (".vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n\n"),
    ],
)
def test_an_empty_transcript_is_one(tmp_path, suffix, text):
    told = read_transcript(write(tmp_path, suffix, text))
    assert told.words == ()
    assert told.language in {"", "de"}
    assert word_of_rows(np.arange(3.0), told.words).tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("suffix", "text", "says"),
    [
        (".txt", "hello", r"expected a transcript \(\.json, \.jsonl, \.ctm, \.srt, \.vtt\)"),
        (".json", "", "expected JSON, found an empty file"),
        (".json", '{"words": [\n{"word": "a",}]}', r"a\.json, line 2: expected JSON"),
        (".json", "[" * 100_000, "nested too deep"),
        (".json", "[1, 2]", "expected JSON objects"),
        (".json", '{"speech": []}', "found keys speech"),
        (".json", '{"words": {"a": 1}}', "words: expected a list of objects"),
        (".json", '{"words": [], "language": 3}', "language: expected a name, found 3"),
        (".json", '[{"word": "a", "start": 0, "end": 1}, {"word": "b"}]', "word 2: expected start"),
        (".json", '[{"word": 7, "start": 0, "end": 1}]', "word 1: expected a word, found 7"),
        (".json", '[{"word": "a", "start": 0, "end": NaN}]', "word 1: expected start and end"),
        (".json", '[{"word": "a", "start": true, "end": 2}]', "word 1: expected start and end"),
        (".json", '[{"word": "a", "start": 2, "end": 1}]', "'a' ends at 1 s, before 2 s"),
        (".json", '[{"word": "a", "start": 0, "end": 1, "conf": "x"}]', "expected a confidence"),
        (".json", '{"text": "hello there"}', r"result 1: has text without times.*SetWords"),
        (".json", '{"segments": [{"text": "a", "start": 0}]}', "segment 1: expected start and end"),
        (".json", '{"segments": 4}', "segments: expected a list"),
        (".ctm", "a 1 0.5 0.2\n", r"a\.ctm, line 1: expected file, channel, start"),
        (".ctm", "a 1 0.5 0.2 it\na 1 x 0.2 it\n", "line 2: expected start, duration"),
        (".ctm", "a 1 0.5 -0.2 it\n", "line 1: 'it' ends at 0.3 s, before 0.5 s"),
        (".ctm", "a 1 0 1 it\nb 1 0 1 it\n", "line 2: expected one recording, found a and b"),
        (".srt", "1\n00:00:01,000 -> 00:00:02,000\nhello\n", r"a\.srt, line 2: expected times"),
        (
            ".srt",
            "1\n00:00:03,000 --> 00:00:02,000\nhello\n",
            "line 2: the cue ends at 2 s, before 3",
        ),
        (".vtt", "1\n00:01.000 --> 00:02.000\nhello\n", r"a\.vtt, line 1: expected WEBVTT"),
        (".vtt", "WEBVTT\n\nhello\n", "line 3: expected times"),
        (".vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\na <00:03.000>b\n", "line 3: times within"),
    ],
)
def test_malformed_files_are_told(tmp_path, suffix, text, says):
    with pytest.raises(MediaError, match=says):
        read_transcript(write(tmp_path, suffix, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MediaError, match=r"none\.srt: transcript cannot be read"):
        read_transcript(tmp_path / "none.srt")
    (tmp_path / "b.srt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(MediaError, match=r"b\.srt: transcript cannot be read"):
        read_transcript(tmp_path / "b.srt")


def test_overlapping_and_empty_words():
    words = Transcript.of(
        [
            Word("late", 2.0, 3.0),
            Word("", 0.0, 9.0),
            Word("long", 0.0, 4.0),
            Word("instant", 1.0, 1.0),
        ]
    ).words
    assert [word.text for word in words] == ["long", "instant", "late"]
    # "late" begins within "long" and hides it; the instant has no row, though one lies at 1.0.
    assert word_of_rows(np.arange(6.0), words).tolist() == [0, 0, 2, 0, -1, -1]


SECONDS = st.integers(0, 40).map(lambda n: n / 4)


@given(st.lists(st.tuples(SECONDS, SECONDS)), st.lists(SECONDS, max_size=30))
def test_rows_find_their_words_as_a_loop_does(edges, times):
    words = Transcript.of(Word("a", min(edge), max(edge)) for edge in edges).words
    times = sorted(times)
    expected = []
    for time in times:
        spoken = [n for n, word in enumerate(words) if word.start_s <= time < word.end_s]
        expected.append(spoken[-1] if spoken else -1)
    assert word_of_rows(np.array(times, np.float64), words).tolist() == expected


def spoken(*texts, gaps=()):
    """Words of a second each, with pauses before some: (number, seconds)."""
    words, at = [], 0.0
    for number, text in enumerate(texts):
        at += dict(gaps).get(number, 0.0)
        words.append(Word(text, at, at + 1))
        at += 1
    return words


def test_sentences_end_at_marks_and_pauses():
    words = spoken("so", "it", 'is."', "e.g.", "now", "then", "we", gaps=[(5, 0.7), (6, 0.6)])
    assert list(sentences(words, 0.7)) == [slice(0, 3), slice(3, 4), slice(4, 5), slice(5, 7)]
    assert list(sentences([], 0.7)) == []


def test_long_sentences_are_cut_at_their_longest_pause():
    words = spoken(*"abcdefgh", gaps=[(1, 0.6), (3, 0.5), (4, 0.1)])
    # Four fit; of the cuts in their second half the one before word 3 has the longest pause.
    assert chunks(words, [1] * 8, 4, 0.7, "sentence") == [slice(0, 3), slice(3, 7), slice(7, 8)]


def test_short_sentences_stand_alone_or_together():
    words = spoken("a.", "b", "c.", "d.", "e", "f")
    lengths = [1, 1, 1, 1, 9, 1]
    alone = [slice(0, 1), slice(1, 3), slice(3, 4), slice(4, 5), slice(5, 6)]
    assert chunks(words, lengths, 4, 0.7, "sentence") == alone
    together = [slice(0, 4), slice(4, 5), slice(5, 6)]
    assert chunks(words, lengths, 4, 0.7, "longest") == together


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b.", "c!"]), st.integers(0, 9), st.booleans())),
    st.integers(3, 12),
    st.sampled_from(["sentence", "longest"]),
)
def test_pieces_fit_and_cover_all_words(drawn, limit, rule):
    words = spoken(
        *(text for text, _, _ in drawn), gaps=[(n, 1.0 * d[2]) for n, d in enumerate(drawn)]
    )
    lengths = [length for _, length, _ in drawn]
    found = chunks(words, lengths, limit, 0.7, rule)
    assert [n for part in found for n in range(part.start, part.stop)] == list(range(len(words)))
    for part in found:
        assert part.stop - part.start == 1 or sum(lengths[part]) <= limit


def test_transcripts_are_found_by_exact_name(tmp_path, media):
    for name in ("5_left", "5_right", "6", "60", "7"):
        media.labels(tmp_path / "VA_Set" / "Train_Set" / f"{name}.txt", 2)
    folder = tmp_path / "transcripts"
    folder.mkdir()
    for name in ("5.srt", "5_right.VTT", "60.json", "7.txt", ".8.json"):
        (folder / name).write_text("")
    found = {track.name: track.transcript for track in scan(tmp_path).tracks}
    assert found == {
        "5_left": "transcripts/5.srt",
        "5_right": "transcripts/5_right.VTT",
        "6": None,
        "60": "transcripts/60.json",
        "7": None,
    }
    (folder / "60.ctm").write_text("")
    with pytest.raises(DataError, match=r"'60'.*transcripts/60\.ctm, transcripts/60\.json; keep"):
        scan(tmp_path)


def test_every_suffix_is_tried():
    assert {suffix for suffix, _ in FORMATS.values()} == set(SUFFIXES)
