"""Windows: every row is covered, starts lie a hop apart, the last one ends with the track."""

import numpy as np
from concord.fuse.windows import OUTSIDE, windows
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.integers(1, 120)


def by_loop(rows, length, hop):
    starts = []
    start = 0
    while start + length < rows:
        starts.append(start)
        start += hop
    starts.append(max(0, rows - length))
    return [[n if n < rows else OUTSIDE for n in range(s, s + length)] for s in starts]


@given(SIZES, SIZES, SIZES)
def test_equals_loop(rows, length, hop):
    assert windows(rows, length, hop).tolist() == by_loop(rows, length, hop)


@given(SIZES, SIZES, SIZES)
def test_covers_every_row_when_the_hop_fits(rows, length, hop):
    found = windows(rows, length, min(hop, length))
    assert set(found[found != OUTSIDE].tolist()) == set(range(rows))


def test_short_track_is_padded():
    assert np.array_equal(windows(3, 5, 2), [[0, 1, 2, OUTSIDE, OUTSIDE]])
