"""The cases of the stand-in: what is odd in the corpus, which tracks have it here, what follows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One oddity."""

    what: str
    tracks: tuple[str, ...]
    """Tracks that carry it; none where it belongs to the folder as a whole."""
    expected: str
    """What is to come of it."""


PARTS = tuple(f"122-60-1920x1080-{part}" for part in range(1, 5))
CASES = {
    1: Case(
        "the three styles of names, one the beginning of another, suffixes of parts",
        ("102", "102-30-640x360", "122-60-1920x1080-2", "video45_3", "video31"),
        "each track has its own file, by its exact name",
    ),
    2: Case(
        "_left and _right without the bare name",
        ("46-30-484x360_left", "46-30-484x360_right"),
        "one source, one film, two halves of the picture",
    ),
    3: Case(
        "the bare name and one side",
        (
            *("10-60-1280x720", "10-60-1280x720_right", "video59", "video59_right"),
            *("video2", "video2_left"),
        ),
        "one source; the bare name sees the whole picture, which is told",
    ),
    4: Case(
        "-5 at the start, in the middle, at the end, and in most rows",
        (
            *("86-24-1920x1080", "46-30-484x360_left", "video76", "video59_right"),
            "10-60-1280x720_right",
        ),
        "these rows stay, without a label",
    ),
    5: Case("-5 in one column, and -5.0", ("476",), "four rows without a label"),
    6: Case(
        "-1, 0, 1, whole numbers, 14 decimals, a run of 0,0",
        ("203", "86-24-1920x1080"),
        "labels as any other",
    ),
    7: Case(
        "faces missing at the start, for 320 rows, in short gaps, at the end, in 93 %, in all rows",
        ("102", "video31", "video65", "video76", "video59_right", "video2_left", "video4"),
        "rows without a face; the last two are told, video4 has no visual item of faces",
    ),
    8: Case(
        "rows less frames: +1, 0, +2, -1, -3",
        ("102", "102-30-640x360", "video2", "video65", "461"),
        "as many rows as the labels or the template have",
    ),
    9: Case(
        "crops numbered beyond the rows, by 1 and by 52",
        ("476", "486"),
        "left out, and told",
    ),
    10: Case(
        "30, 29.97, 25, 23.976, 6 and 22.527 frames per second, a variable rate, a name that lies",
        (
            *("video31", "video45_3", "102-30-640x360", "86-24-1920x1080", "486", "video76"),
            *("203", "122-60-1920x1080-1"),
        ),
        "times are those of the frames",
    ),
    11: Case(
        "mp4 and avi; sound late, early, stereo, short, silent, or none",
        (
            *("46-30-484x360", "video59", "video45_3", "43-30-406x720", "461", "video4"),
            "102-30-640x360",
        ),
        "rows without sound have no value, those of video4 all; the silent 461 has values",
    ),
    12: Case(
        "73 rows, and 900", ("486", "video31"), "windows are padded, or cover all of the track"
    ),
    13: Case(
        "constant labels, constant predictions",
        ("38", "video59_right"),
        "no CCC of 38 alone, 0 of video59_right, none the less both count in the pooled CCC",
    ),
    14: Case(
        "a second root of faces, hidden files, capital suffixes, a stray table",
        ("486", "476", "461", "203"),
        "faces are found in both roots; files that are no crops are told",
    ),
    15: Case(
        "folders by other names, in a wrapper with spaces; CRLF, a byte-order mark",
        ("122-60-1920x1080-2", "122-60-1920x1080-3"),
        "read like the others",
    ),
    16: Case("four parts of one recording", PARTS, "one family, which no grouped fold splits"),
    17: Case(
        "two releases: a training track of the older is a test track of the newer, seven rows of "
        "another have lost their labels",
        ("234", "102-30-640x360"),
        "the release has to be chosen; the older one is refused beside this test list",
    ),
    18: Case(
        "a test list without labels, templates of three styles",
        ("video2", "video2_left", "234", "video4", "461", "43-30-406x720", "video65"),
        "split test, with the rows of the templates",
    ),
    19: Case(
        "transcripts: plain, empty, overlapping words, a word after the end, German, a contraction",
        ("video31", "38", "video45_3", "86-24-1920x1080", "video59", "102"),
        "all are read; an empty one is one too",
    ),
    20: Case(
        "three damaged crops, a sound file without a byte",
        ("203", "311"),
        "three rows without a value; 311 has no audio item",
    ),
    21: Case(
        "the answers, made by other code",
        (),
        "expected.json and predictions/ beside the data",
    ),
}
"""Number to case."""
