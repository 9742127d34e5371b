"""Converting: the same streams, items, manifests and pins in the other format, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from concord.cache import (
    FeatureStore,
    Identity,
    Manifest,
    ManifestTrack,
    NewItem,
    ShardFormat,
    StoreError,
)
from concord.cache.convert import convert
from concord.cache.new_shard import item_crc32c, write_shard
from concord.cache.pins import Pin, pin, pins
from concord.cache.store import STREAM_FOLDER

FORMATS = [
    ShardFormat("zarr"),
    ShardFormat("hdf5"),
    ShardFormat("zarr", compressed=True),
    ShardFormat("hdf5", compressed=True),
]
RECIPES = {"visual/x": {"weights": "ab", "crop": [1, 2.5, None]}, "labels/va": {"version": 1}}
DTYPES = {"visual/x": np.float16, "labels/va": np.float64}
EDITIONS = ("two", "one")


def fill(store, shards=3):
    """Two streams, three shards of two items each, two editions, two pins."""
    for name, recipe in RECIPES.items():
        stream = store.create_stream(name, recipe)
        for k in range(shards):
            items = [new_item(stream, 2 * k + j, DTYPES[name]) for j in range(2)]
            write_shard(store.shard_folder(stream), items, {"shard": k}, store.format)
    for edition in EDITIONS:
        store.save_manifest(table(store, edition))
    pin(store, "visual/x", "a note")
    pin(store, "demo@one")
    return store


def new_item(stream, k, dtype):
    random = np.random.default_rng(k)
    rows = 200 + 33 * k
    identity = Identity(recipe=stream.digest, rows=rows, inputs={"media": f"{k}"})
    values = random.standard_normal((rows, 5)).astype(dtype)
    values[0] = [np.nan, np.inf, -np.inf, -0.0, np.finfo(dtype).smallest_subnormal]
    return NewItem(
        key=identity.key,
        track=f"vidéo {k}",
        rows=values,
        valid=random.random(rows) < 0.9,
        times=np.where(random.random(rows) < 0.1, np.nan, np.arange(rows) / 25),
        flags=(random.random(rows) < 0.2).astype(np.uint8),
        identity=identity.record(),
    )


def table(store, edition):
    streams = store.streams()
    row = {"source": "s", "split": "val", "family": "f", "rows": 200, "rate": 24.5}
    keys = [{s.full_name: list(s.items)[k] for s in streams} for k in range(4)]
    tracks = [ManifestTrack(track=f"t{k}", items=each, **row) for k, each in enumerate(keys)]
    return Manifest("demo", edition, tuple(tracks))


def content(store):
    """All that can be known of a store, bit for bit."""
    found = FeatureStore(store.path)
    return {
        "streams": {stream.full_name: of_stream(stream) for stream in found.streams()},
        "manifests": found.manifests(),
        "pins": pins(found),
    }


def of_stream(stream):
    items = {}
    for key, item in stream.items.items():
        item.check()
        arrays = [np.asarray(item.rows), item.valid, item.flags, item.times]
        bits = [(array.dtype.str, array.shape, array.tobytes()) for array in arrays]
        facts = (item.entry.track, item.entry.crc32c, item.identity, item.provenance)
        items[key] = (*facts, *bits)
    return (stream.recipe, items)


def spoil(path, file, at=1):
    found = bytearray((path / file).read_bytes())
    found[at] ^= 16
    (path / file).write_bytes(found)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return fill(FeatureStore.create(tmp_path_factory.mktemp("source") / "store"))


@pytest.fixture
def own(tmp_path):
    """A source that a test may damage."""
    return fill(FeatureStore.create(tmp_path / "own"))


@pytest.mark.parametrize("how", FORMATS, ids=str)
def test_there_and_back_everything_is_equal(tmp_path, source, how):
    told = []
    done = convert(source, tmp_path / "there", how, lambda *now: told.append(now))
    counts = (done.streams, done.manifests, done.copied, done.skipped, done.damaged)
    assert counts == (2, 2, 12, 0, ())
    assert done.rows == sum(item.entry.rows for s in source.streams() for item in s.items.values())
    assert told[0][:2] == (0, 12)
    assert told[-1] == (12, 12, "done")
    assert [now[0] for now in told] == sorted(now[0] for now in told)
    there = FeatureStore(tmp_path / "there")
    assert there.format == how
    for shard in (shard for stream in there.streams() for shard in stream.shards):
        kind = (shard.index.format, shard.index.compression is not None)
        assert kind == (how.name, how.compressed)
    assert content(there) == content(source)
    convert(there, tmp_path / "back", ShardFormat("zarr"))
    back = FeatureStore(tmp_path / "back")
    assert content(back) == content(source)
    # Shards of the same items in the same order have the same name, index and rows.
    for path in (path for path in source.path.rglob("*") if path.is_file()):
        copy = back.path / path.relative_to(source.path)
        assert copy.read_bytes() == path.read_bytes(), path


def test_the_arrays_are_those_that_the_library_reads(tmp_path, source):
    import h5py

    convert(source, tmp_path / "there", ShardFormat("hdf5"))
    for stream in FeatureStore(tmp_path / "there").streams():
        for shard in stream.shards:
            with h5py.File(f"{shard.path}/shard.h5") as file:
                for key, entry in shard.entries.items():
                    rows = file["x"][entry.first : entry.first + entry.rows]
                    known = source[stream.full_name].items[key]
                    assert rows.tobytes() == np.asarray(known.rows).tobytes()


def test_what_is_there_is_skipped(tmp_path, own):
    convert(own, tmp_path / "there", ShardFormat("hdf5"))
    shards = sorted(tmp_path.glob("there/streams/*/*/shards/*"))
    assert len(shards) == 6
    before = {path: path.stat().st_mtime_ns for path in shards}
    done = convert(own, tmp_path / "there", ShardFormat("hdf5"))
    assert (done.copied, done.skipped, done.rows) == (0, 12, 0)
    stream = own["visual/x"]
    more = [new_item(stream, k, np.float16) for k in (5, 6)]
    write_shard(own.shard_folder(stream), more, {"shard": 3})
    done = convert(own, tmp_path / "there", ShardFormat("hdf5"))
    assert (done.copied, done.skipped) == (1, 12)
    assert {path: path.stat().st_mtime_ns for path in shards} == before
    assert len(FeatureStore(tmp_path / "there")["visual/x"].items) == 7


def test_a_shard_lost_from_the_target_is_copied_again(tmp_path, own):
    convert(own, tmp_path / "there", ShardFormat("hdf5"))
    shards = sorted(tmp_path.glob("there/streams/*/*/shards/*"))
    os.truncate(shards[0] / "shard.h5", 100)
    done = convert(own, tmp_path / "there", ShardFormat("hdf5"))
    assert (done.copied, done.skipped) == (2, 10)
    assert content(FeatureStore(tmp_path / "there")) == content(own)


# The child process that tries compressed HDF5 first does not see this one's memory.
@pytest.mark.parametrize("how", FORMATS[:3], ids=str)
def test_from_a_url(tmp_path, source, how):
    import fsspec

    first = FeatureStore.create(tmp_path / "first", how)
    convert(source, first.path, how)
    memory = fsspec.filesystem("memory")
    root = f"/{tmp_path.name}-{how.name}-{how.compressed}"
    memory.put(str(first.path), root, recursive=True)
    remote = FeatureStore(f"memory:/{root}")
    try:
        done = convert(remote, tmp_path / "there", ShardFormat("zarr"))
    finally:
        memory.rm(root, recursive=True)
    assert (done.copied, done.damaged) == (12, ())
    assert content(FeatureStore(tmp_path / "there")) == content(source)


class TestDamage:
    def test_damaged_items_are_listed_and_the_rest_goes_on(self, tmp_path, own):
        shard = own["visual/x"].shards[0]
        first, second = shard.index.items
        spoil(own.path / shard.path, "x/c/0/0", at=300 * shard.dim * 2)
        done = convert(own, tmp_path / "there", ShardFormat("hdf5"))
        assert {lost.key for lost in done.damaged} <= {first.key, second.key}
        assert done.copied == 12 - len(done.damaged)
        assert {lost.track for lost in done.damaged} <= {first.track, second.track}
        assert all(shard.path in lost.problem for lost in done.damaged)
        assert len(done.damaged) > 0
        there = FeatureStore(tmp_path / "there")["visual/x"]
        assert there.items.keys() == own["visual/x"].items.keys() - {
            lost.key for lost in done.damaged
        }

    def test_shards_that_cannot_be_opened_are_listed(self, tmp_path, own):
        shards = own["visual/x"].shards
        os.truncate(f"{shards[0].path}/x/c/0/0", 7)
        (own.path / shards[1].path / "seal.json").unlink()
        done = convert(own, tmp_path / "there", ShardFormat("hdf5"))
        keys = [lost.key for lost in done.damaged]
        assert sorted(keys) == sorted([*shards[0].entries, ""])
        assert done.copied == 8
        assert {shards[1].path in lost.problem for lost in done.damaged} == {True, False}

    def test_another_sound_copy_is_used(self, tmp_path, own):
        shard = own["visual/x"].shards[0]
        again = [new_item(own["visual/x"], k, np.float16) for k in (5,)]
        write_shard(own.shard_folder(own["visual/x"]), again, {"shard": "again"})
        assert again[0].key in shard.entries
        at = shard.entries[again[0].key].first * (shard.dim * 2) + 600 * 4
        spoil(own.path / shard.path, "x/c/0/0", at)
        done = convert(own, tmp_path / "there", ShardFormat("hdf5"))
        assert again[0].key not in {lost.key for lost in done.damaged}
        found = FeatureStore(tmp_path / "there")["visual/x"].items[again[0].key]
        assert np.asarray(found.rows).tobytes() == again[0].rows.tobytes()
        told = json.dumps(found.provenance)
        assert '"again"' in told

    def test_a_stream_with_a_damaged_recipe_is_listed(self, tmp_path, own):
        path = own.path / "streams"
        (recipe,) = path.glob("visual/x@*/recipe.json")
        recipe.write_text(recipe.read_text().replace('"ab"', '"ac"'))
        done = convert(own, tmp_path / "there", ShardFormat("hdf5"))
        assert (done.copied, len(done.damaged)) == (6, 6)
        assert all("recipe.json" in lost.problem for lost in done.damaged)

    def test_an_item_whose_key_is_not_its_identitys_digest_is_listed(self, tmp_path, own):
        """As a store from a stranger may have it; its neighbours are copied."""
        (path, *_) = (own.path / "streams" / "labels").glob("*/shards/*")
        index = json.loads((path / "index.json").read_text())
        index["items"][0]["identity"]["rows"] += 1
        reseal(path, index)
        done = convert(own, tmp_path / "there", ShardFormat("hdf5"))
        (lost,) = done.damaged
        assert lost.key == index["items"][0]["key"]
        assert "not its identity's digest" in lost.problem
        assert done.copied == 11

    def test_a_damaged_manifest_is_an_error_after_the_items(self, tmp_path, own):
        spoil(own.path, "manifests/demo@one.json", 99)
        with pytest.raises(StoreError, match=r"demo@one\.json"):
            convert(own, tmp_path / "there", ShardFormat("hdf5"))
        assert len(FeatureStore(tmp_path / "there")["visual/x"].items) == 6


def reseal(path, index):
    """Write another index into a shard, and the seal that goes with it."""
    (path / "index.json").write_text(json.dumps(index))
    files = {}
    for each in sorted(path.rglob("*")):
        if each.is_file() and each.name != "seal.json":
            found = each.read_bytes()
            name = each.relative_to(path).as_posix()
            files[name] = {"size": len(found), "sha256": hashlib.sha256(found).hexdigest()}
    text = json.dumps(files, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    seal = {"version": 2, "files": files, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    version = index.get("version")
    (path / "seal.json").write_text(
        json.dumps(seal if version == 2 else {"version": 1, "files": files})
    )


def test_items_of_version_1_get_a_checksum(tmp_path, own):
    for path in own.path.glob("streams/*/*/shards/*"):
        index = json.loads((path / "index.json").read_text())
        kept = ("key", "track", "first", "rows")
        items = [{name: e[name] for name in kept} | {"sha256": "0"} for e in index["items"]]
        reseal(path, {"version": 1, "items": items})
    (own.path / "store.json").write_text('{"format": "concord store", "version": 1}')
    old = FeatureStore(own.path)
    assert {i.entry.crc32c for s in old.streams() for i in s.items.values()} == {None}
    done = convert(old, tmp_path / "there", ShardFormat("hdf5"))
    assert (done.copied, done.damaged) == (12, ())
    for stream in FeatureStore(tmp_path / "there").streams():
        for key, found in stream.items.items():
            item = old[stream.full_name].items[key]
            arrays = [np.asarray(item.rows), item.valid, item.flags, item.times]
            assert found.entry.crc32c == item_crc32c(arrays)
            assert np.asarray(found.rows).tobytes() == arrays[0].tobytes()


def test_the_newest_edition_stays_the_newest(tmp_path, source):
    now = time.time()
    for age, edition in enumerate(EDITIONS):
        path = source.path / "manifests" / f"demo@{edition}.json"
        os.utime(path, (now - 99 + age, now - 99 + age))
    convert(source, tmp_path / "there", ShardFormat("hdf5"))
    folder = tmp_path / "there" / "manifests"
    times = [(folder / f"demo@{edition}.json").stat().st_mtime_ns for edition in EDITIONS]
    assert times == sorted(times)
    assert times[0] < times[1]


def test_pins_come_along(tmp_path, source):
    convert(source, tmp_path / "there", ShardFormat("hdf5"))
    full = source["visual/x"].full_name
    expected = (Pin("demo@one"), Pin(full, "a note"))
    assert pins(FeatureStore(tmp_path / "there")) == expected


def test_an_empty_store(tmp_path, store):
    done = convert(store, tmp_path / "there", ShardFormat("hdf5"))
    assert (done.streams, done.manifests, done.copied) == (0, 0, 0)
    assert FeatureStore(tmp_path / "there").streams() == ()


def test_streams_of_one_name_and_a_stream_without_items(tmp_path, store, item):
    for version in range(3):
        stream = store.create_stream("visual/x", {"v": version})
        if version:
            write_shard(store.shard_folder(stream), [item("k", seed=version)], {})
    convert(store, tmp_path / "there", ShardFormat("hdf5"))
    assert content(FeatureStore(tmp_path / "there")) == content(store)
    folders = [path.name for path in (tmp_path / "there/streams/visual").iterdir()]
    assert len([name for name in folders if STREAM_FOLDER.fullmatch(name)]) == 3


@pytest.mark.parametrize("where", ["", "inside", "..", "link"])
def test_the_target_lies_apart(own, where):
    target = own.path / where
    if where == "link":
        target = own.path.with_name("link")
        target.symlink_to(own.path)
    before = sorted(own.path.rglob("*"))
    with pytest.raises(StoreError, match="apart from the store"):
        convert(own, target, ShardFormat("hdf5"))
    assert sorted(own.path.rglob("*")) == before


def test_a_target_of_another_format_is_refused(tmp_path, source):
    FeatureStore.create(tmp_path / "there")
    with pytest.raises(StoreError, match="expected a store of"):
        convert(source, tmp_path / "there", ShardFormat("hdf5"))
    with pytest.raises(StoreError, match="can only be read"):
        convert(source, "memory://there", ShardFormat("hdf5"))


def test_a_very_large_shard_comes_in_parts(tmp_path, source, monkeypatch):
    monkeypatch.setattr("concord.cache.convert.TARGET_BYTES", 3000)
    convert(source, tmp_path / "there", ShardFormat("hdf5"))
    there = FeatureStore(tmp_path / "there")
    assert {len(shard.entries) for stream in there.streams() for shard in stream.shards} == {1}
    assert content(there) == content(source)


KILLED = """
import os, signal, sys, time, traceback, random
import numpy as np, h5py, zarr
from concord.cache import FeatureStore, ShardFormat
from concord.cache.convert import convert

delays, cut = random.Random(int(sys.argv[4])), 0
for _ in range(int(sys.argv[3])):
    child = os.fork()
    if not child:
        try:
            convert(FeatureStore(sys.argv[1]), sys.argv[2], ShardFormat("hdf5"))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    time.sleep(delays.uniform(0, 0.06))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    cut += status == signal.SIGKILL
    if os.path.exists(sys.argv[2] + "/store.json"):
        for stream in FeatureStore(sys.argv[2]).streams():
            assert stream.damages == ()
            for item in stream.items.values():
                item.check()
print("killed", cut)
"""


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_and_run_again(tmp_path, kills):
    store = fill(FeatureStore.create(tmp_path / "store"), shards=min(kills, 30))
    seed = str(random.randrange(1000))
    target = tmp_path / "there"
    command = [sys.executable, "-c", KILLED, str(store.path), str(target), str(kills), seed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, (seed, done.stderr[-2000:])
    assert int(re.search(r"killed (\d+)", done.stdout)[1]) > 1
    convert(store, target, ShardFormat("hdf5"))
    assert content(FeatureStore(target)) == content(store)


MEMORY = """
import sys, threading
import numpy as np, zarr, zarr.codecs, h5py
from concord.cache import FeatureStore, NewItem, ShardFormat
import concord.cache.convert as module
from concord.cache.new_shard import write_shard

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024

module.TARGET_BYTES = 8 << 20
path, how, compressed = sys.argv[1], sys.argv[2], sys.argv[3] == "compressed"
store = FeatureStore.create(path + "/a")
stream = store.create_stream("visual/x", {"v": 1})
random = np.random.default_rng(0)
rows = 1500
def item(k):
    return NewItem(key=f"{k}", track=f"t{k}", rows=random.random((rows, 512)).astype(np.float16),
                   valid=np.ones(rows, bool), times=np.arange(rows, dtype=float))
write_shard(store.shard_folder(stream), [item(99)], {})
module.convert(store, path + "/warm", ShardFormat("zarr"))
write_shard(store.shard_folder(stream), [item(k) for k in range(30)], {})

before, found, done = anonymous(), [], threading.Event()
def watch():
    while not done.wait(0.002):
        found.append(anonymous())
thread = threading.Thread(target=watch)
thread.start()
module.convert(store, path + "/b", ShardFormat(how, compressed=compressed))
done.set()
thread.join()
print(max(found) - before)
"""


@pytest.mark.parametrize(
    ("how", "compressed"),
    [
        ("hdf5", "plain"),
        pytest.param("zarr", "plain", marks=pytest.mark.slow),
        pytest.param("hdf5", "compressed", marks=pytest.mark.slow),
        pytest.param("zarr", "compressed", marks=pytest.mark.slow),
    ],
)
def test_memory_is_that_of_one_new_shard(tmp_path, how, compressed):
    """A shard of 44 MiB, written 8 MiB at a time."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path), how, compressed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    # zarr compresses a whole shard at once, and holds it several times over meanwhile.
    assert float(done.stdout) < (64 if (how, compressed) == ("zarr", "compressed") else 24)
