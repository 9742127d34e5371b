"""Submissions: what the writer writes always passes; every planted fault is found in its line."""

import numpy as np
import pytest
from concord.cache import DataError
from concord.pipelines.submission import write_submission
from concord.pipelines.submission_check import check_submission
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

EXPECTED = [("102-30-640x360", 4), ("102", 3), ("video2_left", 5)]
STYLES = ("file", "folder")


def predictions(expected=EXPECTED, seed=0):
    random = np.random.default_rng(seed)
    return {track: random.uniform(-1.2, 1.2, (rows, 2)) for track, rows in expected}


@pytest.fixture
def written(tmp_path):
    paths = {"file": tmp_path / "all.txt", "folder": tmp_path / "each"}
    for style, path in paths.items():
        write_submission(path, style, EXPECTED, predictions())
    return paths


@pytest.mark.parametrize("style", STYLES)
def test_what_is_written_passes(written, style):
    assert check_submission(written[style], EXPECTED) == []


def test_lines_are_in_the_template_s_order_clipped_and_read_back(written):
    lines = written["file"].read_bytes().decode().split("\n")
    assert lines[0] == "image_location,valence,arousal"
    assert lines[-1] == ""
    assert [line.split(",")[0] for line in lines[1:-1]] == [
        f"{track}/{number:05d}.jpg" for track, rows in EXPECTED for number in range(1, rows + 1)
    ]
    found = np.array([[float(x) for x in line.split(",")[1:]] for line in lines[1:-1]])
    wanted = np.concatenate([predictions()[track] for track, _ in EXPECTED]).clip(-1, 1)
    assert np.abs(found - wanted).max() <= 5.1e-7
    each = (written["folder"] / "102.txt").read_text().split("\n")
    assert each[0] == "valence,arousal"
    assert [line.split(",", 1)[1] for line in lines[5:8]] == each[1:-1]


sizes = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=sizes, style=st.sampled_from(STYLES), data=st.data())
def test_whatever_is_predicted_passes(tmp_path_factory, sizes, style, data):
    expected = [(f"video{number}", rows) for number, rows in enumerate(sizes)]
    finite = st.floats(-3, 3, allow_nan=False)
    given = {t: data.draw(arrays(np.float64, (rows, 2), elements=finite)) for t, rows in expected}
    out = tmp_path_factory.mktemp("out") / "submission"
    write_submission(out, style, expected, given)
    faults = [f for f in check_submission(out, expected) if "same" not in f.reason]
    assert faults == []


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.pop("102"), "'102'.*no prediction"),
        (lambda p: p.update({"102": p["102"][:-1]}), "'102'.*expected predictions of 3 rows"),
        (lambda p: p["102"].__setitem__((1, 0), np.nan), "'102': row 1 .*no number"),
    ],
)
def test_nothing_is_written_of_incomplete_predictions(tmp_path, style, change, said):
    given = predictions()
    change(given)
    with pytest.raises(DataError, match=said):
        write_submission(tmp_path / "out", style, EXPECTED, given)
    assert not list(tmp_path.iterdir())


def change(number, old, new):
    """Replace text in the line of this number, from 1."""

    def changed(lines):
        assert old in lines[number - 1]
        return [*lines[: number - 1], lines[number - 1].replace(old, new), *lines[number:]]

    return changed


def value(number, column, text):
    def changed(lines):
        fields = lines[number - 1].split(",")
        fields[column] = text
        return [*lines[: number - 1], ",".join(fields), *lines[number:]]

    return changed


def every(column, text):
    def changed(lines):
        for number in range(2, len(lines) + 1):
            lines = value(number, column, text)(lines)
        return lines

    return changed


def swapped(first, second):
    def changed(lines):
        lines = list(lines)
        lines[first - 1], lines[second - 1] = lines[second - 1], lines[first - 1]
        return lines

    return changed


# Line 1 is the header, 2 to 5 are 102-30-640x360, 6 to 8 are 102, 9 to 13 are video2_left.
FAULTS = {
    "no header": (lambda lines: lines[1:], 1, "expected the header"),
    "other header": (change(1, "image_location,", ""), 1, "expected the header"),
    "header in capitals": (change(1, "valence", "Valence"), 1, "expected the header"),
    "row left out": (lambda lines: lines[:6] + lines[7:], 7, "expected 102/00002.jpg"),
    "last row left out": (lambda lines: lines[:-1], 12, "1 of 12 rows are missing"),
    "track left out": (lambda lines: lines[:5] + lines[8:], 6, "expected 102/00001.jpg"),
    "row twice": (lambda lines: [*lines[:7], *lines[6:]], 8, "a second line for 102/00002.jpg"),
    "row at the end": (lambda lines: [*lines, lines[-1]], 14, "a second line"),
    "rows swapped": (swapped(3, 4), 3, "expected 102-30-640x360/00002.jpg"),
    "tracks swapped": (
        lambda lines: [*lines[:5], *lines[8:], *lines[5:8]],
        6,
        "expected 102/00001.jpg, found video2_left/00001.jpg",
    ),
    "unknown track": (change(6, "102/", "103/"), 6, "unknown track '103'"),
    "track by prefix": (change(2, "102-30-640x360/", "102-30/"), 2, "unknown track '102-30'"),
    "image beyond the rows": (change(13, "00005", "00006"), 13, "which has 1 to 5"),
    "image 0": (change(9, "00001", "00000"), 9, "which has 1 to 5"),
    "four digits": (change(9, "00001", "0001"), 9, "five digits"),
    "six digits": (change(9, "00001", "000001"), 9, "five digits"),
    "png": (change(9, ".jpg", ".png"), 9, "five digits"),
    "nan": (value(4, 1, "nan"), 4, "valence is 'nan': not finite"),
    "inf": (value(4, 2, "-inf"), 4, "arousal is '-inf': not finite"),
    "too large": (value(4, 2, "1.01"), 4, "arousal is 1.01"),
    "minus five": (value(4, 1, "-5"), 4, "valence is -5"),
    "minus five, point": (value(13, 2, "-5.0"), 13, "arousal is -5"),
    "no value": (value(4, 1, ""), 4, "no value"),
    "a word": (value(4, 1, "happy"), 4, "expected a number"),
    "hexadecimal": (value(4, 1, "0x1"), 4, "expected a number"),
    "underscore": (value(4, 1, "0.1_0"), 4, "plain decimal"),
    "a space": (value(4, 1, " 0.1"), 4, "a space"),
    "decimal comma": (change(4, "0.", "0,"), 4, "expected 3 values"),
    "index column": (lambda lines: [lines[0], "0," + lines[1], *lines[2:]], 2, "index column"),
    "column left out": (
        lambda lines: [*lines[:4], lines[4].rpartition(",")[0], *lines[5:]],
        5,
        "2",
    ),
    "semicolons": (change(3, ",", ";"), 3, "expected 3 values"),
    "empty line": (lambda lines: [*lines[:5], "", *lines[5:]], 6, "an empty line"),
    "empty line at the end": (lambda lines: [*lines, ""], 14, "an empty line"),
    "constant valence": (every(1, "0.1"), 0, "valence has the same value"),
    "constant arousal": (every(2, "-0.30"), 0, "arousal has the same value"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_in_its_line(written, name):
    damage, line, reason = FAULTS[name]
    path = written["file"]
    lines = damage(path.read_text().removesuffix("\n").split("\n"))
    path.write_text("\n".join(lines) + "\n")
    faults = check_submission(path, EXPECTED)
    assert faults[0].line == line
    assert reason in faults[0].reason


BYTES = {
    "carriage returns": (lambda c: c.replace(b"\n", b"\r\n"), 1, "carriage return"),
    "byte-order mark": (lambda c: b"\xef\xbb\xbf" + c, 1, "byte-order mark"),
    "latin-1": (lambda c: c.replace(b"102/00002", b"\xe902/00002"), 7, "not UTF-8"),
    "end of file": (lambda c: c[:-1], 13, "does not end"),
    "empty": (lambda _: b"", 1, "expected the header"),
    "header only": (lambda c: c[: c.index(b"\n") + 1], 1, "12 of 12 rows are missing"),
}


@pytest.mark.parametrize("name", BYTES)
def test_a_fault_of_the_whole_file_is_found(written, name):
    damage, line, reason = BYTES[name]
    path = written["file"]
    path.write_bytes(damage(path.read_bytes()))
    faults = check_submission(path, EXPECTED)
    assert (faults[0].line, reason in faults[0].reason) == (line, True), faults


def test_valence_copied_to_arousal_is_found(written):
    lines = written["file"].read_text().split("\n")
    copied = [",".join([*line.split(",")[:2], line.split(",")[1]]) for line in lines[1:-1]]
    written["file"].write_text("\n".join([lines[0], *copied, ""]))
    (fault,) = check_submission(written["file"], EXPECTED)
    assert "the same in every row" in fault.reason


@pytest.mark.parametrize(
    ("damage", "file", "line", "reason"),
    [
        (lambda f: (f / "102.txt").unlink(), "102.txt", 0, "missing"),
        (lambda f: (f / "103.txt").write_text("valence,arousal\n"), "103.txt", 0, "no track"),
        (lambda f: (f / "102.csv").write_text("x"), "102.csv", 0, "no track"),
        (lambda f: add(f / "102.txt", "0.1,0.2\n"), "102.txt", 5, "expected 3 rows, found more"),
        (lambda f: add(f / "102.txt", "0.1,-5\n"), "102.txt", 5, "expected 3 rows"),
        (lambda f: drop(f / "102.txt"), "102.txt", 3, "1 of 3 rows are missing"),
    ],
)
def test_a_fault_of_a_folder_is_found(written, damage, file, line, reason):
    damage(written["folder"])
    fault = check_submission(written["folder"], EXPECTED)[0]
    assert (fault.file, fault.line) == (file, line)
    assert reason in fault.reason


def add(path, text):
    path.write_text(path.read_text() + text)


def drop(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def test_a_file_of_many_faults_is_not_read_to_its_end(tmp_path):
    expected = [("a", 5000)]
    (tmp_path / "x").write_text("image_location,valence,arousal\n" + "a/1.jpg,0,0\n" * 5000)
    assert len(check_submission(tmp_path / "x", expected)) == 1000


@pytest.mark.parametrize("style", STYLES)
def test_a_constant_track_among_others_is_no_fault(tmp_path, style):
    given = predictions() | {"102": np.zeros((3, 2))}
    write_submission(tmp_path / "out", style, EXPECTED, given)
    assert check_submission(tmp_path / "out", EXPECTED) == []
    given = {track: np.full((rows, 2), (0.5, -0.25)) for track, rows in EXPECTED}
    write_submission(tmp_path / "out", style, EXPECTED, given)
    found = [fault.reason for fault in check_submission(tmp_path / "out", EXPECTED)]
    assert found == [
        f"{n} has the same value, {v}, in every row"
        for n, v in (("valence", 0.5), ("arousal", -0.25))
    ]


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="found nothing"):
        check_submission(tmp_path / "x", EXPECTED)
