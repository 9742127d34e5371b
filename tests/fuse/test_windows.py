"""Windows: starts lie a hop apart, ends follow their rule, and every row is predicted."""

from dataclasses import replace

import numpy as np
import pytest
from concord.fuse.settings import PRESETS, WindowSettings
from concord.fuse.windows import OUTSIDE, cut
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.integers(1, 90)
LENGTHS = st.integers(1, 20)
DILATIONS = st.integers(1, 6)
TAILS = st.sampled_from(["align", "pad", "drop"])


def settings(length, hop, dilation, tail="align"):
    return WindowSettings(
        length=length, hop=hop, hop_scoring=hop, dilation=dilation, tail=tail
    ).resolved()


def by_loop(rows, length, hop, dilation, tail):
    """Windows of one track, group by group."""
    span = length * dilation
    groups, at = [], 0
    while at + span < rows:
        groups.append(at)
        at += hop
    groups.append(max(0, rows - span) if tail == "align" else at)
    found = []
    for group in groups:
        for start in range(group, group + dilation):
            window = [start + i * dilation for i in range(length)]
            if start >= rows or (tail == "drop" and window[-1] >= rows):
                continue
            found.append([n if n < rows else OUTSIDE for n in window])
    return found


def numbers(rows, window, **options):
    windows = cut([0], [rows], window, **options)
    return windows.rows(np.arange(len(windows)))


@given(SIZES, LENGTHS, SIZES, DILATIONS, TAILS)
def test_equals_loop(rows, length, hop, dilation, tail):
    found = numbers(rows, settings(length, hop, dilation, tail))
    assert found.tolist() == by_loop(rows, length, hop, dilation, tail)


@given(SIZES, LENGTHS, SIZES, DILATIONS, TAILS)
def test_scoring_covers_every_row(rows, length, hop, dilation, tail):
    window = settings(length, min(hop, length * dilation), dilation, tail)
    found = numbers(rows, window, scoring=True)
    assert set(found[found != OUTSIDE].tolist()) == set(range(rows))


@given(st.integers(1, 2000))
def test_livia_predicts_every_row_once(rows):
    found = numbers(rows, WindowSettings(preset="livia").resolved(), scoring=True)
    assert sorted(found[found != OUTSIDE].tolist()) == list(range(rows))


def test_livia_is_what_was_published():
    """The first sequence holds every 32nd row, the next starts a row later, then 481 rows on."""
    found = numbers(1024, WindowSettings(preset="livia").resolved())
    assert found.shape == (64, 16)
    assert found[0].tolist() == list(range(0, 512, 32))
    assert (found[1] - found[0] == 1).all()
    assert found[32][0] == found[31][0] + 481


def test_livia_drops_what_leaves_the_track_as_published():
    """As published, videos under 481 frames give nothing."""
    window = WindowSettings(preset="livia", tail="drop").resolved()
    assert [len(cut([0], [rows], window)) for rows in (480, 481, 482, 1024)] == [0, 1, 2, 64]


def test_sucv_is_what_was_published():
    """730 frames: windows of 300 with hop 200, the last aligned to the end."""
    windows = cut([0], [730], WindowSettings(preset="sucv").resolved())
    assert windows.starts.tolist() == [0, 200, 400, 430]


def test_whole_tracks_are_as_long_as_the_longest_chosen():
    windows = cut([0, 5, 8], [5, 3, 9], WindowSettings(preset="whole").resolved())
    assert windows.rows(np.array([1])).tolist() == [[5, 6, 7]]
    assert windows.rows(np.array([1, 0])).tolist() == [[5, 6, 7, OUTSIDE, OUTSIDE], [0, 1, 2, 3, 4]]


def test_windows_of_many_tracks_stay_in_theirs():
    window = settings(4, 3, 2, "pad")
    windows = cut([10, 40], [9, 5], window)
    for i, track in enumerate(windows.tracks):
        found = windows.rows(np.array([i]))[0]
        first, count = ((10, 9), (40, 5))[track]
        inside = found[found != OUTSIDE]
        assert (inside >= first).all()
        assert (inside < first + count).all()
        own = by_loop(count, 4, 3, 2, "pad")[i - int(np.flatnonzero(windows.tracks == track)[0])]
        assert found.tolist() == [n + first if n != OUTSIDE else n for n in own]


def test_chosen_windows_keep_their_shape():
    windows = cut([0], [50], settings(4, 3, 1))
    chosen = np.array([[3, 1], [0, 2]])
    found = windows.rows(chosen)
    assert found.shape == (2, 2, 4)
    assert found[1, 1].tolist() == windows.rows(np.array([2]))[0].tolist()


@pytest.mark.parametrize("preset", ["short", "sucv", "livia", "whole"])
def test_resolving_is_done_once(preset):
    window = WindowSettings(preset=preset).resolved()
    assert window.resolved() == window
    if preset in PRESETS:
        assert window == replace(PRESETS[preset], preset=preset)


def test_another_length_moves_the_hop_of_interleaved_windows():
    window = WindowSettings(preset="livia", length=8).resolved()
    assert (window.hop, window.hop_scoring) == (256, 256)
    assert WindowSettings(length=4).resolved().hop_scoring == 4
