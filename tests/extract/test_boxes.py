"""Box files: what is cut out of a frame, and which files are refused."""

from __future__ import annotations

import numpy as np
import pytest
from concord.cache import MediaError
from concord.extract.boxes import boxed, read_boxes
from hypothesis import given
from hypothesis import strategies as st

HEAD = "row,left,top,right,bottom\n"


def write(path, text):
    path.write_text(text)
    return path


def test_rows_without_a_face_are_absent(tmp_path):
    path = write(tmp_path / "a.csv", HEAD + "0,1,2,30,40\n3,1.6,2.4,30,40\n\n9,0,0,1,1\n")
    assert read_boxes(path, 9) == {0: (1, 2, 30, 40), 3: (1.6, 2.4, 30, 40)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected the header"),
        ("frame,x,y,w,h\n0,1,2,3,4\n", "found 'frame,x,y,w,h'"),
        (HEAD, "holds no box for rows 0 to 4"),
        (HEAD + "7,0,0,1,1\n", "holds no box for rows 0 to 4"),
        (HEAD + "0,0,0,1\n", "line 2: expected a row and four numbers"),
        (HEAD + "0,0,0,1,1\nx,0,0,1,1\n", "line 3: expected a row"),
        (HEAD + "0,5,0,1,1\n", "line 2: expected left < right"),
        (HEAD + "0,0,nan,1,1\n", "line 2: expected left < right"),
        (HEAD + "-1,0,0,1,1\n", "line 2: expected left"),
    ],
)
def test_other_files_are_refused(tmp_path, text, says):
    with pytest.raises(MediaError, match=says):
        read_boxes(write(tmp_path / "a.csv", text), 5)
    with pytest.raises(MediaError, match=r"none\.csv: box file cannot be read"):
        read_boxes(tmp_path / "none.csv", 5)


@given(*[st.integers(-30, 60)] * 2, *[st.integers(1, 40)] * 2)
def test_what_lies_beyond_the_picture_is_black(left, top, width, height):
    image = np.random.default_rng(0).integers(1, 256, (20, 30, 3), np.uint8)
    found = boxed(image, (left, top, left + width, top + height))
    padded = np.pad(image, ((100, 100), (100, 100), (0, 0)))
    expected = padded[100 + top : 100 + top + height, 100 + left : 100 + left + width]
    if found.shape == expected.shape:
        assert np.array_equal(found, expected)
    else:
        # Cut at one picture's size beyond the edge, where all is black.
        assert found.sum() == expected.sum()


def test_a_box_far_outside_takes_no_memory():
    image = np.ones((20, 30, 3), np.uint8)
    assert boxed(image, (-1e9, -1e9, 1e9, 1e9)).shape == (60, 90, 3)
    assert boxed(image, (1e8, 0, 2e8, 10)).shape == (1, 1, 3)
    assert boxed(image, (3.2, 4.4, 3.3, 4.4001)).shape == (1, 1, 3)
