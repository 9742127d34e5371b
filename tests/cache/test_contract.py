"""What every way of storing and reading gives: the numbers that were written, bit for bit."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from concord.cache import FeatureStore, Manifest, ManifestTrack, NewItem, ShardFormat, StoreError
from concord.cache.digests import digest
from hypothesis import given, note, settings
from hypothesis import strategies as st

MAPPED = [ShardFormat("zarr"), ShardFormat("hdf5")]
FORMATS = [*MAPPED, *(replace(how, compressed=True) for how in MAPPED)]
READERS = {how: ["mapped", "library", "url"][how.compressed :] for how in FORMATS}
WAYS = [(how, reader) for how in FORMATS for reader in READERS[how]]
efforts = pytest.mark.parametrize("effort", [15, pytest.param(100, marks=pytest.mark.slow)])
formats = pytest.mark.parametrize("how", FORMATS, ids=str)
STREAMS = {"float16": "visual/x", "float32": "audio/x", "float64": "labels/x"}
NOTE = {"versions": {"ä": "1.0"}, "device": "cpu"}
COUNTS = {"a": 300, "b": 1, "c": 256, "d": 600, "e": 424}
"""Tracks by rows; they lie in shards of 301 and 1280 rows, the second one a multiple of 256."""
DIM = 5


def opened(folder, how, reader):
    if reader != "url":
        return FeatureStore(folder, mapped=reader == "mapped")
    if how == FORMATS[3]:
        # Memory is not seen by the child process that reads an HDF5 file first.
        return FeatureStore(f"simplecache::file://{folder}")
    fsspec.filesystem("memory").put(str(folder), str(folder), recursive=True)
    return FeatureStore(f"memory:/{folder}")


def bits(dtype, shape, random):
    """Any bits at all, and every tenth value one that arithmetic would change."""
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    found = random.integers(0, np.iinfo(unsigned).max, shape, unsigned, endpoint=True)
    inf, nan, minus = (np.array(value, dtype).view(unsigned) for value in (np.inf, np.nan, -0.0))
    odd = np.array([0, 1, inf, inf + 1, nan, nan + 1, minus, minus | nan | 1], unsigned)
    return np.where(random.random(shape) < 0.1, random.choice(odd, shape), found).view(dtype)


def new_item(track, count, dtype, dim, key=None, seed=0):
    random = np.random.default_rng([seed, *track.encode()])
    identity = {} if key else {"recipe": "r", "rows": count, "inputs": {"media": track}}
    x, times = bits(dtype, (count, dim), random), bits("float64", count, random)
    valid, flags = random.random(count) < 0.8, random.integers(0, 256, count, np.uint8)
    beside = {"valid": valid, "times": times, "flags": flags}
    return NewItem(key=key or digest(identity), track=track, rows=x, identity=identity, **beside)


def write(store, name, items, ends):
    """Publish items, a shard after each of `ends`, and list them in a manifest."""
    stream = store.create_stream(name, {"v": 1})
    with stream.writer(NOTE) as writer:
        for number, item in enumerate(items):
            writer.add(item)
            if number in ends:
                writer.publish()
    row = {"source": "s", "split": "train", "family": "f", "rate": None}
    held = [(i.track, len(i.rows), {stream.full_name: i.key}) for i in items]
    tracks = [ManifestTrack(track=t, rows=n, items=keys, **row) for t, n, keys in held]
    store.save_manifest(Manifest(name.partition("/")[0], "1", tuple(tracks)))


ITEMS = {d: {t: new_item(t, n, d, DIM) for t, n in COUNTS.items()} for d in STREAMS}


def same(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


def examples(count, *strategies):
    """Run a function at once, on so many examples."""
    return lambda body: settings(max_examples=count, deadline=None)(given(*strategies)(body))()


CONTROL = [*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), "\ud800", "\udfff"]
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30),
    st.text("aé/. \\\u2028\U0001f600", min_size=1, max_size=8),
    st.sampled_from(["..", "../../x", "/", " ", "é", "e\u0301", "x" * 4096, "é" * 4096]),
)
ILL = st.builds("{}{}x".format, st.text(max_size=3), st.sampled_from(CONTROL))
FORBIDDEN = st.sampled_from(["", "x" * 4097, None, 5]) | ILL
LENGTHS = st.sampled_from([1, 2, 255, 256, 257, 512, 768]) | st.integers(1, 800)
DTYPES = st.sampled_from(list(STREAMS))
TRACKS = st.sampled_from(list(COUNTS))


@st.composite
def cases(draw):
    """Items of one stream, and after which of them a shard ends."""
    dtype, dim = draw(DTYPES), draw(st.integers(1, 40))
    items = []
    for track in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        key = track if draw(st.booleans()) else None
        item = new_item(track, draw(LENGTHS), dtype, dim, key, draw(st.integers(0, 1 << 32)))
        if draw(st.booleans()):
            item = replace(item, rows=np.asfortranarray(item.rows)[::-1], flags=None)
        items.append(item)
    return dtype, items, draw(st.sets(st.integers(0, 1)))


def places(size):
    """What NumPy takes for rows: slices, numbers, lists, masks, and pairs of them with columns."""
    bound = st.none() | st.integers(-size - 3, size + 3) | st.sampled_from([0, 256, size])
    slices = st.builds(slice, bound, bound, st.sampled_from([None, None, 1, 2, -1, -7]))
    number = st.integers(-size, size - 1)
    listed = st.lists(number, max_size=6).map(lambda numbers: np.array(numbers, np.intp))
    mask = st.integers(0, 99).map(lambda seed: np.random.default_rng(seed).random(size) < 0.5)
    rows = slices | number | number.map(np.int64) | listed | listed.map(list) | mask | st.just(...)
    return rows | st.tuples(slices | number | mask, st.sampled_from([0, -1, slice(None, None, 2)]))


@st.composite
def windows(draw):
    """Tracks and numbers of rows: contiguous, dilated, reversed, strewn; -1 outside the track."""
    length = draw(st.sampled_from([1, 2, 9, 256, 257, 300]))
    tracks = draw(st.lists(TRACKS, max_size=4))
    numbers = np.empty((len(tracks), length), draw(st.sampled_from([np.int64, np.int32])))
    for window, track in zip(numbers, tracks, strict=True):
        rows = COUNTS[track]
        start = draw(st.integers(-5, rows + 4) | st.sampled_from([0, rows - length]))
        step = draw(st.sampled_from([1, 1, 1, 2, 7, 0, -1, -3, None]))
        strewn = np.random.default_rng(start + 999).integers(-1, rows, length)
        window[:] = strewn if step is None else start + step * np.arange(length)
        window[(window < 0) | (window >= rows)] = -1
    return tracks, numbers


OUTS = {
    "array": np.ones,
    "every other": lambda shape, dtype: np.ones((*shape[:2], 2 * shape[2]), dtype)[:, :, ::2],
    "backwards": lambda shape, dtype: np.ones(shape, dtype)[::-1, ::-1, ::-1],
    "tensor": lambda shape, dtype: torch.from_numpy(np.ones(shape, dtype)),
    "tensor view": lambda shape, dtype: torch.from_numpy(np.ones(shape, dtype, order="F")),
}
NO_ROWS = [[0, 1], [[0, 1]], [[[0]], [[1]]], [[0], [1], [2]], [[0.0], [1.0]], [[True]] * 2, []]
NO_OUTS = [
    *(np.ones(shape) for shape in [(1, 2, DIM + 1), (2, 1, DIM), (1, 1, DIM), (2, DIM), ()]),
    *(np.ones((1, 2, DIM), dtype) for dtype in [np.int64, np.complex64, object]),
    *(torch.ones(1, 2, DIM, dtype=dtype) for dtype in [torch.int32, torch.bfloat16]),
    *(torch.ones(1, 2, DIM, **how) for how in [{"requires_grad": True}, {"device": "meta"}]),
    *(torch.ones(1, 2, 1), np.broadcast_to(1.0, (1, 2, DIM)), [[[0.0] * DIM] * 2], "out"),
]


def by_loop(items, tracks, numbers, dtype):
    out = np.zeros((*numbers.shape, DIM), dtype)
    for at, number in np.ndenumerate(numbers):
        if number != -1:
            out[at] = items[tracks[at[0]]].rows[number]
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {how: tmp_path_factory.mktemp("contract") / "a store" for how in FORMATS}
    for (how, folder), (dtype, name) in itertools.product(made.items(), STREAMS.items()):
        write(FeatureStore.create(folder, how), name, ITEMS[dtype].values(), {1})
    return made


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[0]} {way[1]}")
def streams(request, folders):
    store = opened(folders[request.param[0]], *request.param)
    return {dtype: store[name] for dtype, name in STREAMS.items()}


@efforts
@formats
def test_what_is_written_is_what_is_read(how, effort):
    @examples(effort // (1 + how.compressed), cases(), st.data())
    def _(case, data):
        dtype, items, ends = case
        with tempfile.TemporaryDirectory() as folder:
            write(FeatureStore.create(folder, how), STREAMS[dtype], items, ends)
            keys = [item.key for item in items]
            for reader in READERS[how]:
                note(reader)
                stream = opened(folder, how, reader)[STREAMS[dtype]]
                assert (stream.dtype, set(stream.items)) == (dtype, set(keys))
                for item in items:
                    found, place = stream[item.track], data.draw(places(len(item.rows)))
                    same(found.rows[place], item.rows[place])
                    for name, expected in item.arrays().items():
                        values = np.asarray(getattr(found, {"x": "rows"}.get(name, name)))
                        same(values, expected)
                        assert not values.flags.writeable, name
                    told = (found.rows.dtype, found.rows.shape, found.rows.nbytes, len(found.rows))
                    assert told == (stream.dtype, item.rows.shape, item.rows.nbytes, len(item.rows))
                    assert (found.key, found.entry.track) == (item.key, item.track)
                    assert found.identity == item.identity
                    assert found.provenance == {**NOTE, "recipe": {"v": 1}, "stream": stream.name}
                    found.check()
                array = stream.to_dask(keys).compute(scheduler="synchronous")
                same(array, np.concatenate([item.rows for item in items]))


@efforts
@formats
def test_forbidden_names_are_refused_and_write_nothing(how, effort):
    @examples(effort, FORBIDDEN, st.booleans(), st.integers(0, 2))
    def _(name, is_key, at):
        items = [new_item(f"t{k}", 3, "float16", 2) for k in range(3)]
        items[at] = replace(items[at], **{"key" if is_key else "track": name}, identity={})
        with tempfile.TemporaryDirectory() as folder:
            writer = FeatureStore.create(folder, how).create_stream("visual/x", {}).writer()
            before = sorted(Path(folder).rglob("*"))
            for item in items:
                writer.add(item)
            with pytest.raises(StoreError, match="expected 1 to 4096 characters"):
                writer.publish()
            assert sorted(Path(folder).rglob("*")) == before


class TestContract:
    @efforts
    def test_any_index(self, streams, effort):
        @examples(3 * effort, st.data(), DTYPES, TRACKS)
        def _(data, dtype, track):
            place = data.draw(places(COUNTS[track]))
            found, expected = streams[dtype][track].rows[place], ITEMS[dtype][track].rows[place]
            same(found, expected)
            if isinstance(place, (slice, int)):
                assert not found.flags.writeable

    def test_stretches_that_end_where_chunks_and_items_do(self, streams):
        for track, count in COUNTS.items():
            rows, expected = streams["float32"][track].rows, ITEMS["float32"][track].rows
            bounds = [0, 1, 88, 89, 255, 256, 257, count - 1, count, count + 1]
            for first, stop in itertools.combinations_with_replacement(bounds, 2):
                same(rows[first:stop], expected[first:stop])
            for row in (count, -count - 1, 1 << 40):
                with pytest.raises(IndexError):
                    rows[row]

    @efforts
    def test_gathering_is_a_loop_over_rows(self, streams, effort):
        @examples(3 * effort, windows(), DTYPES, DTYPES, st.sampled_from([None, *OUTS]))
        def _(window, dtype, wanted, kind):
            tracks, numbers = window
            out = OUTS[kind]((*numbers.shape, DIM), wanted) if kind else None
            with np.errstate(all="ignore"):
                found = streams[dtype].gather(tracks, numbers, out)
                expected = by_loop(ITEMS[dtype], tracks, numbers, wanted if kind else dtype)
            if kind and wanted != dtype:
                # How a processor shortens the payload of a NaN is its own affair.
                np.testing.assert_array_equal(found, expected, strict=True)
                np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
            else:
                same(found, expected)
            if kind:
                same(out, found)
                assert not found.size or np.shares_memory(found, np.asarray(out))
            if kind == "every other":
                assert (out.base[:, :, 1::2] == 1).all()

    def test_gathering_outside_a_track_is_an_error(self, streams):
        for track, step, at, beyond in itertools.product(COUNTS, (1, -1, 3), (0, 9), (0, 1, 999)):
            around = step * (np.arange(10) - at)
            for number in (-2 - beyond, COUNTS[track] + beyond):
                with pytest.raises(IndexError):
                    streams["float32"].gather([track], [number + around])

    def test_what_does_not_fit_is_refused(self, streams):
        for rows in NO_ROWS:
            with pytest.raises(StoreError, match="expected rows as"):
                streams["float16"].gather(["a", "b"], rows)
        for out in NO_OUTS:
            with pytest.raises(StoreError, match="gather: "):
                streams["float16"].gather(["a"], [[0, 1]], out)


@formats
def test_local_rows_are_views_of_the_file(how, folders):
    """In Zarr as far as a chunk goes: its checksum lies before the next."""
    stream = FeatureStore(folders[how])["visual/x"]
    within = [("a", 3, 200), ("b", 0, 1), ("c", 0, 256), ("d", 10, 256)]
    for track, first, stop in [*within, ("a", 250, 260), ("d", 0, 600)]:
        rows = stream[track].rows
        mapped = how == MAPPED[1] or (how == MAPPED[0] and (track, first, stop) in within)
        assert np.shares_memory(rows[first:stop], rows[first:stop]) == mapped
    assert np.shares_memory(stream["c"].rows, stream["c"].rows[5:9]) == (how in MAPPED)
    assert np.shares_memory(stream["a"].times, stream["a"].times) == (how in MAPPED)
