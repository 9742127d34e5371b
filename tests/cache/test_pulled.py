"""Pulled shards: marked as they arrive, removed beyond a limit, the least recently used first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from concord.cache import FeatureStore
from concord.cache.pins import pin
from concord.cache.pulled import (
    FOLDER,
    CachingTarget,
    PulledShard,
    make_room,
    overflow,
    pulled_shards,
    use,
)
from concord.cache.selection import Selection
from concord.cache.survey import survey
from concord.cache.transfer import plan_pull
from concord.cache.verify import verify
from hypothesis import given
from hypothesis import strategies as st

from .remotes import ALL, EDITION, NAME, check, fill

SHARDS = st.lists(
    st.builds(
        PulledShard,
        path=st.just(Path("x")),
        stream=st.sampled_from(["s/a", "s/b"]),
        bytes=st.integers(0, 20),
        used=st.integers(0, 5).map(float),
        keys=st.frozensets(st.sampled_from("abcde"), min_size=1),
    ),
    max_size=8,
).map(
    lambda shards: [
        PulledShard(Path(str(n)), s.stream, s.bytes, s.used, s.keys) for n, s in enumerate(shards)
    ]
)
KEYS = st.dictionaries(st.sampled_from(["s/a", "s/b"]), st.sets(st.sampled_from("abcde")))


@given(SHARDS, st.integers(0, 100), KEYS, KEYS)
def test_what_goes(shards, limit, wanted, pinned):
    going = overflow(shards, limit, (wanted, pinned))
    kept = [shard for shard in shards if shard not in going]
    needed = [
        s for s in shards if any(s.keys & set(keys.get(s.stream, ())) for keys in (wanted, pinned))
    ]
    assert not [shard for shard in going if shard in needed]
    free = [shard for shard in kept if shard not in needed]
    # Within the limit, or nothing is left that might go.
    assert sum(shard.bytes for shard in kept) <= limit or not free
    # No more than is necessary: the last one was still too much.
    if going:
        assert sum(shard.bytes for shard in kept) + going[-1].bytes > limit
    # Those that stay were used no earlier than those that go.
    assert not [1 for stays in free for goes in going if stays.used < goes.used]


def pull(store, remote, *tracks):
    how = Selection(tracks=tracks) if tracks else Selection()
    return plan_pull(store, remote, how, kind=CachingTarget).carry_out()


@pytest.fixture
def stores(tmp_path):
    """A remote of three shards, and a store that has computed the first and pulled the others."""
    fill(tmp_path / "remote")
    fill(tmp_path / "mine", ALL[:4])
    pull(tmp_path / "mine", tmp_path / "remote")
    return FeatureStore(tmp_path / "mine"), tmp_path / "remote"


def shard_of(store, track):
    return Path(FeatureStore(store.path)[NAME][track].shard.path)


def last_used(store, track, seconds):
    marker = store.path / FOLDER / f"{shard_of(store, track).name}.json"
    os.utime(marker, (seconds, seconds))


def key_of(store, track):
    return store[NAME][track].key


def test_only_what_was_pulled_is_marked(stores):
    store, _ = stores
    found = pulled_shards(store, survey(store))
    assert {shard.path for shard in found} == {shard_of(store, ALL[k]) for k in (4, 8)}
    for shard in found:
        files = [path for path in shard.path.rglob("*") if path.is_file()]
        assert shard.bytes == sum(path.stat().st_size for path in files)


def test_the_least_recently_used_goes_and_can_be_pulled_again(stores):
    store, remote = stores
    last_used(store, ALL[4], 2000)
    last_used(store, ALL[8], 1000)
    first, second = shard_of(store, ALL[4]), shard_of(store, ALL[8])
    size = sum(shard.bytes for shard in pulled_shards(store, survey(store)))
    assert make_room(store, size, {}) == ()
    (gone,) = make_room(store, size - 1, {})
    assert gone.path == second
    assert (first.exists(), second.exists()) == (True, False)
    assert len(list((store.path / FOLDER).iterdir())) == 1
    assert {finding.kind for finding in verify(FeatureStore(store.path))} <= {"missing"}
    pull(store.path, remote)
    assert check(store.path) == set(ALL)


def test_using_a_shard_keeps_it_longer(stores):
    store, _ = stores
    last_used(store, ALL[4], 1000)
    last_used(store, ALL[8], 2000)
    used = shard_of(store, ALL[4])
    use(store.path, [used.name, shard_of(store, ALL[0]).name, "no such shard"])
    make_room(store, 1, {store[NAME].full_name: {key_of(store, ALL[11])}})
    assert not used.exists()
    pull(store.path, stores[1])
    last_used(store, ALL[8], 2000)
    use(store.path, [used.name])
    (gone,) = make_room(store, gone_bytes(store), {})
    assert gone.path != used


def gone_bytes(store):
    return max(shard.bytes for shard in pulled_shards(store, survey(store)))


def test_what_was_computed_here_stays_whatever_the_limit(stores):
    store, _ = stores
    assert len(make_room(store, 0, {}, coming=10**9)) == 2
    left = FeatureStore(store.path)[NAME]
    assert {item.entry.track for item in left.items.values()} == set(ALL[:4])


def test_what_is_needed_or_pinned_stays(stores):
    store, _ = stores
    full = store[NAME].full_name
    (gone,) = make_room(store, 0, {full: {key_of(store, ALL[5])}})
    assert gone.path.name not in (shard_of(store, ALL[5]).name, shard_of(store, ALL[0]).name)
    pull(store.path, stores[1])
    pin(store, f"mine@{EDITION}")
    assert make_room(store, 0, {}) == ()
    (pinned,) = (store.path / "pins").iterdir()
    pinned.unlink()
    pin(store, full)
    assert make_room(store, 0, {}) == ()


def test_rows_that_are_mapped_stay_right(stores):
    store, _ = stores
    item = store[NAME][ALL[5]]
    rows = item.rows[:10]
    expected = rows.copy()
    make_room(store, 0, {})
    assert (rows == expected).all()


def test_a_shard_of_a_chosen_few_is_marked_too(tmp_path):
    fill(tmp_path / "remote")
    pull(tmp_path / "mine", tmp_path / "remote", ALL[1], ALL[6])
    store = FeatureStore(tmp_path / "mine")
    (found,) = pulled_shards(store, survey(store))
    assert len(found.keys) == 2


def test_a_pull_on_demand_is_not_marked(tmp_path):
    fill(tmp_path / "remote")
    plan_pull(tmp_path / "mine", tmp_path / "remote").carry_out()
    store = FeatureStore(tmp_path / "mine")
    assert pulled_shards(store, survey(store)) == ()
    assert make_room(store, 0, {}) == ()
