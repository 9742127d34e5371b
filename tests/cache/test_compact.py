"""Compacting: fewer shards, the same items bit for bit, and nothing lost however it ends."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from concord.cache import FeatureStore, Identity, NewItem, ShardFormat, StoreError
from concord.cache.compact import compact
from concord.cache.copying import cut, merged_provenance, new_item_of
from concord.cache.new_shard import write_shard
from hypothesis import given, settings
from hypothesis import strategies as st

FORMATS = [
    ShardFormat("zarr"),
    ShardFormat("hdf5"),
    ShardFormat("zarr", compressed=True),
    ShardFormat("hdf5", compressed=True),
]
ROW = 3 * 2 + 10
"""Bytes of a row of `item`: three float16 values, validity, flag, time."""


@pytest.fixture
def stream(store):
    return store.create_stream("visual/x", {"v": 1})


def publish(stream, *items, provenance=None):
    folder = stream.store.shard_folder(stream)
    return write_shard(folder, items, provenance or {"device": "cpu"}, stream.store.format)


def again(stream):
    """The stream as a reader who opens the store now sees it."""
    return FeatureStore(stream.store.path)[stream.full_name]


def content(stream):
    """All that can be known of a stream's items, bit for bit."""
    return {
        key: (
            found.entry.track,
            found.entry.crc32c,
            dict(found.identity),
            *(
                (array.dtype, array.shape, array.tobytes())
                for array in (found.rows[:], found.valid, found.flags, found.times)
            ),
        )
        for key, found in stream.items.items()
    }


def used(stream):
    return [
        (shard.name, list(shard.entries))
        for shard in stream.shards
        if any(found.shard is shard for found in stream.items.values())
    ]


def spoil(path, file="x/c/0/0", at=1):
    content = bytearray((path / file).read_bytes())
    content[at] ^= 16
    (path / file).write_bytes(content)


@pytest.mark.parametrize("how", FORMATS, ids=str)
def test_small_shards_become_one(tmp_path, how):
    stream = FeatureStore.create(tmp_path / "store", how).create_stream("visual/x", {"v": 1})
    random = np.random.default_rng(1)
    for k in range(7):
        rows = 300 + 10 * k
        identity = Identity(recipe=stream.digest, rows=rows, inputs={"media": str(k)})
        new = NewItem(
            key=identity.key,
            track=f"video {k % 3}",
            rows=random.standard_normal((rows, 4)).astype(np.float32),
            valid=random.random(rows) < 0.9,
            times=np.where(random.random(rows) < 0.5, np.nan, random.random(rows)),
            flags=(random.random(rows) < 0.3).astype(np.uint8),
            identity=identity.record(),
        )
        publish(stream, new)
    before = content(again(stream))
    done = compact(stream.store, stream)
    assert (done.before, done.after, done.written, done.items, done.rows) == (7, 1, 1, 7, 2310)
    assert (done.stream, done.damaged) == (stream.full_name, ())
    after = again(stream)
    assert content(after) == before
    for found in after.items.values():
        found.check()
    # The small ones stay for those who read them.
    assert len(after.shards) == 8
    order = [(e.track, e.key) for e in after.shards[0].entries.values()]
    assert order == sorted(order)
    assert after.shards[0].index.format == how.name
    assert (after.shards[0].index.compression is not None) == how.compressed


def test_doing_it_again_does_nothing(stream, item):
    for k in range(6):
        publish(stream, item(f"k{k}", rows=20 + k))
    first = compact(stream.store, stream, 60 * ROW)
    assert first.written > 1
    files = sorted(stream.store.path.rglob("*"))
    second = compact(stream.store, stream, 60 * ROW)
    assert (second.written, second.items, second.rows) == (0, 0, 0)
    assert second.before == second.after == first.after
    assert sorted(stream.store.path.rglob("*")) == files


def test_large_shards_are_left_alone(stream, item):
    large = publish(stream, item("large", rows=50), item("k1", rows=1))
    publish(stream, item("k1", rows=1))
    publish(stream, item("k2", rows=2))
    publish(stream, item("k3", rows=3))
    done = compact(stream.store, stream, 100 * ROW)
    assert (done.written, done.items, done.rows) == (1, 2, 5)
    names = used(again(stream))
    assert names[0] == (large.name, ["large", "k1"])
    assert names[1][1] == ["k2", "k3"]


def test_later_shards_are_added_to_what_is_still_small(stream, item):
    for k in range(3):
        publish(stream, item(f"a{k}"))
    compact(stream.store, stream)
    for k in range(3):
        publish(stream, item(f"b{k}"))
    done = compact(stream.store, stream)
    assert (done.before, done.after, done.items) == (4, 1, 6)


def test_a_merged_shard_that_readers_would_not_prefer_is_not_written(stream, item):
    """Of the shards of nine and two rows only three rows are still read there."""
    a, b, c = item("a", rows=8), item("b", rows=1), item("c", rows=2)
    publish(stream, a, item("d", rows=30))
    publish(stream, a, b)
    publish(stream, c)
    done = compact(stream.store, stream, 60 * ROW)
    assert (done.written, done.before, done.after) == (0, 3, 3)
    publish(stream, item("e", rows=7))
    done = compact(stream.store, stream, 60 * ROW)
    assert (done.written, done.items, done.before, done.after) == (1, 3, 4, 2)


def test_what_is_published_meanwhile_is_seen(store, stream, item):
    publish(stream, item("k0"))
    opened = store["visual/x"]
    assert len(opened.items) == 1
    publish(stream, item("k1"))
    assert compact(store, opened).items == 2


def test_an_empty_stream_is_nothing(store, stream):
    done = compact(store, stream)
    assert (done.before, done.after, done.written, done.damaged) == (0, 0, 0, ())


@pytest.mark.parametrize("target", [0, -1])
def test_a_target_is_positive(store, stream, target):
    with pytest.raises(StoreError, match="positive"):
        compact(store, stream, target)


def test_progress_is_told(stream, item):
    for k in range(4):
        publish(stream, item(f"k{k}", f"t{k}", rows=10))
    told = []
    compact(stream.store, stream, 21 * ROW, lambda *now: told.append(now))
    assert told == [(0, 1, "t0"), (1, 1, "done")]


def test_a_reader_goes_on_with_what_it_has(stream, item):
    items = [item(f"k{k}", rows=9, seed=k) for k in range(3)]
    for each in items:
        publish(stream, each)
    reader = again(stream)
    assert len(reader.shards) == 3
    compact(stream.store, stream)
    for each in items:
        assert np.array_equal(reader.items[each.key].rows, each.rows)
        assert np.array_equal(again(stream).items[each.key].rows, each.rows)


class TestDamage:
    def test_an_item_without_a_sound_copy_stays_where_it_is(self, stream, item):
        paths = [publish(stream, item(f"k{k}", f"t{k}", rows=300 + k)) for k in range(4)]
        spoil(paths[2])
        done = compact(stream.store, stream)
        (lost,) = done.damaged
        assert (lost.key, lost.track, lost.stream) == ("k2", "t2", stream.full_name)
        assert str(paths[2]) in lost.problem
        assert re.search("rows 0 to 256", lost.problem)
        assert (done.items, done.before, done.after) == (3, 4, 2)
        after = again(stream)
        assert sorted(keys for _, keys in used(after)) == [["k0", "k1", "k3"], ["k2"]]
        with pytest.raises(StoreError, match="t2"):
            after.items["k2"].check()
        assert compact(stream.store, stream).written == 0

    def test_another_sound_copy_is_used(self, stream, item):
        k0, k1, k2 = (item(f"k{k}", rows=30 + k, seed=k) for k in range(3))
        larger = publish(stream, k0, k1)
        publish(stream, k0, provenance={"device": "other"})
        publish(stream, k2)
        spoil(larger)
        done = compact(stream.store, stream)
        assert [lost.key for lost in done.damaged] == ["k1"]
        # 30 and 32 rows make a shard of 62, one more than the damaged one's.
        found = again(stream).items["k0"]
        assert len(found.shard.entries) == 2
        assert np.array_equal(found.rows, k0.rows)
        assert {each["device"] for each in found.shard.provenance["merged"]} == {"cpu", "other"}

    def test_damage_that_only_the_items_checksum_tells_does_not_travel(self, stream, item):
        """A shard whose chunk was rewritten, with a chunk checksum that fits."""
        from google_crc32c import value

        path = publish(stream, item("k0", rows=20))
        publish(stream, item("k1", rows=30))
        file = path / "flags/c/0"
        flags = bytearray(file.read_bytes()[:-4])
        flags[3] ^= 1
        file.write_bytes(bytes(flags) + value(bytes(flags)).to_bytes(4, "little"))
        done = compact(stream.store, stream)
        assert [lost.key for lost in done.damaged] == ["k0"]
        assert "the item's crc32c differs" in done.damaged[0].problem
        with pytest.raises(StoreError, match="crc32c differs"):
            new_item_of(again(stream).items["k0"])

    def test_a_shard_that_cannot_be_opened_is_left(self, stream, item):
        paths = [publish(stream, item(f"k{k}", f"t{k}")) for k in range(3)]
        (paths[0] / "x/c/0/0").unlink()
        assert compact(stream.store, stream).items == 2
        assert len(again(stream).damages) == 1

    def test_damaged_provenance_costs_no_item(self, stream, item):
        paths = [publish(stream, item(f"k{k}")) for k in range(2)]
        spoil(paths[0], "provenance.json", 3)
        assert compact(stream.store, stream).items == 2
        (kept, lost) = sorted(again(stream).shards[0].provenance["merged"], key=len)
        assert kept == {"device": "cpu"}
        assert "provenance.json was damaged" in lost["lost"]
        assert (lost["stream"], lost["recipe"]) == ("visual/x", {"v": 1})


class TestProvenance:
    def test_equal_ones_stay_as_they_are(self, stream, item):
        for k in range(3):
            publish(stream, item(f"k{k}"), provenance={"device": "cpu", "recipe": {"v": 1}})
        compact(stream.store, stream)
        assert again(stream).shards[0].provenance == {"device": "cpu", "recipe": {"v": 1}}

    def test_distinct_ones_are_listed_once_each(self, stream, item):
        for k, device in enumerate(("cpu", "gpu", "cpu")):
            publish(stream, item(f"k{k}"), provenance={"device": device, "recipe": {"v": 1}})
        compact(stream.store, stream)
        expected = {"recipe": {"v": 1}, "merged": [{"device": "cpu"}, {"device": "gpu"}]}
        assert again(stream).shards[0].provenance == expected
        publish(stream, item("k3"), provenance={"device": "npu", "recipe": {"v": 1}})
        compact(stream.store, stream)
        listed = again(stream).shards[0].provenance["merged"]
        assert [each["device"] for each in listed] == ["cpu", "gpu", "npu"]

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=9
        ),
        st.data(),
    )
    def test_nothing_is_lost_and_the_way_of_merging_does_not_matter(self, records, data):
        def told(merged):
            common = {name: value for name, value in merged.items() if name != "merged"}
            parts = merged.get("merged", [{}])
            return sorted(tuple(sorted({**common, **part}.items())) for part in parts)

        whole = merged_provenance(records)
        assert told(whole) == sorted({tuple(sorted(record.items())) for record in records})
        at = data.draw(st.integers(1, len(records)))
        halves = [merged_provenance(part) for part in (records[:at], records[at:]) if part]
        assert merged_provenance(halves) == whole


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_cutting(sizes, target):
    parts = [sizes[part] for part in cut(sizes, target)]
    assert [size for part in parts for size in part] == sizes
    assert all(parts)
    for part in parts:
        assert 2 * sum(part) >= target or len(parts) == 1
        assert sum(part) <= 1.5 * target + max(part)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 15), st.integers(0, 1)), min_size=1, max_size=4),
        min_size=1,
        max_size=6,
    ),
    st.integers(20, 300),
)
def test_readers_find_what_they_found_before(tmp_path_factory, item, shards, target):
    """Any shards, with items twice, or twice with other numbers: the same bits afterwards."""
    store = FeatureStore.create(tmp_path_factory.mktemp("store"), ShardFormat("hdf5"))
    stream = store.create_stream("visual/x", {"v": 1})
    for shard in shards:
        items = {k: item(f"k{k}", f"t{k % 4}", rows=1 + k, seed=seed) for k, seed in shard}
        publish(stream, *items.values())
    before = content(again(stream))
    done = compact(store, stream, target * ROW)
    after = again(stream)
    assert content(after) == before
    assert done.after == len(used(after)) <= done.before
    again_done = compact(store, stream, target * ROW)
    assert again_done.written == 0 or again_done.after < done.after


MEMORY = """
import sys, threading, time
import numpy as np, zarr, zarr.codecs, h5py
from concord.cache import FeatureStore, NewItem, ShardFormat
from concord.cache.compact import compact
from concord.cache.new_shard import write_shard

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024

def peak(work):
    before, found, done = anonymous(), [], threading.Event()
    def watch():
        while not done.wait(0.002):
            found.append(anonymous())
    thread = threading.Thread(target=watch)
    thread.start()
    work()
    done.set()
    thread.join()
    return max(found, default=before) - before

path, how, shards = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = FeatureStore.create(path, ShardFormat(how))
stream = store.create_stream("visual/x", {"v": 1})
def items(k):
    rows = 1000
    for j in range(2):
        yield NewItem(key=f"{k}-{j}", track=f"t{k}-{j}", rows=np.full((rows, 512), k, np.float16),
                      valid=np.ones(rows, bool), times=np.arange(rows, dtype=float))
for k in range(shards):
    write_shard(store.shard_folder(stream), list(items(k)), {}, store.format)
print(peak(lambda: compact(store, stream, 8 << 20)))
"""


def peak_memory(path, how, shards):
    command = [sys.executable, "-c", MEMORY, str(path), how, str(shards)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)


@pytest.mark.parametrize(
    ("how", "shards"),
    [
        ("zarr", 24),
        pytest.param("hdf5", 24, marks=pytest.mark.slow),
        pytest.param("zarr", 400, marks=pytest.mark.slow),
        pytest.param("hdf5", 400, marks=pytest.mark.slow),
    ],
)
def test_memory_is_that_of_one_new_shard(tmp_path, how, shards):
    """Shards of 2 MiB become shards of 8 MiB: what is held does not grow with the stream."""
    assert peak_memory(tmp_path / "store", how, shards) < 1.5 * 8 + 2 + 16
