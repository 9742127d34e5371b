"""Items end to end, and long stretches read without the map: the same rows, the same checks."""

import numpy as np
import pytest
from concord.cache import FeatureStore, NewItem, ShardFormat, StoreError, arrays
from hypothesis import given, settings
from hypothesis import strategies as st

DIM = 6
ROWS = (700, 3, 256, 1, 5000, 1300, 255, 40)


@pytest.fixture(autouse=True)
def few_rows_are_many(monkeypatch):
    """They are read past the map, as long stretches are."""
    monkeypatch.setattr(arrays, "LONG", 1)


def values(number, kind):
    rows = ROWS[number]
    whole = np.arange(rows * DIM).reshape(rows, DIM) % 997 + number * 1000
    return whole.astype(kind)


def written(path, shards, kind=np.float16):
    store = FeatureStore.create(path, ShardFormat(shards))
    stream = store.create_stream("visual/x", {"made": "up"})
    for batch in (range(3), range(3, 8)):
        with stream.writer() as writer:
            for number in batch:
                rows = ROWS[number]
                writer.add(
                    NewItem(
                        key=f"k{number}",
                        track=f"t{number}",
                        rows=values(number, kind),
                        valid=np.ones(rows, bool),
                        times=np.arange(rows) / 10,
                    )
                )
    return FeatureStore(path)["visual/x"]


@pytest.fixture(scope="module", params=["zarr", "hdf5"])
def stream(request, tmp_path_factory):
    return written(tmp_path_factory.mktemp("joined") / "store", request.param)


def joined_of(stream, order, lacking=()):
    items = [None if n in lacking else stream.item(f"k{n}") for n in order]
    return stream.joined(items, [ROWS[n] for n in order])


def plain_of(order, lacking=()):
    parts = [values(n, np.float16) * (n not in lacking) for n in order]
    return np.concatenate(parts)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_rows_equal_fancy_indexing(stream, data):
    order = data.draw(st.permutations(range(8)))
    lacking = data.draw(st.sets(st.integers(0, 7), max_size=3))
    joined, plain = joined_of(stream, order, lacking), plain_of(order, lacking)
    assert len(joined) == len(plain)
    shape = data.draw(st.tuples(st.integers(0, 4), st.integers(1, 30)))
    numbers = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-1, len(plain), shape)
    expected = plain[numbers]
    expected[numbers == -1] = 0
    found = joined.take(numbers)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, expected)


def test_spans_lie_end_to_end(stream):
    spans = joined_of(stream, [4, 1, 0]).spans
    assert [(s.start, s.stop) for s in spans] == [(0, 5000), (5000, 5003), (5003, 5703)]


def test_numbers_beyond_the_rows_are_refused(stream):
    joined = joined_of(stream, [1, 2])
    for numbers in ([259], [-2]):
        with pytest.raises(IndexError, match="of 259"):
            joined.take(np.array(numbers))


def test_another_number_of_rows_is_refused(stream):
    with pytest.raises(StoreError, match=r"'t1' has 3 rows, expected 4"):
        stream.joined([stream.item("k1")], [4])


@pytest.mark.parametrize("first", [0, 1, 255, 256, 1300])
@pytest.mark.parametrize("count", [0, 1, 900, 1100, 2500])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_long_stretches_are_read_whole(tmp_path, stream, first, count, kind):
    """Through the map and beside it, converted or not."""
    out = np.full((count, DIM), 7, kind)
    fresh = FeatureStore(stream.store.path)["visual/x"].item("k4")
    fresh.rows.read_into(first, out)
    np.testing.assert_array_equal(out, values(4, np.float16)[first : first + count].astype(kind))


def flipped(stream, needle):
    """Flip a bit of a row's bytes, wherever they lie in the shards."""
    for path in stream.store.path.rglob("*"):
        if path.is_file() and needle in (content := path.read_bytes()):
            at = content.index(needle) + 3
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            return
    raise AssertionError


@pytest.mark.parametrize("shards", ["zarr", "hdf5"])
@pytest.mark.parametrize("way", ["read_into", "take"])
def test_a_flipped_bit_is_found_and_named(tmp_path, shards, way):
    stream = written(tmp_path / "store", shards)
    flipped(stream, values(4, np.float16)[2000:2003].tobytes())
    fresh = FeatureStore(stream.store.path)["visual/x"]
    reads = {
        "take": lambda: joined_of(fresh, [0, 4, 5]).take(np.arange(700, 5700, 32)),
        "read_into": lambda: fresh.item("k4").rows.read_into(0, np.empty((5000, DIM), np.float16)),
    }
    with pytest.raises(StoreError, match=r"track 't4'.*damaged"):
        reads[way]()
    again = np.empty((700, DIM), np.float16)
    fresh.item("k0").rows.read_into(0, again)
    np.testing.assert_array_equal(again, values(0, np.float16))


@pytest.mark.parametrize("shards", ["zarr", "hdf5"])
def test_a_file_that_became_shorter_is_damage(tmp_path, shards):
    stream = written(tmp_path / "store", shards)
    item = stream.item("k4")
    item.rows[0:1]
    largest = max(
        stream.store.path.rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0
    )
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size // 4)
    with pytest.raises(StoreError, match="damaged"):
        item.rows.read_into(300, np.empty((4700, DIM), np.float16))
