"""Bundles without a cluster: everything is computed, and suspicion falls on the right source."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from concord.extract.bundles import MOST_SOURCES, SECONDS, Bundle, Bundles
from hypothesis import given, settings
from hypothesis import strategies as st


def source(name, rows=100):
    return [SimpleNamespace(track=SimpleNamespace(source=name), rows=rows, stream="s", key=name)]


def names(sources):
    return [jobs[0].track.source for jobs in sources]


def ready(count, workers=2, rows=100):
    """Bundles that have looked at some sources."""
    bundles = Bundles(iter([source(str(k), rows) for k in range(count)]))
    while bundles.look(workers):
        pass
    return bundles


def test_the_first_bundle_is_one_source_since_its_speed_is_not_known():
    assert names(ready(40).next(2).sources) == ["0"]


def test_a_bundle_is_half_a_minute_of_work():
    bundles = ready(100, rows=100)
    first = bundles.next(2)
    bundles.worked(first, SECONDS / 5.5)
    assert len(bundles.next(2).sources) == 5
    bundles.worked(first, 1e-6)
    assert len(bundles.next(2).sources) == MOST_SOURCES


def test_bundles_become_smaller_towards_the_end():
    bundles = ready(20)
    bundles.worked(bundles.next(2), 1e-6)
    sizes = []
    while not bundles.empty:
        sizes.append(len(bundles.next(2).sources))
    assert sizes == [5, 4, 3, 2, 2, 1, 1, 1]


def test_sources_are_looked_at_as_they_are_wanted():
    seen = []
    bundles = Bundles(seen.append(k) or source(str(k)) for k in range(1000))
    assert bundles.next(1) is None
    assert not seen
    while bundles.look(2):
        pass
    assert len(seen) == 4 * MOST_SOURCES
    assert not bundles.empty


def test_suspects_are_computed_alone_and_after_all_others():
    bundles = ready(8)
    bundle = Bundle([source("a"), source("b")])
    assert bundles.lost(bundle, bundle.sources) == []
    taken = [bundles.next(1) for _ in range(10)]
    assert [each.alone for each in taken] == [False] * 8 + [True] * 2
    assert [names(each.sources) for each in taken[8:]] == [["a"], ["b"]]
    assert bundles.next(1) is None


def test_who_kills_twice_alone_is_given_up():
    bundles = ready(0)
    first = Bundle([source("a")])
    assert bundles.lost(first, first.sources) == []
    for given_up in ([], ["a"]):
        alone = bundles.next(1)
        assert alone.alone
        assert names(bundles.lost(alone, alone.sources)) == given_up
    assert bundles.empty


def test_what_was_published_is_not_suspected():
    bundles = ready(0)
    bundle = Bundle([source("a"), source("b")])
    assert bundles.lost(bundle, [source("b")]) == []
    assert names(bundles.next(1).sources) == ["b"]
    assert bundles.next(1) is None


@settings(deadline=None)
@given(
    count=st.integers(0, 60),
    poison=st.sets(st.integers(0, 59), max_size=5),
    workers=st.integers(1, 5),
    seed=st.integers(0, 9999),
)
def test_exactly_the_killers_are_given_up(count, poison, workers, seed):
    """A worker dies of a poisonous source after it published some of those before it."""
    chance = random.Random(seed)
    bundles = Bundles(iter([source(str(k)) for k in range(count)]))
    killers = {str(k) for k in poison if k < count}
    done, given_up, deaths = [], [], 0
    while not bundles.empty:
        if bundles.look(workers) and chance.random() < 0.5:
            continue
        bundle = bundles.next(workers)
        if bundle is None:
            continue
        found = names(bundle.sources)
        first = next((k for k, name in enumerate(found) if name in killers), None)
        if first is None:
            done += found
            bundles.worked(bundle, chance.uniform(1, 100))
        else:
            deaths += 1
            published = chance.randint(0, first)
            done += found[:published]
            given_up += names(bundles.lost(bundle, bundle.sources[published:]))
    assert sorted(done + given_up) == sorted(str(k) for k in range(count))
    assert sorted(given_up) == sorted(killers)
    assert deaths <= 3 * len(killers)


@pytest.mark.parametrize("rows", [1, 10_000_000])
def test_a_bundle_is_never_empty(rows):
    bundles = ready(3, rows=rows)
    bundles.worked(bundles.next(1), 1.0)
    assert len(bundles.next(1).sources) == 1
