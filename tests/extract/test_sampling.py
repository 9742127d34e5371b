"""Order of training: every row once, sources mixed, and what is read forward stays so in blocks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from concord.extract.dataset import Track
from concord.extract.sampling import (
    POOL,
    TOGETHER,
    LabelledTrack,
    draw_rows,
    mixed,
    planned,
    together,
)
from hypothesis import given
from hypothesis import strategies as st


def labelled(name, rows, source=None):
    track = Track(
        name=name,
        source=source or name,
        split="train",
        family=name,
        region="whole",
        media=None,
        labels=None,
        faces=None,
    )
    return LabelledTrack(track, np.zeros((rows, 2), np.float32), np.arange(rows))


def plan_of(tracks, batch, seed, *, forward):
    rows = [each.labelled for each in tracks]
    return planned(tracks, rows, batch, np.random.default_rng(seed), forward=forward)


def flat(plan):
    return [place for batch in plan for place in batch]


def sources_at_once(places, tracks):
    """The most sources that have both a row before, or at, a place and one after it."""
    names = [tracks[track].track.source for track, _ in places]
    first = {name: names.index(name) for name in set(names)}
    last = {name: len(names) - 1 - names[::-1].index(name) for name in set(names)}
    return max(sum(first[n] <= k <= last[n] for n in first) for k in range(len(names)))


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    batch=st.integers(1, 50),
    seed=st.integers(0, 99),
    forward=st.booleans(),
)
def test_every_row_comes_once_from_few_sources_at_a_time(sizes, batch, seed, forward):
    tracks = [labelled(str(k), size) for k, size in enumerate(sizes)]
    order = mixed(
        tracks, [t.labelled for t in tracks], np.random.default_rng(seed), forward=forward
    )
    assert sources_at_once(order, tracks) <= POOL
    plan = plan_of(tracks, batch, seed, forward=forward)
    assert Counter(flat(plan)) == Counter(
        (k, row) for k, size in enumerate(sizes) for row in range(size)
    )
    assert max(map(len, plan)) <= batch
    assert plan_of(tracks, batch, seed, forward=forward) == plan


@pytest.mark.parametrize("batch", [32, 50, 300])
def test_what_is_read_forward_goes_back_only_within_what_is_loaded_together(batch):
    tracks = [labelled(str(k), 400) for k in range(3)]
    plan = plan_of(tracks, batch, 1, forward=True)
    size = together(plan)
    assert size == max(1, TOGETHER // batch)
    reached = dict.fromkeys(range(3), -1)
    for first in range(0, len(plan), size):
        places = flat(plan[first : first + size])
        for track in range(3):
            rows = sorted(row for own, row in places if own == track)
            assert rows
            assert rows[0] > reached[track]
            reached[track] = rows[-1]


@pytest.mark.parametrize(("forward", "least"), [(True, 25), (False, 100)])
def test_rows_of_a_batch_lie_far_apart(forward, least):
    tracks = [labelled(str(k), 400) for k in range(3)]
    plan = plan_of(tracks, 32, 2, forward=forward)
    apart = [
        np.ptp([row for own, row in batch if own == track])
        for batch in plan
        for track in range(3)
        if sum(own == track for own, _ in batch) > 1
    ]
    # Rows of a batch that just go forward lie within some twelve.
    assert np.mean(apart) > least


def test_two_persons_of_one_picture_are_read_together():
    tracks = [labelled("a_left", 50, "a"), labelled("a_right", 50, "a"), labelled("b", 50)]
    rng = np.random.default_rng(0)
    order = mixed(tracks, [t.labelled for t in tracks], rng, forward=True)
    of_a = [row for track, row in order if track < 2]
    assert of_a == sorted(of_a)


def test_rows_are_drawn_evenly_from_tracks_or_rows():
    tracks = [labelled("long", 900), labelled("short", 100)]
    rng = np.random.default_rng(0)
    assert [len(rows) for rows in draw_rows(tracks, 180, "tracks", rng)] == [90, 90]
    sizes = np.mean(
        [[len(r) for r in draw_rows(tracks, 180, "rows", rng)] for _ in range(50)], axis=0
    )
    assert sizes == pytest.approx([162, 18], abs=3)
    drawn = draw_rows(tracks, 180, "tracks", rng)
    assert all((np.diff(rows) > 0).all() for rows in drawn)
