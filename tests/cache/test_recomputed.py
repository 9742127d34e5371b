"""Items computed once more: what is chosen, how far rows lie apart, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from concord.cache import DataError, FeatureStore, NotInStoreError
from concord.cache.recomputed import ROW_TOLERANCE, compare, distance, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from .remotes import ALL, NAME, fill, new_item

SIZE = {"rows": 30, "dim": 4}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("store") / "s", **SIZE)


def computed(each, **changed):
    return {**new_item(each.stream, each.track, **SIZE).arrays(), **changed}


def test_a_sample_is_of_what_is_listed_each_once(store):
    every = sample(store, 100)
    assert [each.track for each in every] == list(ALL)
    some = sample(store, 5)
    assert len({each.key for each in some}) == 5
    assert [e.key for e in sample(store, 5, seed=3)] == [e.key for e in sample(store, 5, seed=3)]
    assert len({tuple(e.track for e in sample(store, 5)) for _ in range(20)}) > 1
    assert len(sample(store, 2, (NAME,), "mine")) == 2
    for arguments in ((("audio/none",), None), ((), "other")):
        with pytest.raises(NotInStoreError):
            sample(store, 2, *arguments)


def test_an_empty_store_has_nothing_to_sample(tmp_path):
    with pytest.raises(NotInStoreError, match="no manifest lists"):
        sample(FeatureStore.create(tmp_path / "s"), 3)


def test_outcomes(store):
    (each,) = sample(store, 1, seed=1)
    whole = computed(each)
    assert compare(each, computed).outcome == "equal"
    assert compare(each, computed).distance == 0
    for name, change in (
        ("valid", ~whole["valid"]),
        ("flags", whole["flags"] ^ 2),
        ("times", whole["times"] + 1e-9),
    ):
        found = compare(each, lambda e, n=name, c=change: computed(e, **{n: c}))
        assert (found.outcome, found.why, found.distance) == ("differs", name, None)
    found = compare(each, lambda e: computed(e, x=whole["x"][:-1]))
    assert found.outcome == "differs"
    assert "stored (30, 4), computed (29, 4)" in found.why

    def fails(_):
        raise DataError("no media here")

    found = compare(each, fails)
    assert (found.outcome, found.why) == ("not recomputed", "no media here")


@pytest.mark.parametrize(("factor", "outcome"), [(0.9, "equal"), (1.1, "differs")])
def test_the_tolerance_is_relative_to_a_rows_largest_value(store, factor, outcome):
    (each,) = sample(store, 1, seed=1)
    rows = computed(each)["x"].astype(np.float64)
    largest = np.abs(rows[7]).max()
    rows[7, int(np.argmin(np.abs(rows[7])))] += ROW_TOLERANCE["float16"] * largest * factor
    found = compare(each, lambda e: computed(e, x=rows))
    assert found.outcome == outcome
    assert found.distance == pytest.approx(ROW_TOLERANCE["float16"] * factor)


def test_what_is_damaged_is_said_to_be(tmp_path):
    store = fill(tmp_path / "s", **SIZE)
    sampled = sample(store, 12)
    with Path(store[NAME].shards[0].path, "x/c/0/0").open("r+b") as file:
        file.write(b"\xff\xff\xff\xff")
    outcomes = [compare(each, computed).outcome for each in sampled]
    assert outcomes.count("damaged") == len(store[NAME].shards[0].entries)
    assert set(outcomes) == {"damaged", "equal"}


numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)
pairs = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.float32, shape, elements=numbers)] * 2)
)


def plain_distance(stored, other):
    worst = 0.0
    for row, again in zip(stored.tolist(), other.tolist(), strict=True):
        largest = max((abs(v) for v in row), default=0.0)
        for a, b in zip(row, again, strict=True):
            if a == b or (a != a and b != b):
                continue
            apart = abs(a - b)
            if not (apart < np.inf) or not (0 < largest < np.inf):
                return np.inf
            worst = max(worst, apart / largest)
    return worst


@given(pairs)
@settings(max_examples=200, deadline=None)
def test_distance_by_a_loop(arrays):
    found, expected = distance(*arrays), plain_distance(*arrays)
    assert found == expected or found == pytest.approx(expected) or max(found, expected) == np.inf
    assert (found == 0) == np.array_equal(*arrays, equal_nan=True)
