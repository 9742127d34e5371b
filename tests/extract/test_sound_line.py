"""Sound lines against plain arrays."""

from __future__ import annotations

import numpy as np
import pytest
from concord.extract.media import Sound
from concord.extract.sound_line import SMALL, SoundLine
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), min_size=1, max_size=12),
    st.floats(-3, 3),
)
def test_cuts_equal_a_plain_array(stretches, start):
    rate = 10
    line, plain, at = SoundLine(rate), np.zeros(1000, np.float32), 0
    for number, (gap, length) in enumerate(stretches):
        at += gap if number else 0
        samples = np.arange(1, length + 1, dtype=np.float32) + 100 * number
        plain[at : at + length] = samples
        line.add(Sound(start + at / rate, rate, samples))
        at += length
    assert line.length == at
    assert line.end_s == pytest.approx(start + at / rate)
    for first, end in ((0, at), (-5, at + 5), (at // 3, at // 2 + 1)):
        expected = [plain[k] if 0 <= k < 1000 else 0.0 for k in range(first, end)]
        assert line.cut(first, end).tolist() == expected


def test_what_came_first_stays():
    line = SoundLine(10)
    line.add(Sound(0.0, 10, np.ones(20, np.float32)))
    line.add(Sound(1.0, 10, np.full(20, 2, np.float32)))
    line.add(Sound(0.5, 10, np.full(5, 3, np.float32)))
    assert line.cut(0, 30).tolist() == [1.0] * 20 + [2.0] * 10
    assert line.length == 30


def test_a_slow_drift_is_followed():
    line = SoundLine(8000)
    for k in range(400):
        line.add(Sound(k * 0.0201, 8000, np.ones(160, np.float32)))
    assert line.end_s == pytest.approx(399 * 0.0201 + 0.02, abs=3e-3)


def test_times_rounded_to_milliseconds_tear_no_holes():
    line = SoundLine(44_100)
    whole = np.arange(1, 1 + 1024 * 50, dtype=np.float32)
    for k in range(50):
        start = round(k * 1024 / 44_100, 3)
        line.add(Sound(start, 44_100, whole[1024 * k : 1024 * (k + 1)]))
    assert np.array_equal(line.cut(0, line.length), whole)


def test_only_what_is_needed_is_kept():
    line = SoundLine(1000)
    line.keep(3000, 9000)
    for k in range(12):
        line.add(Sound(float(k), 1000, np.full(1000, k, np.float32)))
    assert 6000 <= line.kept <= 6000 + 2 * SMALL
    assert line.cut(2999, 3001).tolist()[1] == 3.0
    line.keep(9000, 9000)
    assert line.kept <= 2 * SMALL
    assert line.length == 12_000


def test_pieces_are_few():
    line = SoundLine(44_100)
    for k in range(10_000):
        line.add(Sound(k / 44_100, 44_100, np.float32([k])))
    assert len(line._pieces) <= 1 + 10_000 // SMALL
    assert line.cut(4000, 5000).tolist() == list(range(4000, 5000))


def test_nothing_is_no_beginning():
    line = SoundLine(10)
    line.add(Sound(5.0, 10, np.zeros(0, np.float32)))
    assert line.start_s is None
    with pytest.raises(ValueError, match="has 20 samples per second, expected 10"):
        line.add(Sound(0.0, 20, np.zeros(3, np.float32)))
