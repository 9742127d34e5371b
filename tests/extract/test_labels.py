"""Label files: what is accepted, and which line is blamed otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from concord.cache import DataError
from concord.extract.labels import read_labels
from hypothesis import given, settings
from hypothesis import strategies as st

GOOD = "valence,arousal\n0.5,-0.25\n-1,1\n0,0\n"
ROWS = [[0.5, -0.25], [-1, 1], [0, 0]]


@pytest.fixture
def read(tmp_path):
    def run(content):
        path = tmp_path / "102.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_labels(path)

    return run


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.rstrip("\n"),
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        "\ufeff" + GOOD.replace("\n", "\r\n"),
        GOOD.replace(",-0.25", ", -2.5e-1"),
    ],
    ids=["plain", "no-end", "crlf", "bom", "bom-crlf", "spaces"],
)
def test_forms_of_one_file(read, content):
    values, valid = read(content)
    assert values.dtype == np.float64
    assert valid.dtype == np.bool_
    assert np.array_equal(values, ROWS)
    assert valid.tolist() == [True] * 3


@pytest.mark.parametrize("row", ["-5,-5", "-5,0.5", "0.5,-5", "-5.0,-5.000", "-5,7"])
def test_minus_five_in_either_column_is_no_label(read, row):
    values, valid = read(f"valence,arousal\n0.5,0.5\n{row}\n0.25,0.25\n")
    assert valid.tolist() == [True, False, True]
    assert np.array_equal(values, [[0.5, 0.5], [0, 0], [0.25, 0.25]])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.floats(-1, 1), st.floats(-1, 1)) | st.just((-5.0, -5.0)),
        min_size=1,
        max_size=30,
    )
)
def test_every_bit_of_every_row_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("labels") / "a.txt"
    path.write_text("\n".join(["valence,arousal", *(f"{v!r},{a!r}" for v, a in rows)]))
    values, valid = read_labels(path)
    expected = [(0, 0) if row == (-5, -5) else row for row in rows]
    assert np.array_equal(values, expected)
    assert valid.tolist() == [row != (-5, -5) for row in rows]


@pytest.mark.parametrize(
    "header", ["", "arousal,valence", "0.1,0.2", "valence, arousal", "valence;arousal", "Neutral"]
)
def test_other_headers(read, header):
    with pytest.raises(DataError, match=r"102\.txt: expected the header 'valence,arousal'"):
        read(f"{header}\n0.1,0.2\n")


@pytest.mark.parametrize("row", ["0.1", "0.1,0.2,0.3", "a,b", "0.1;0.2", "0.1,", "nan,0", "inf,0"])
@pytest.mark.parametrize("place", [0, 1, 5])
def test_malformed_row_is_named_by_its_line(read, row, place):
    lines = ["0.5,0.5"] * 6
    lines[place] = row
    with pytest.raises(DataError, match=rf"102\.txt, line {place + 2}: expected .*, found '{row}'"):
        read("\n".join(["valence,arousal", *lines]) + "\n")


@pytest.mark.parametrize("row", ["1.001,0", "0,-1.5", "-5.001,0", "5,5", "0.1,100"])
def test_values_outside_are_named_by_their_line(read, row):
    content = f"valence,arousal\n-5,-5\n0.5,0.5\n{row}\n2,2\n"
    with pytest.raises(DataError, match=rf"line 4: expected values in \[-1, 1\].*'{row}'"):
        read(content)


def test_a_file_without_rows_is_refused(read):
    with pytest.raises(DataError, match=r"102\.txt: .*no row"):
        read("valence,arousal\n")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00v", "valence,arousal\n".encode("utf-16")])
def test_other_files(read, content):
    with pytest.raises(DataError, match=r"102\.txt"):
        read(content)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "102.txt")


def test_blank_lines_count_inside_but_not_at_the_end(read):
    values, _ = read("valence,arousal\n0.1,0.2\n0.3,0.4\n\n \n")
    assert values.tolist() == [[0.1, 0.2], [0.3, 0.4]]
    with pytest.raises(DataError, match="line 3: expected two numbers, found ''"):
        read("valence,arousal\n0.1,0.2\n\n0.3,0.4\n")
