"""Windows against loops that say in plain words which frame each place of a clip holds."""

from __future__ import annotations

import numpy as np
import pytest
from concord.extract.windows import OUTSIDE, Window, interpolated
from hypothesis import given, settings
from hypothesis import strategies as st

WINDOWS = st.builds(
    Window,
    length=st.integers(1, 20),
    spacing=st.integers(1, 5),
    anchor=st.sampled_from(["centre", "end", "start"]),
    edge=st.sampled_from(["replicate", "reflect", "zero", "black"]),
)


def naive(window, frame, frames):
    """One place of the clip after another."""
    before = {"centre": (window.length - 1) // 2, "end": window.length - 1, "start": 0}
    clip = []
    for place in range(window.length):
        number = frame + (place - before[window.anchor]) * window.spacing
        while window.edge == "reflect" and frames > 1 and not 0 <= number < frames:
            number = -number if number < 0 else 2 * (frames - 1) - number
        if window.edge in ("zero", "black") and not 0 <= number < frames:
            clip.append(OUTSIDE)
        else:
            clip.append(min(max(number, 0), frames - 1))
    return clip


@given(WINDOWS, st.integers(1, 60), st.data())
def test_numbers_equal_the_loop(window, frames, data):
    frame = data.draw(st.integers(0, frames - 1))
    assert window.numbers(frame, frames).tolist() == naive(window, frame, frames)


def test_numbers_equal_numpys_padding():
    frames = np.arange(9)
    for edge, mode in (("replicate", "edge"), ("reflect", "reflect")):
        padded = np.pad(frames, 7, mode=mode)
        for frame in frames:
            wanted = Window(length=15, edge=edge).numbers(int(frame), 9)
            assert np.array_equal(wanted, padded[frame : frame + 15])


def test_the_centre_of_an_even_window_lies_before_the_middle():
    assert Window(length=16).offsets == tuple(range(-7, 9))
    assert Window(length=15).offsets == tuple(range(-7, 8))
    assert Window(length=8, spacing=4, anchor="end").offsets == tuple(range(-28, 1, 4))
    assert Window(length=3, spacing=2, anchor="start").offsets == (0, 2, 4)


@settings(max_examples=300)
@given(WINDOWS, st.integers(1, 60), st.data())
def test_what_is_told_while_the_end_is_unknown_holds(window, frames, data):
    """A window that may be cut early is the same at the end; what is dropped is never wanted."""
    frame = data.draw(st.integers(0, frames - 1))
    seen = data.draw(st.integers(frame + 1, frames))
    wanted = window.numbers(frame, frames)
    if window.last_needed(frame) < seen:
        assert np.array_equal(window.numbers(frame, seen), wanted)
    kept = window.first_kept(frame, seen)
    for later in range(frame, frames):
        for end in range(max(seen, later + 1), frames + 1):
            numbers = window.numbers(later, end)
            assert (numbers[numbers != OUTSIDE] >= kept).all()


@given(WINDOWS, st.integers(1, 9), st.integers(1, 80))
def test_wanted_frames_are_those_of_the_strides_windows(window, stride, number):
    rows = range(-200 * stride, 300 * stride, stride)
    reached = {row + offset for row in rows for offset in window.offsets}
    assert window.wants(number, stride) == (number in reached)


@settings(max_examples=200)
@given(st.data())
def test_rows_between_computed_ones_are_filled_in_time(data):
    rows = data.draw(st.integers(1, 40))
    clock = np.cumsum(data.draw(st.lists(st.floats(0.01, 2), min_size=rows, max_size=rows)))
    anchors = sorted(data.draw(st.sets(st.integers(0, rows - 1), min_size=1)))
    values = np.random.default_rng(rows).standard_normal((len(anchors), 3))
    found = interpolated(values, np.array(anchors), clock, "linear")
    for dim in range(3):
        assert np.allclose(found[:, dim], np.interp(clock, clock[anchors], values[:, dim]))
    assert np.array_equal(found[anchors], values)
    nearest = interpolated(values, np.array(anchors), clock, "nearest")
    for row in range(rows):
        apart = np.abs(clock[anchors] - clock[row])
        near = np.flatnonzero(apart <= apart.min() + 1e-9)
        assert any(np.array_equal(nearest[row], values[place]) for place in near)


@pytest.mark.parametrize("fill", ["linear", "nearest"])
def test_what_no_computed_row_is_near_never_leaks(fill):
    values = np.array([[1.0], [np.nan], [3.0]])
    found = interpolated(values, np.array([0, 2, 4]), np.arange(5.0), fill)
    assert found[[0, 4], 0].tolist() == [1.0, 3.0]
