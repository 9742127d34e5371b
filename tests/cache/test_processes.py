"""Writers that are killed: nothing is ever half there, and nothing that was there is lost."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter

import pytest
from concord.cache import FeatureStore, ShardFormat, StoreError, digest
from concord.cache.collect import Roots, plan_collection

from .workers import NAME, NARROW, RECIPE, Workers, check_item, keys_of, manifest

FULL_NAME = f"{NAME}@{digest(RECIPE)}"
LATEST = 0.2
"""Seconds within which a writer is killed: it publishes a shard in 0.02 to 0.1."""
FEW, MANY, ROUND = 10, 200, 25
"""Kills by default, kills of the exhaustive test, and kills before a new store is begun."""


@pytest.fixture(scope="module")
def workers():
    with Workers() as workers:
        yield workers


def leftovers(folder):
    """Unfinished folders and files; what lies in an unfinished folder is not listed by itself."""
    found = set(folder.rglob(".tmp-*"))
    return {path for path in found if not found & set(path.parents)}


def stage(leftover):
    """Say how far the making of a shard had come."""
    names = {path.name for path in leftover.iterdir()}
    if "seal.json" in names:
        return "sealed"
    if "provenance.json" in names:
        return "fsync, seal"
    if any(name.endswith(("index.json", "provenance.json")) for name in names):
        return "index"
    return "arrays"


def keys_in(path, *, mapped=True, skip=frozenset()):
    """Open a store anew and check all of it; gives the keys of its items."""
    store = FeatureStore(path, mapped=mapped)
    for stream in store.streams():
        assert stream.damages == ()
        for shard in stream.shards:
            (number,) = {key.partition("-")[0] for key in shard.entries}
            assert list(shard.entries) == keys_of(number), "a shard is whole or not there"
        for key in stream.items.keys() - skip:
            check_item(stream.items[key])
    return {key for stream in store.streams() for key in stream.items}


def acknowledged(path):
    return {key for line in path.read_text().split() for key in keys_of(line)}


def await_more(path, seen):
    """Look on as a reader until something is published."""
    latest = time.monotonic() + 60
    while keys_in(path, skip=seen) == seen:
        assert time.monotonic() < latest, "the writer publishes nothing"


def kill_writers(workers, folder, shards, kills, chance):
    """Kill writers of one store at random moments; gives where each of them was."""
    store = FeatureStore.create(folder / "store", shards)
    noted, seen, old, stages = folder / "noted", set(), set(), Counter()
    noted.touch()
    for k in range(kills):
        child = workers.start("endless", store.path, k * 10_000, noted)
        if k % 3:  # The third comes early.
            await_more(store.path, seen)
        time.sleep(chance.uniform(0, LATEST))
        seen |= keys_in(store.path, skip=seen)
        workers.kill(child)
        found = keys_in(store.path)
        assert seen | acknowledged(noted) <= found
        seen = found
        left = leftovers(store.path)
        assert len(left - old) <= 1
        stages[stage(*(left - old)) if left - old else "between"] += 1
        old = left
    collect(store, old)
    assert keys_in(store.path) == keys_in(store.path, mapped=False) == seen
    return stages, len(seen)


def collect(store, left):
    """Have the leftovers collected, and nothing else."""
    plan = plan_collection(store, Roots(streams=frozenset({FULL_NAME})), grace_seconds=0)
    assert {(removal.kind, removal.path) for removal in plan.removals} == {
        ("leftover", path) for path in left
    }
    assert plan.delete().kept == ()
    assert leftovers(store.path) == set()


@pytest.mark.parametrize("name", ["zarr", "hdf5"])
@pytest.mark.parametrize("kills", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_killed_writer_leaves_whole_items_only(workers, tmp_path, name, kills):
    chance, stages, items = random.Random(kills), Counter(), 0
    for start in range(0, kills, ROUND):
        folder = tmp_path / str(start)
        folder.mkdir()
        found, number = kill_writers(
            workers, folder, ShardFormat(name), min(ROUND, kills - start), chance
        )
        stages += found
        items += number
    print(f"\n{kills} kills, {name}: {dict(stages)}; {items} items published, all of them right")
    # Kills must have hit shards in the making, and in the long test at several stages of it.
    assert items > kills
    assert stages.total() == kills
    assert set(stages) & {"arrays", "fsync, seal"}
    assert kills < MANY or {"between", "arrays", "fsync, seal"} <= set(stages)


def progress(path, shards):
    """Say how much of a store has been made, all of it whole: 0 to 6 steps that readers see."""
    if not (path / "store.json").exists():
        with pytest.raises(StoreError, match="no store here"):
            FeatureStore(path)
        return 0
    store = FeatureStore(path)
    assert store.format == shards
    done = 1
    for stream in store.streams():
        assert (stream.full_name, stream.recipe, stream.damages) == (FULL_NAME, RECIPE, ())
        held = sorted(list(shard.entries) for shard in stream.shards)
        assert held == [keys_of(number) for number in range(len(held))]
        for item in stream.items.values():
            check_item(item, NARROW)
        done += 1 + len(held)
    return done + manifest_number(store) + 1


def manifest_number(store):
    """Give the number of the store's one manifest, every row of which says it; -1 for none."""
    found = store.manifests()
    numbers = [table.tracks[0].rows for table in found]
    assert list(found) == [manifest(number) for number in numbers]
    assert len(numbers) <= 1
    return numbers[0] if numbers else -1


def die_at(workers, path, shards, step):
    """Have a store made up to a step; gives how much of it there is."""
    child = workers.start("life", *life(path, shards, step))
    assert workers.wait(child) == (-signal.SIGKILL, None)
    return progress(path, shards)


@pytest.mark.parametrize(
    ("name", "compressed", "kills"),
    [
        ("zarr", False, 5),
        ("hdf5", False, 5),
        *(
            pytest.param(name, compressed, None, marks=pytest.mark.slow)
            for name in ("zarr", "hdf5")
            for compressed in (False, True)
        ),
    ],
)
def test_killed_before_any_step_a_store_is_whole_and_can_be_gone_on_with(
    workers, tmp_path, name, compressed, kills
):
    shards, seen = ShardFormat(name, compressed=compressed), []
    (steps,) = workers.all(("life", *life(tmp_path / "whole", shards)))
    assert progress(tmp_path / "whole", shards) == 6
    for step in range(1, steps + 1, steps // kills if kills else 1):
        path = tmp_path / str(step)
        seen.append(die_at(workers, path, shards, step))
        workers.all(("life", *life(path, shards)))
        assert progress(path, shards) == 6
        shutil.rmtree(path)
    print(f"\n{shards}: killed before {len(seen)} of {steps} steps; {dict(Counter(seen))}")
    assert seen == sorted(seen)
    assert kills or set(seen) == set(range(7))


def life(path, shards, last=0):
    return str(path), shards.name, shards.compressed, last


@pytest.mark.parametrize("kills", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_manifest_is_the_old_or_the_new_one(workers, tmp_path, kills):
    store, chance = FeatureStore.create(tmp_path / "store"), random.Random(kills)
    noted, last, cut = tmp_path / "noted", -1, 0
    noted.touch()
    for _ in range(kills):
        child = workers.start("manifests", store.path, last + 1, noted)
        latest = time.monotonic() + 60
        while manifest_number(FeatureStore(store.path)) == last:
            assert time.monotonic() < latest, "the writer publishes nothing"
        deadline = time.monotonic() + chance.uniform(0, LATEST / 2)
        while time.monotonic() < deadline:
            beside = manifest_number(FeatureStore(store.path))
            assert beside >= last
            last = beside
        workers.kill(child)
        found = manifest_number(FeatureStore(store.path))
        assert found >= max([last, *map(int, noted.read_text().split())])
        last = found
    cut = len(leftovers(store.path))
    print(f"\n{kills} kills, {last + 1} manifests, {cut} cut off in the making")
    assert last >= kills - 1
    assert kills < MANY or cut
