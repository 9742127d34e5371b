"""A stream as a dask array: the rows that were written, on every scheduler, chunk by chunk."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
import pytest
from concord.cache import (
    FeatureStore,
    NewItem,
    NotInStoreError,
    ShardFormat,
    StoreError,
    arrays,
    hdf5_format,
    lazily,
)
from concord.cache.lazily import EndToEnd
from concord.cache.new_shard import write_shard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FORMATS = [
    ShardFormat("zarr"),
    ShardFormat("hdf5"),
    ShardFormat("zarr", compressed=True),
    ShardFormat("hdf5", compressed=True),
]
COUNTS = [30, 1, 700, 5, 256, 90]


def made(folder, item, how=FORMATS[0], counts=COUNTS, dim=6):
    """A store of items of these lengths, two per shard, and what was written, by key."""
    store = FeatureStore.create(folder, how)
    items = [item(f"k{k}", f"t{k}", rows=n, dim=dim, seed=k) for k, n in enumerate(counts)]
    with store.create_stream("visual/x", {"v": 1}).writer() as writer:
        for k, new in enumerate(items):
            writer.add(new)
            if k % 2:
                writer.publish()
    return {new.key: new.rows for new in items}


@pytest.fixture(scope="module")
def opened(tmp_path_factory, item):
    """A stream, and what was written, by key."""
    folder = tmp_path_factory.mktemp("dask") / "store"
    rows = made(folder, item)
    return FeatureStore(folder)["visual/x"], rows


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("how", FORMATS, ids=str)
def test_rows_come_in_the_order_of_their_keys(tmp_path, monkeypatch, item, how, mapped):
    rows = made(tmp_path / "s", item, how)
    stream = FeatureStore(tmp_path / "s", mapped=mapped)["visual/x"]
    orders = [list(stream.items), sorted(rows, reverse=True), ["k3"], ["k3", "k0", "k3"]]
    for most, keys in itertools.product([200, 2000, 64 << 20], orders):
        monkeypatch.setattr(lazily, "CHUNK_BYTES", most)
        array = stream.to_dask(keys)
        expected = np.concatenate([rows[key] for key in keys])
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
        assert all(chunk * 12 <= most for chunk in array.chunks[0])
        np.testing.assert_array_equal(array.compute(scheduler="synchronous"), expected)
    np.testing.assert_array_equal(
        stream.to_dask(), np.concatenate([rows[key] for key in stream.items])
    )


def test_chunks_end_between_items_and_cut_only_what_is_larger(opened, monkeypatch):
    stream, rows = opened
    keys = [f"k{k}" for k in range(6)]
    monkeypatch.setattr(lazily, "CHUNK_BYTES", 100 * 12)
    lengths = (31, *[100] * 7, 5, 100, 100, 56, 90)
    assert sum(lengths) == sum(map(len, rows.values()))
    assert stream.to_dask(keys).chunks == (lengths, (6,))
    monkeypatch.undo()
    assert stream.to_dask(keys).numblocks == (1, 1)


def test_no_items_are_no_rows(opened):
    stream, _ = opened
    array = stream.to_dask([])
    assert (array.compute().shape, array.dtype) == ((0, 6), np.float16)


def test_an_item_that_is_not_stored_is_an_error(opened):
    stream, _ = opened
    with pytest.raises(NotInStoreError, match="absent"):
        stream.to_dask(["k0", "absent"])


def places(size):
    """What may be asked of one axis, in the ways that dask takes."""
    bound = st.none() | st.integers(-size, size)  # Beyond, dask itself errs.
    step = st.sampled_from([None, 1, 2, 7, -1, -3])
    number = st.integers(-size, size - 1)
    return st.builds(slice, bound, bound, step) | number | st.lists(number, max_size=6)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    which=places(sum(COUNTS)), columns=places(6), order=st.permutations([f"k{k}" for k in range(6)])
)
def test_slices_and_lists_give_what_numpy_gives(opened, monkeypatch, which, columns, order):
    monkeypatch.setattr(lazily, "CHUNK_BYTES", 100 * 12)
    stream, rows = opened
    expected = np.concatenate([rows[key] for key in order])[which][..., columns]
    array = stream.to_dask(order)[which][..., columns]
    np.testing.assert_array_equal(array.compute(scheduler="synchronous"), expected)


@pytest.mark.parametrize("how", FORMATS[:2], ids=str)
def test_a_slice_reads_its_rows_alone(tmp_path, how):
    """Damage that lies elsewhere in the chunk is not met."""
    rows = np.random.default_rng(0).random((2000, 8)).astype(np.float16)
    store = FeatureStore.create(tmp_path / "s", how)
    with store.create_stream("visual/x", {"v": 1}).writer() as writer:
        valid, times = np.ones(2000, np.bool_), np.zeros(2000)
        writer.add(NewItem(key="k", track="t", rows=rows, valid=valid, times=times))
    (file,) = [p for p in (tmp_path / "s").rglob("*") if p.is_file() and p.stat().st_size > 32000]
    content = bytearray(file.read_bytes())
    content[content.find(rows[600:604].tobytes())] ^= 1
    file.write_bytes(content)
    array = FeatureStore(tmp_path / "s")["visual/x"].to_dask()
    np.testing.assert_array_equal(array[1024:1500, 3].compute(), rows[1024:1500, 3])
    np.testing.assert_array_equal(array[100:500].compute(), rows[100:500])
    with pytest.raises(StoreError, match=r"rows 512 to 768 of 'x', track 't'"):
        array[500:520].compute()
    with pytest.raises(StoreError, match=r"rows 512 to 768 of 'x', track 't'"):
        array.sum().compute(scheduler="processes", num_workers=1)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_local_schedulers(opened, monkeypatch, scheduler):
    monkeypatch.setattr(lazily, "CHUNK_BYTES", 200 * 12)
    stream, rows = opened
    keys = sorted(rows)
    expected = np.concatenate([rows[key] for key in keys])
    with dask.config.set(scheduler=scheduler, num_workers=2):
        np.testing.assert_array_equal(stream.to_dask(keys).compute(), expected)


CLUSTER = """
import sys
import numpy as np
from distributed import Client, LocalCluster
from concord.cache import FeatureStore, lazily
from concord.cache.statistics import statistics

if __name__ == "__main__":
    lazily.CHUNK_BYTES = 200 * 12
    stream = FeatureStore(sys.argv[1])["visual/x"]
    alone = statistics(stream).record()
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        with Client(cluster):
            array = stream.to_dask(sorted(stream.items))
            np.save(sys.argv[2], array.compute())
            print(len(array.chunks[0]), statistics(stream).record() == alone)
"""


def test_a_cluster(opened, tmp_path):
    """Workers are other processes, which know of the store by its path alone."""
    stream, rows = opened
    (tmp_path / "cluster.py").write_text(CLUSTER)
    command = [sys.executable, tmp_path / "cluster.py", str(stream.store.path), tmp_path / "x.npy"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert told.stdout.split() == ["7", "True"], told.stderr
    expected = np.concatenate([rows[key] for key in sorted(rows)])
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)


def test_dask_s_other_array_class(opened, tmp_path):
    """Where dask plans queries over arrays, the same rows come."""
    stream, rows = opened
    program = (
        "import sys, numpy as np, dask.array as da; from concord.cache import FeatureStore;"
        "x = FeatureStore(sys.argv[1])['visual/x'].to_dask(sorted(sys.argv[3:]));"
        "np.save(sys.argv[2], x[20:300, 1:].compute())"
    )
    command = [sys.executable, "-c", program, str(stream.store.path), tmp_path / "x.npy", *rows]
    environment = {**os.environ, "DASK_ARRAY__QUERY_PLANNING": "True"}
    subprocess.run(command, check=True, timeout=100, env=environment)
    expected = np.concatenate([rows[key] for key in sorted(rows)])[20:300, 1:]
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)


def test_what_is_sent_is_names(opened):
    stream, rows = opened
    sent = pickle.dumps(EndToEnd(stream, tuple(rows)))
    assert len(sent) < 1000
    there = pickle.loads(sent)
    assert there.stream is not stream
    expected = np.concatenate(list(rows.values()))
    np.testing.assert_array_equal(there.read(0, len(expected)), expected)


def test_another_process_sees_what_was_published_or_merged_since(tmp_path, item):
    rows = made(tmp_path / "s", item)
    first = EndToEnd(FeatureStore(tmp_path / "s")["visual/x"], tuple(rows))
    pickle.loads(pickle.dumps(first)).read(0, 10)
    news = [item(f"n{k}", f"new{k}", rows=9, dim=6, seed=9) for k in range(2)]
    store = FeatureStore(tmp_path / "s")
    with store["visual/x"].writer() as writer:
        for new in news:
            writer.add(new)
    later = EndToEnd(FeatureStore(tmp_path / "s")["visual/x"], ("n1", "k0"))
    there = pickle.loads(pickle.dumps(later))
    np.testing.assert_array_equal(there.read(0, 9), news[1].rows)
    # What compacting does: all items in one shard, and the old shards gone.
    stream = FeatureStore(tmp_path / "s")["visual/x"]
    folder = store.shard_folder(stream)
    old = [shard.path for shard in stream.shards]
    merged = [item(key, "t", rows=len(x), dim=6) for key, x in rows.items()]
    write_shard(folder, merged, {})
    for path in old:
        shutil.rmtree(path)
    there = pickle.loads(pickle.dumps(EndToEnd(FeatureStore(tmp_path / "s")["visual/x"], ("k2",))))
    np.testing.assert_array_equal(there.read(0, 700), merged[2].rows)


def test_names_follow_from_what_is_in_it(tmp_path, item):
    made(tmp_path / "a", item)
    made(tmp_path / "b", item)
    stream = FeatureStore(tmp_path / "a")["visual/x"]
    again = FeatureStore(tmp_path / "a", mapped=False)["visual/x"]
    assert stream.to_dask().name == again.to_dask(list(stream.items)).name
    other = FeatureStore(tmp_path / "b")["visual/x"]
    arrays = [stream.to_dask(), stream.to_dask(["k0"]), stream.to_dask(["k1"]), other.to_dask()]
    assert len({array.name for array in arrays}) == 4


@pytest.mark.parametrize(
    ("how", "mapped"), [(FORMATS[0], True), (FORMATS[1], True), (FORMATS[1], False)], ids=str
)
def test_threads_that_share_few_open_files(tmp_path, monkeypatch, item, how, mapped):
    """Each closes what another is reading."""
    counts = [20] * 12
    rows = made(tmp_path / "s", item, how, counts)
    monkeypatch.setattr(arrays, "_MAPS", arrays.OpenFiles(2))
    monkeypatch.setattr(hdf5_format, "_FILES", arrays.OpenFiles(2))
    stream = FeatureStore(tmp_path / "s", mapped=mapped)["visual/x"]

    def read(seed):
        random = np.random.default_rng(seed)
        keys = random.permutation(list(rows)).tolist()
        found = EndToEnd(stream, tuple(keys))
        np.testing.assert_array_equal(found.read(0, 240), np.concatenate([rows[k] for k in keys]))
        assert len(found.read_beside("valid", 0, 240)) == 240

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read, range(60 if mapped else 16)))
    finally:
        sys.setswitchinterval(interval)


def test_many_small_items_are_few_chunks(tmp_path):
    """10,000 items of 10 rows: neither the graph nor the reading costs by the item."""
    rows = np.random.default_rng(0).standard_normal((10, 64)).astype(np.float16)
    beside = {"valid": np.ones(10, np.bool_), "times": np.zeros(10)}
    store = FeatureStore.create(tmp_path / "s")
    folder = store.shard_folder(store.create_stream("visual/x", {"v": 1}))
    for first in range(0, 10_000, 1000):
        numbers = range(first, first + 1000)
        items = [NewItem(key=f"{k:064x}", track=f"t{k}", rows=rows, **beside) for k in numbers]
        write_shard(folder, items, {})
    stream = FeatureStore(tmp_path / "s")["visual/x"]
    assert len(stream.items) == 10_000
    begun = time.perf_counter()
    array = stream.to_dask()
    built = time.perf_counter()
    total = array.astype(np.float64).sum().compute()
    ended = time.perf_counter()
    assert array.numblocks == (1, 1)
    assert total == pytest.approx(10_000 * rows.astype(np.float64).sum())
    assert built - begun < 2
    assert ended - built < 4
