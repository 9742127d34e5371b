"""Many processes at one store: writers, readers, forks; no lock and nothing unknown is left."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pickle
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from concord.cache import FeatureStore, ShardFormat, arrays, hdf5_format
from concord.cache.entries import ARRAYS
from concord.cache.hdf5_format import FILE, write_arrays
from concord.cache.new_shard import _index
from torch.utils.data import DataLoader

from .workers import FEW_ROWS, NAME, NARROW, RECIPE, Workers, arrays_of, check_item, new_item

SHARD = r"streams/visual/x@[0-9a-f]{16}/shards/[0-9a-f]{24}/"
KNOWN = re.compile(
    r"store\.json|manifests/demo@[0-9a-f]{12}\.json|streams/visual/x@[0-9a-f]{16}/recipe\.json|"
    rf"{SHARD}((seal|index|provenance)\.json|shard\.h5|zarr\.json|(x|valid|flags|times)/zarr\.json|"
    r"x/c/0/0|(valid|flags|times)/c/0)"
)


@pytest.fixture(scope="module")
def workers():
    with Workers() as workers:
        yield workers


@pytest.fixture(params=["zarr", "hdf5"])
def name(request):
    return request.param


def unknown(path):
    """Files of a store that its format does not know: locks, leftovers, anything else."""
    files = [file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()]
    assert files
    return [file for file in files if not KNOWN.fullmatch(file)]


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_four_writers_and_two_readers(workers, tmp_path, name, seconds):
    store = FeatureStore.create(tmp_path / "store", ShardFormat(name))
    store.create_stream(NAME, RECIPE)
    writers = [("write", store.path, seconds, seed) for seed in range(4)]
    readers = [("read", store.path, seconds, seed, mapped) for seed, mapped in enumerate((1, 0))]
    done = workers.all(*writers, *readers)
    written, mapped, library = sum(map(Counter, done[:4]), Counter()), *done[4:]
    stream = store[NAME]
    rows = sum(check_item(item, NARROW) for item in stream.items.values())
    print(
        f"\n{name}, {seconds} s: {written['publishes']} publishes of {written['items']} items and "
        f"{written['manifests']} manifests left {len(stream.shards)} shards of "
        f"{sum(len(shard.entries) for shard in stream.shards)} items, {len(stream.items)} of them "
        f"different, {rows} rows; mapped {mapped}; library {library}"
    )
    assert stream.damages == ()
    # The same shards were written several times, and the same items in several shards.
    assert written["publishes"] > len(stream.shards) > len(stream.items) / 5
    assert min(mapped["rows"], library["rows"]) > FEW_ROWS
    assert min(mapped["opened"], library["opened"]) > 1
    assert unknown(store.path) == []


def test_a_store_and_a_stream_are_made_once_by_many_at_once(workers, tmp_path, name):
    for k in range(3):
        path = tmp_path / str(k)
        at = time.monotonic() + 0.2
        assert workers.all(*[("create", path, name, at)] * 8) == [name] * 8
        assert unknown(path) == []
        assert [stream.recipe for stream in FeatureStore(path).streams()] == [RECIPE]


def test_a_damaged_shard_gives_way_to_many_at_once(workers, tmp_path, name):
    store = FeatureStore.create(tmp_path / "store", ShardFormat(name))
    workers.all(("same", store.path, 0))
    for _ in range(4):
        (shard,) = store[NAME].shards
        os.truncate(max(Path(shard.path).rglob("*"), key=lambda file: file.stat().st_size), 1000)
        assert [damage.path for damage in store[NAME].damages] == [shard.path]
        workers.all(*[("same", store.path, time.monotonic() + 0.1)] * 6)
        assert check_all(store.path, mapped=True) > 0
        assert unknown(store.path) == []


# No lock: neither is one taken, nor does one of another program hinder.


def published(path, shards, keys=("a", "b", "c")):
    stream = FeatureStore.create(path, shards).create_stream(NAME, RECIPE)
    with stream.writer() as writer:
        for key in keys:
            writer.add(new_item(key, NARROW))
            writer.publish()
    return path


def check_all(path, *, mapped):
    stream = FeatureStore(path, mapped=mapped)[NAME]
    assert not stream.damages
    return sum(check_item(item, NARROW) for item in stream.items.values())


@pytest.mark.parametrize("compressed", [False, True])
def test_a_lock_of_another_process_does_not_hinder_readers(workers, tmp_path, compressed):
    path = published(tmp_path / "store", ShardFormat("hdf5", compressed=compressed))
    file = next(path.rglob(FILE))
    child = workers.start("hold", file)
    while str(file.stat().st_ino) not in Path("/proc/locks").read_text():
        time.sleep(0.01)
    with file.open("rb") as opened, pytest.raises(BlockingIOError):
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert check_all(path, mapped=True) == check_all(path, mapped=False) > 0
    workers.kill(child)


class Watched(list):
    """Rows of items that note, as they are written, which locks there are."""

    def __init__(self, parts, path, noted):
        super().__init__(parts)
        self._path, self._noted = path, noted

    def __iter__(self):
        for part in super().__iter__():
            yield part
            locks = Path("/proc/locks").read_text().splitlines()
            self._noted.append([lock for lock in locks if f":{self._path.stat().st_ino} " in lock])


def test_no_lock_is_taken_while_an_hdf5_shard_is_written(tmp_path):
    path, noted, items = tmp_path / FILE, [], [new_item(key, NARROW) for key in "abc"]
    of = [item.arrays() for item in items]
    parts = {array: Watched([each[array] for each in of], path, noted) for array in ARRAYS}
    write_arrays(path, _index(items, ShardFormat("hdf5")), parts)
    assert len(noted) == len(parts) * len(items) * 2  # Written, then summed.
    assert not any(noted)


# What is open goes with forks, threads and pickles, and stays right in all of them.


def opened(path, shards, *, mapped):
    """A stream of six shards, the first of them open and checked in part."""
    keys = "abcdef"
    stream = FeatureStore(published(path, shards, keys), mapped=mapped)[NAME]
    assert len(stream.shards) == len(keys) == len(stream.items)
    check_item(stream.items["a"], NARROW)
    return stream


def read_again_and_again(stream, seconds, seed):
    chance, rows, end = np.random.default_rng(seed), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for key in chance.permutation(sorted(stream.items)):
            rows += check_item(stream.items[key], NARROW)
    return rows


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("mapped", [True, False])
def test_an_open_stream_is_right_in_forks_at_once(tmp_path, name, compressed, mapped):
    stream = opened(tmp_path / "store", ShardFormat(name, compressed=compressed), mapped=mapped)
    forks = multiprocessing.get_context("fork")
    children = [forks.Process(target=read_again_and_again, args=(stream, 0.2, k)) for k in range(3)]
    for child in children:
        child.start()
    assert read_again_and_again(stream, 0.2, 3) > 0
    for child in children:
        child.join(60)
    ended = [child.exitcode for child in children]
    for child in children:
        child.kill()
    assert ended == [0] * 3


@pytest.mark.parametrize("mapped", [True, False])
def test_an_open_stream_is_right_in_threads_at_once(tmp_path, monkeypatch, name, mapped):
    # So few that threads close what others read.
    for files in (arrays._MAPS, hdf5_format._FILES):
        monkeypatch.setattr(files, "_most", 3)
    stream = opened(tmp_path / "store", ShardFormat(name), mapped=mapped)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda k: read_again_and_again(stream, 0.4, k), range(4)))
    assert min(rows) > 0
    assert len(stream.to_dask().compute(scheduler="threads")) == sum(
        len(item.rows) for item in stream.items.values()
    )


@pytest.mark.parametrize("mapped", [True, False])
def test_what_is_open_is_pickled_by_name(tmp_path, name, mapped):
    stream = opened(tmp_path / "store", ShardFormat(name), mapped=mapped)
    content = pickle.dumps(stream)
    assert len(content) < sum(item.rows.nbytes for item in stream.items.values()) / 8
    for item in pickle.loads(content).items.values():
        check_item(item, NARROW)
    check_item(pickle.loads(pickle.dumps(stream.items["a"])), NARROW)
    assert pickle.loads(pickle.dumps(stream.store)).format == ShardFormat(name)


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_data_loader_read_a_stream(tmp_path, name, mapped, method):
    stream = opened(tmp_path / "store", ShardFormat(name), mapped=mapped)
    items = list(stream.items.values())
    loader = DataLoader(
        [item.rows for item in items],
        batch_size=None,
        num_workers=2,
        collate_fn=np.array,
        multiprocessing_context=method,
    )
    for _ in range(2):
        for item, rows in zip(items, loader, strict=True):
            assert rows.tobytes() == arrays_of(item.key, NARROW)["rows"].tobytes()
