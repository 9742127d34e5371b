"""Rows against a loop that says in plain words what each row gets."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from concord.cache import REPEATED
from concord.extract.rows import new_item, row_times, settled
from hypothesis import given, settings
from hypothesis import strategies as st


def naive(features, times, rows):
    """Row i is frame i; later rows repeat the last frame for half a second."""
    step = statistics.median(b - a for a, b in itertools.pairwise(times))
    values, valid, at, flags = [], [], [], []
    for row in range(rows):
        if row < len(features):
            values.append(features[row])
            valid.append(True)
            at.append(times[row])
            flags.append(0)
            continue
        at.append(times[-1] + (row - len(features) + 1) * step)
        near = at[-1] <= times[-1] + 0.5
        values.append(features[-1] if near else [0.0] * len(features[0]))
        valid.append(near)
        flags.append(REPEATED if near else 0)
    return np.array(values), np.array(valid), np.array(at), np.array(flags)


def rows_from_frames(features, frame_times, rows):
    """What a track gets of a file whose frames are all there."""
    count = min(len(features), rows)
    values = np.zeros((rows, features.shape[1]), features.dtype)
    values[:count] = features[:count]
    times = row_times(frame_times, rows)
    fitted, valid, flags = settled(values, np.arange(rows) < count, times)
    return fitted, valid, times, flags


STEPS = st.lists(st.floats(0.01, 0.4), min_size=1, max_size=30)


@settings(deadline=None)
@given(STEPS, st.integers(1, 80), st.floats(-5, 100))
def test_rows_equal_the_loop(steps, rows, start):
    times = start + np.cumsum([0.0, *steps])
    features = np.arange(1.0, 3 * len(times) + 1).reshape(-1, 3)
    found = rows_from_frames(features, times, rows)
    # Only the frames that rows have decide how time goes on.
    expected = naive(features[:rows].tolist(), times.tolist()[: max(rows, 2)], rows)
    assert np.allclose(found[2], expected[2], rtol=0, atol=1e-9)
    unclear = np.abs(expected[2] - (times[: len(features)][:rows][-1] + 0.5)) < 1e-9
    for mine, theirs in zip(found[:2] + found[3:], expected[:2] + expected[3:], strict=True):
        assert mine.shape == theirs.shape
        assert np.array_equal(mine[~unclear], theirs[~unclear])


@pytest.mark.parametrize(
    ("frames", "rows", "repeated", "invalid"),
    [
        (10, 10, 0, 0),
        (12, 10, 0, 0),
        (9, 10, 1, 0),
        (5, 10, 5, 0),  # row 9 lies exactly 0.5 s after frame 4
        (4, 10, 5, 1),
        (2, 20, 5, 13),
    ],
)
def test_half_a_second_at_ten_frames(frames, rows, repeated, invalid):
    features = np.arange(1, frames + 1, dtype=np.float32)[:, None]
    times = np.arange(frames) * 0.1
    values, valid, at, flags = rows_from_frames(features, times + 1e-12, rows)
    assert int((flags == REPEATED).sum()) == repeated
    assert int((~valid).sum()) == invalid
    assert len(values) == len(at) == rows
    assert not values[~valid].any()
    assert (values[valid] == np.minimum(np.arange(rows) + 1, frames)[valid, None]).all()


def test_frames_are_not_changed():
    features, times = np.ones((2, 3)), np.array([0.0, 0.1])
    rows_from_frames(features, times, 30)
    assert (features == 1).all()
    assert times.tolist() == [0.0, 0.1]


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.floats(0.02, 0.3))
def test_rows_after_any_gap_equal_the_loop(own, step):
    times = np.arange(len(own)) * step
    values = np.arange(1.0, len(own) + 1)[:, None]
    fitted, valid, flags = settled(values, np.array(own), times)
    last = None
    for row, there in enumerate(own):
        last = row if there else last
        near = last is not None and times[row] - times[last] <= 0.5
        assert valid[row] == near
        assert flags[row] == (REPEATED if near and not there else 0)
        assert fitted[row, 0] == (values[last, 0] if near else 0)


def test_without_a_clock_nothing_is_repeated():
    own = np.array([True, False, True, False])
    fitted, valid, flags = settled(np.ones((4, 2)), own, np.full(4, np.nan))
    assert valid.tolist() == own.tolist()
    assert not flags.any()
    assert not fitted[~own].any()


def test_variable_rate_goes_on_at_the_median_step():
    times = np.array([0.0, 0.1, 0.2, 1.2, 1.3])
    assert np.allclose(row_times(times, 8)[5:], [1.4, 1.5, 1.6])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_stored_values_are_clipped_and_zero_where_invalid(dtype):
    values = np.array([[1e9, -1e9], [0.1, 70000.0], [3.0, 4.0]])
    valid = np.array([True, True, False])
    item = new_item("k", "t", values, valid, np.zeros(3), dtype=dtype)
    limit = float(np.finfo(dtype).max)
    assert item.rows.dtype == np.dtype(dtype)
    assert np.isfinite(item.rows).all()
    assert np.array_equal(item.rows[:2], np.clip(values[:2], -limit, limit).astype(dtype))
    assert not item.rows[2].any()


def test_a_lone_frame_is_not_repeated_for_ever():
    values, valid, times, flags = rows_from_frames(np.ones((1, 2)), np.array([0.2]), 40)
    assert valid.sum() == 1 + 15
    assert flags.sum() == 15
    assert times[30] == pytest.approx(1.2)
    assert not values[20:].any()
