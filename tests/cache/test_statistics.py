"""Statistics against exact rational arithmetic, whatever the pieces, types, offsets and masks."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from concord.cache import FeatureStore, NewItem, NotInStoreError, ShardFormat, StoreError
from concord.cache import statistics as subject
from concord.cache.moments import Moments
from concord.cache.statistics import statistics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

FORMATS = [
    ShardFormat("zarr"),
    ShardFormat("hdf5"),
    ShardFormat("zarr", compressed=True),
    ShardFormat("hdf5", compressed=True),
]


def exact(values):
    """Mean, population variance, least and greatest of finite floats, as exact fractions."""
    numbers = [Fraction(float(value)) for value in values]
    mean = sum(numbers) / len(numbers)
    variance = sum((number - mean) ** 2 for number in numbers) / len(numbers)
    return mean, variance, min(numbers), max(numbers)


def new_item(key, rows, valid=None, flags=None):
    return NewItem(
        key=key,
        track=f"track {key}",
        rows=rows,
        valid=np.ones(len(rows), np.bool_) if valid is None else valid,
        times=np.arange(len(rows)) / 25,
        flags=flags,
    )


def written(path, items, how=FORMATS[0]):
    """A stream of these items, three per shard."""
    store = FeatureStore.create(path, how)
    with store.create_stream("visual/x", {"v": 1}).writer() as writer:
        for k, item in enumerate(items):
            writer.add(item)
            if k % 3 == 2:
                writer.publish()
    return FeatureStore(path)["visual/x"]


@pytest.fixture
def tiny(monkeypatch):
    """Pieces of a few rows, so that small streams go through every join."""
    monkeypatch.setattr(subject, "PIECE_BYTES", 300)
    monkeypatch.setattr(subject, "BLOCK_VALUES", 24)
    monkeypatch.setattr(subject, "ROUND", 3)


def check(found, rows, valid, rtol=1e-12):
    """Compare with exact arithmetic, dimension by dimension and over all."""
    values = rows[valid].astype(np.float64)
    columns = [*values.T, values.reshape(-1)]
    every = [found.dimensions] * rows.shape[1] + [found.overall]
    numbers = [*range(rows.shape[1]), 0]
    for column, moments, d in zip(columns, every, numbers, strict=True):
        finite = column[np.isfinite(column)]
        assert moments.count[d] == len(finite)
        assert moments.nan[d] == sum(math.isnan(value) for value in column)
        assert moments.infinite[d] == sum(math.isinf(value) for value in column)
        if len(finite):
            mean, variance, least, greatest = exact(finite)
            scale = max(abs(float(least)), abs(float(greatest)))
            std = math.sqrt(variance)
            assert abs(Fraction(float(moments.mean[d])) - mean) <= rtol * max(scale, 1e-300)
            assert moments.std[d] == pytest.approx(std, rel=rtol, abs=rtol * scale * 1e-3)
            assert (moments.minimum[d], moments.maximum[d]) == (least, greatest)
            if least == greatest:
                assert (moments.std[d], moments.mean[d]) == (0, least)


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("how", FORMATS, ids=str)
def test_both_formats_and_readers_give_exact_statistics(tmp_path, tiny, how, mapped):
    random = np.random.default_rng(1)
    items, counts = [], [1, 40, 7, 300, 2, 90, 5]
    for k, n in enumerate(counts):
        rows = random.normal(3, 0.5, (n, 6)).astype(np.float16)
        rows[:, 2] = 0
        rows[:, 4] = 0.7
        flags = (random.random(n) < 0.3).astype(np.uint8)
        # Rows that are not valid hold numbers here, which must not be seen.
        items.append(new_item(f"k{k}", rows, random.random(n) < 0.7, flags))
    written(tmp_path / "s", items, how)
    found = statistics(FeatureStore(tmp_path / "s", mapped=mapped)["visual/x"])
    rows, valid = (np.concatenate([getattr(i, name) for i in items]) for name in ("rows", "valid"))
    check(found, rows, valid)
    assert (found.items, found.rows, found.valid_rows) == (7, sum(counts), valid.sum())
    assert found.repeated_rows == sum(int(item.flags.sum()) for item in items)
    assert np.flatnonzero(found.dead).tolist() == [2]
    assert np.flatnonzero(found.constant).tolist() == [4]


@pytest.mark.parametrize(
    ("dtype", "offset", "spread", "rtol"),
    [
        (np.float16, 1000, 2, 1e-13),
        (np.float32, 1e4, 1e-2, 1e-11),
        (np.float64, 1e4, 1e-3, 1e-11),
        (np.float64, -1e4, 1e-6, 1e-9),
        (np.float64, 1e8, 1e-3, 1e-5),
    ],
)
def test_a_mean_that_is_large_beside_the_spread_costs_nothing(
    tmp_path, tiny, dtype, offset, spread, rtol
):
    random = np.random.default_rng(2)
    rows = random.normal(offset, spread, (4000, 3)).astype(dtype)
    stream = written(tmp_path / "s", [new_item("a", rows[:1700]), new_item("b", rows[1700:])])
    found = statistics(stream)
    for d in range(3):
        mean, variance, *_ = exact(rows[:, d])
        assert found.dimensions.std[d] == pytest.approx(math.sqrt(variance), rel=rtol)
        assert abs(Fraction(float(found.dimensions.mean[d])) - mean) <= 1e-15 * abs(offset)


FLOATS = {16: 6e4, 32: 1e15, 64: 1e150}


@st.composite
def streams(draw):
    width = draw(st.sampled_from([16, 32, 64]))
    limit = float(np.dtype(f"f{width // 8}").type(FLOATS[width]))
    numbers = st.floats(-limit, limit, width=width)
    odd = st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf])
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 4)))
    same = st.just(float(np.dtype(f"f{width // 8}").type(0.1)))
    numbers = draw(st.sampled_from([numbers, odd, same, numbers | odd]))
    rows = draw(st_np.arrays(f"f{width // 8}", shape, elements=numbers))
    valid = draw(st_np.arrays(np.bool_, shape[:1]))
    cuts = sorted(draw(st.sets(st.integers(1, shape[0]), max_size=4)) | {0, shape[0]})
    return rows, valid, cuts


@settings(deadline=None, max_examples=80)
@given(streams())
def test_moments_joined_in_any_pieces_are_exact(stream):
    rows, valid, cuts = stream
    total = Moments.none(rows.shape[1])
    for first, stop in itertools.pairwise(cuts):
        part = rows[first:stop][valid[first:stop]].astype(np.float64)
        total = total.joined(Moments.of(part))
    found = subject.StreamStatistics("x", 1, len(rows), int(valid.sum()), 0, total)
    check(found, rows, valid, rtol=1e-13)
    values = rows[valid]
    same = np.array([len(c) > 0 and bool((c == c[0]).all()) for c in values.T])
    first = values[0] if len(values) else np.zeros(rows.shape[1])
    same &= np.isfinite(first)
    np.testing.assert_array_equal(found.dead, same & (first == 0))
    np.testing.assert_array_equal(found.constant, same & (first != 0))
    json.dumps(found.record(), allow_nan=False)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_float16_and_its_like_counts_as_itself(tmp_path, dtype):
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(-1, 8)
    with np.errstate(invalid="ignore"):
        rows = every.astype(dtype)
        wide = rows.astype(np.float64)
    found = statistics(written(tmp_path / "s", [new_item("k", rows)]))
    finite = np.isfinite(wide)
    np.testing.assert_array_equal(found.dimensions.count, finite.sum(0))
    np.testing.assert_array_equal(found.dimensions.nan, np.isnan(wide).sum(0))
    np.testing.assert_array_equal(found.dimensions.infinite, np.isinf(wide).sum(0))
    for d in range(8):
        mean, variance, least, greatest = exact(wide[finite[:, d], d])
        assert found.dimensions.mean[d] == pytest.approx(float(mean), abs=1e-9)
        assert found.dimensions.std[d] == pytest.approx(math.sqrt(variance), rel=1e-13)
        assert found.dimensions.minimum[d] == least
        assert found.dimensions.maximum[d] == greatest


def test_a_stream_without_a_valid_row_has_no_numbers(tmp_path):
    stream = written(tmp_path / "s", [new_item("k", np.ones((5, 3), "f2"), np.zeros(5, np.bool_))])
    found = statistics(stream)
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert (record["rows"], record["valid_rows"]) == (5, 0)
    assert record["overall"] == {
        **dict.fromkeys(["mean", "std", "min", "max"]),
        **dict.fromkeys(["values", "nan", "infinite"], 0),
    }
    assert record["dead"] == record["constant"] == []
    assert record["dimensions"]["mean"] == [None, None, None]


def test_the_record_is_plain_and_whole(tmp_path):
    rows = np.array([[0, 1, 2], [0, 1, np.nan], [0, 1, np.inf], [0, 1, 4]], np.float32)
    flags = np.array([0, 1, 1, 0], np.uint8)
    stream = written(tmp_path / "s", [new_item("k", rows, flags=flags)])
    assert statistics(stream).record() == {
        "stream": stream.full_name,
        "items": 1,
        "rows": 4,
        "valid_rows": 4,
        "repeated_rows": 2,
        "overall": {
            "mean": 1.0,
            "std": pytest.approx(math.sqrt(1.4)),
            "min": 0.0,
            "max": 4.0,
            "values": 10,
            "nan": 1,
            "infinite": 1,
        },
        "dead": [0],
        "constant": [1],
        "dimensions": {
            "mean": [0.0, 1.0, 3.0],
            "std": [0.0, 0.0, 1.0],
            "min": [0.0, 1.0, 2.0],
            "max": [0.0, 1.0, 4.0],
            "values": [4, 4, 2],
            "nan": [0, 0, 1],
            "infinite": [0, 0, 1],
        },
    }


def test_the_caller_chooses_items_and_sees_progress(tmp_path, tiny, item):
    stream = written(tmp_path / "s", [item(f"k{k}", f"t{k}", rows=500, seed=k) for k in range(5)])
    told = []
    found = statistics(stream, ["k4", "k1"], lambda *step: told.append(step))
    chosen = [stream.items[key] for key in ("k4", "k1")]
    rows, valid = (
        np.concatenate([np.asarray(getattr(i, n)) for i in chosen]) for n in ("rows", "valid")
    )
    check(found, rows, valid)
    assert found.items == 2
    assert told[0] == (0, 1000, "t4")
    assert told[-1] == (1000, 1000, "done")
    assert [step[0] for step in told] == sorted({step[0] for step in told})
    assert {step[2] for step in told} == {"t4", "t1", "done"}
    assert statistics(stream, []).record()["overall"]["mean"] is None
    with pytest.raises(NotInStoreError, match="absent"):
        statistics(stream, ["absent"])


def test_an_empty_stream_is_an_error(store):
    with pytest.raises(NotInStoreError, match="no shard"):
        statistics(store.create_stream("visual/x", {"v": 1}))


@pytest.mark.parametrize("how", FORMATS[:2], ids=str)
def test_damaged_rows_are_an_error_that_names_them(tmp_path, how):
    rows = np.random.default_rng(3).random((1000, 8)).astype(np.float16)
    stream = written(tmp_path / "s", [new_item("k", rows)], how)
    (file,) = [
        path
        for path in (tmp_path / "s").rglob("*")
        if path.is_file() and path.stat().st_size > 9000
    ]
    content = bytearray(file.read_bytes())
    at = content.find(rows[600:604].tobytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"rows 512 to 768 of 'x', track 'track k'"):
        statistics(stream)


MEMORY = """
import sys, threading, time
import dask.array, dask.threaded, h5py, numpy, zarr
from concord.cache import FeatureStore
from concord.cache.statistics import statistics

def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:")) >> 10

before = most = private()
done = False
def watch():
    global most
    while not done:
        most = max(most, private())
        time.sleep(0.003)
watcher = threading.Thread(target=watch)
watcher.start()
found = statistics(FeatureStore(sys.argv[1])["visual/x"])
done = True
watcher.join()
print(found.rows, most - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("how", "items"),
    [
        (FORMATS[0], 40),
        pytest.param(FORMATS[0], 400, marks=pytest.mark.slow),
        pytest.param(FORMATS[1], 400, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_private_memory_does_not_grow_with_the_stream(tmp_path, how, items):
    rows = np.random.default_rng(0).standard_normal((3000, 512)).astype(np.float16)
    written(tmp_path / "s", (new_item(f"k{k}", rows) for k in range(items)), how)
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "s")]
    found, grown = map(int, subprocess.check_output(command, timeout=120).split())
    assert found == items * 3000
    assert grown <= 120, f"{grown} MiB beyond imports for {items * 3} MB"
