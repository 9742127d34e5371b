"""Real processes that write, read, compact and collect at once, and are killed."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from concord.cache import FeatureStore

pytestmark = pytest.mark.usefixtures("streams")


ROLES = """
import os, signal, sys, time, traceback, random
import numpy as np, zarr, zarr.codecs, h5py
from concord.cache import FeatureStore, NewItem, ShardFormat, StoreError, Manifest, ManifestTrack
from concord.cache.collect import Roots, plan_collection
from concord.cache.compact import compact
from concord.cache.new_shard import write_shard

PATH, GRACE = sys.argv[1], 0.5
DIM = 16

def item(k):
    rows = 3 + k % 7
    return NewItem(key=f"k{k}", track=f"t{k}", rows=np.full((rows, DIM), k, np.float32),
                   valid=np.ones(rows, bool), times=np.arange(rows) + k / 2)

def check(found, k):
    rows, times = found.rows[:], found.times
    assert rows.shape == (3 + k % 7, DIM) and (rows == k).all(), (k, rows)
    assert (times == np.arange(len(rows)) + k / 2).all()

def listing(stream, dataset, keys):
    row = dict(source="s", split="train", family="f", rate=None)
    tracks = [ManifestTrack(track=f"t{k}", rows=3 + k % 7, items={stream.full_name: f"k{k}"}, **row)
              for k in keys]
    return Manifest(dataset, "one", tuple(tracks))

def listed(store):
    return [int(row.track[1:]) for manifest in store.manifests() for row in manifest]

def going(until):
    # On a slow disk as long as it takes the collector to see enough, up to a limit.
    now = time.time()
    return now < until or (now < until + 90 and not os.path.exists(PATH + ".enough"))

def writer(until, number):
    store = FeatureStore(PATH)
    stream = store.create_stream("visual/x", {"v": 1})
    keys = []
    while going(until):
        for _ in range(3):
            new = [number * 10**6 + len(keys) + j for j in range(2)]
            write_shard(store.shard_folder(stream), [item(k) for k in new], {"by": number})
            keys += new
        store.save_manifest(listing(stream, f"demo{number}", keys))
    return len(keys)

def garbage(until, _):
    store = FeatureStore(PATH)
    count = 0
    while going(until):
        stream = store.create_stream("audio/garbage", {"count": count})
        write_shard(store.shard_folder(stream), [item(count)], {})
        count += 1
        time.sleep(0.05)
    return count

def compactor(until, _):
    count = 0
    while going(until):
        store = FeatureStore(PATH)
        count += compact(store, store["visual/x"], 4000).written
    return count

def collector(until, _):
    store = FeatureStore(PATH)
    roots = Roots(streams={store["visual/x"].full_name})
    count = {}
    while going(until):
        for removal in plan_collection(store, roots, GRACE).delete().removed:
            count[removal.kind] = count.get(removal.kind, 0) + 1
        if min(count.get("copied", 0), count.get("stream", 0)) > 3:
            open(PATH + ".enough", "w").close()
    assert min(count.get("copied", 0), count.get("stream", 0)) > 3, count
    return sum(count.values())

def reader(until, _):
    passes = 0
    while going(until):
        store = FeatureStore(PATH)
        keys = listed(store)
        stream = store["visual/x"]
        for k in keys:
            try:
                check(stream.items[f"k{k}"], k)
            except StoreError as error:
                # A reader slower than the grace is told so, and opens the stream again.
                assert "gone" in str(error), error
                stream = store["visual/x"]
                check(stream.items[f"k{k}"], k)
        passes += 1
    return passes

def tidy(seconds, number):
    store = FeatureStore(PATH)
    stream = store["visual/x"]
    compact(store, stream, 3000)
    plan_collection(store, Roots(streams={stream.full_name}), 0.0).delete()
    return 0

def start(role, *arguments):
    child = os.fork()
    if not child:
        try:
            done = globals()[role](*arguments)
            print(role, done, file=sys.stderr)
            os._exit(0 if done or role == "tidy" else 2)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child

def together(seconds):
    until = time.time() + seconds
    roles = [("writer", 0), ("writer", 1), ("garbage", 0), ("compactor", 0), ("collector", 0),
             ("reader", 0), ("reader", 1)]
    store = FeatureStore(PATH)
    stream = store.create_stream("visual/x", {"v": 1})
    write_shard(store.shard_folder(stream), [item(9)], {})
    children = [start(role, until, number) for role, number in roles]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(roles)

def kills(count):
    store = FeatureStore(PATH)
    stream = store.create_stream("visual/x", {"v": 1})
    delays, keys, cut = random.Random(3), [], 0
    for number in range(count):
        for _ in range(3):
            new = [len(keys) + j for j in range(3)]
            write_shard(store.shard_folder(stream), [item(k) for k in new], {"part": len(keys)})
            keys += new
        store.save_manifest(listing(stream, "demo", keys))
        child = start("tidy", 0, 0)
        time.sleep(delays.uniform(0, 0.25) * delays.random())
        os.kill(child, signal.SIGKILL)
        cut += os.waitpid(child, 0)[1] == signal.SIGKILL
        opened = store["visual/x"]
        assert opened.damages == (), opened.damages
        for k in keys:
            check(opened.items[f"k{k}"], k)
    tidy(0, 0)
    opened = store["visual/x"]
    for k in keys:
        opened.items[f"k{k}"].check()
    tidy(0, 0)
    assert len(store["visual/x"].shards) < 3 + 2 * len(keys) * 6 * 74 // 3000
    print("killed", cut, "of", count, file=sys.stderr)

def points(_):
    # End a deletion at each of its steps in turn: every rename, and every file that goes.
    store = FeatureStore.create(PATH + "/hdf5", ShardFormat("hdf5"))
    stream = store.create_stream("visual/x", {"v": 1})
    folder = store.shard_folder(stream)
    write_shard(folder, [item(0), item(1)], {}, store.format)
    roots = Roots(streams={stream.full_name})
    for step in range(1000):
        small = write_shard(folder, [item(0)], {}, store.format)
        child = os.fork()
        if not child:
            left = [step]
            def hook(event, arguments):
                if event in ("os.remove", "os.rmdir", "os.rename"):
                    left[0] -= 1
                    if left[0] < 0:
                        os._exit(9)
            plan = plan_collection(store, roots, 0.0)
            sys.addaudithook(hook)
            done = plan.delete()
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        opened = store["visual/x"]
        assert opened.damages == (), opened.damages
        assert small.exists() == (step == 0)
        check(opened.items["k0"], 0)
        plan_collection(store, roots, 0.0).delete()
        assert not list(store.path.rglob(".tmp-*"))
        if not ended:
            break
    assert step > 4, step

{"together": together, "kills": kills, "points": points}[sys.argv[2]](int(sys.argv[3]))
"""


def act(store, what, number):
    command = [sys.executable, "-c", ROLES, str(store.path), what, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [3, 60])
def test_writers_readers_compacting_and_collecting_at_once(store, seconds):
    """Readers see right rows only, and nothing that is listed is lost, however short the grace."""
    act(store, "together", seconds)
    stream = FeatureStore(store.path)["visual/x"]
    assert stream.damages == ()
    keys = {key for m in store.manifests() for row in m for key in row.items.values()}
    assert len(keys) > 10
    for key in keys:
        stream.item(key).check()
    assert not list(store.path.rglob(".tmp-*"))


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_while_compacting_and_collecting(store, kills):
    """No item is lost, no half shard is seen, and the next run brings it to its end."""
    told = act(store, "kills", kills)
    assert int(re.search(r"killed (\d+) of", told)[1]) > kills // 3
    assert not list(store.path.rglob(".tmp-*"))


def test_a_deletion_that_ends_at_any_step_leaves_no_half_shard(store):
    act(store, "points", 0)
