"""Shards: what is written comes back, in the documented layout, and damage is noticed."""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from concord.cache import NewItem, StoreError, digest, file_digest
from concord.cache.atomic import TEMPORARY
from concord.cache.entries import CHUNK_ROWS
from concord.cache.new_shard import write_shard
from concord.cache.shard import Shard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

ARRAYS = ("x", "valid", "flags", "times")


@pytest.fixture(scope="session")
def original(tmp_path_factory, item):
    items = [item("k0", "a", 300, seed=1), item("k1", "b", 1, seed=2), item("k2", "c", 289, seed=3)]
    return write_shard(tmp_path_factory.mktemp("shards"), items, {"note": "here"}), items


@pytest.fixture
def shard(original, tmp_path):
    """A published shard, each test's own copy, and its items."""
    path, items = original
    return shutil.copytree(path, tmp_path / "shards" / path.name), items


def parts(item):
    flags = np.zeros(len(item.rows), np.uint8) if item.flags is None else item.flags
    return {"x": item.rows, "valid": item.valid, "flags": flags, "times": item.times}


def assert_holds(opened, items):
    assert list(opened.entries) == [item.key for item in items]
    for item in items:
        entry = opened.entries[item.key]
        assert (entry.track, entry.rows) == (item.track, len(item.rows))
        for name, expected in parts(item).items():
            found = opened.read(name, entry)
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            # Byte for byte: NaN payloads and negative zeros included.
            assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


def item_strategy(dtype, dim):
    def build(rows):
        return st.builds(
            NewItem,
            key=st.text("0123456789abcdef", min_size=8, max_size=8),
            track=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1),
            rows=hnp.arrays(dtype, (rows, dim)),
            valid=hnp.arrays(np.bool_, rows),
            times=hnp.arrays(np.float64, rows),
            flags=st.none() | hnp.arrays(np.uint8, rows),
        )

    return st.sampled_from([1, 2, 255, 256, 257, 600]).flatmap(build)


SHARDS = st.tuples(st.sampled_from(["float16", "float32", "float64"]), st.integers(1, 5)).flatmap(
    lambda kind: st.lists(
        item_strategy(*kind), min_size=1, max_size=4, unique_by=lambda item: item.key
    )
)


@settings(deadline=None, max_examples=15)
@given(SHARDS)
def test_round_trip(items):
    with tempfile.TemporaryDirectory() as folder:
        path = write_shard(Path(folder), items, {"p": [1]})
        assert_holds(Shard(path), items)
        assert Shard(path).provenance == {"p": [1]}


def test_dim_and_dtype(shard):
    opened = Shard(shard[0])
    assert opened.dim == 3
    assert opened.dtype == np.dtype("float16")


def test_plain_zarr_reads_the_documented_layout(shard):
    path, items = shard
    group = zarr.open_group(path, mode="r", zarr_format=3)
    for name in ARRAYS:
        expected = np.concatenate([parts(item)[name] for item in items])
        assert np.array_equal(group[name][...], expected)
        assert group[name].dtype == expected.dtype
    x = group["x"]
    assert x.shape == (590, 3)
    assert x.chunks == (256, 3) == (CHUNK_ROWS, x.shape[1])
    assert x.shards == (768, 3)
    assert not x.fill_value


def test_metadata_names_the_codecs(shard):
    meta = json.loads((shard[0] / "x" / "zarr.json").read_bytes())
    assert meta["zarr_format"] == 3
    (codec,) = meta["codecs"]
    assert codec["name"] == "sharding_indexed"
    inner = [part["name"] for part in codec["configuration"]["codecs"]]
    assert inner == ["bytes", "crc32c"]
    assert codec["configuration"]["codecs"][0]["configuration"]["endian"] == "little"
    assert codec["configuration"]["chunk_shape"] == [256, 3]
    for name in ("valid", "flags", "times"):
        meta = json.loads((shard[0] / name / "zarr.json").read_bytes())
        assert [part["name"] for part in meta["codecs"]] == ["bytes", "crc32c"]


def test_files_of_a_shard(shard):
    path, _ = shard
    found = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    arrays = {f"{name}/zarr.json" for name in ARRAYS} | {"x/c/0/0"}
    arrays |= {f"{name}/c/0" for name in ARRAYS if name != "x"}
    own = {"zarr.json", "index.json", "provenance.json", "seal.json"}
    assert found == arrays | own
    seal = json.loads((path / "seal.json").read_bytes())
    assert set(seal["files"]) == found - {"seal.json"}
    for name, record in seal["files"].items():
        size = (path / name).stat().st_size
        assert record == {"size": size, "sha256": file_digest(path / name)}


def crc32c(data):
    """CRC-32C, bit by bit from its polynomial."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def test_chunks_are_plain_bytes_at_a_fixed_stride(shard):
    path, items = shard
    content = (path / "x" / "c" / "0" / "0").read_bytes()
    count, size = 3, 256 * 3 * 2
    index = np.frombuffer(content[-(count * 16 + 4) : -4], "<u8").reshape(count, 2)
    assert struct.unpack("<I", content[-4:])[0] == crc32c(index.tobytes())
    assert np.array_equal(index, [[k * (size + 4), size + 4] for k in range(count)])
    rows = np.zeros((count * 256, 3), np.float16)
    for k, (offset, length) in enumerate(index.tolist()):
        chunk = content[offset : offset + length]
        assert struct.unpack("<I", chunk[-4:])[0] == crc32c(chunk[:-4])
        rows[k * 256 : (k + 1) * 256] = np.frombuffer(chunk[:-4], "<f2").reshape(256, 3)
    assert np.array_equal(rows[:590], np.concatenate([item.rows for item in items]))
    assert not rows[590:].any()


def test_empty_chunks_are_written(tmp_path):
    zeros = NewItem(
        key="k",
        track="t",
        rows=np.zeros((600, 4), np.float32),
        valid=np.zeros(600, np.bool_),
        times=np.zeros(600),
    )
    path = write_shard(tmp_path, [zeros], {})
    assert (path / "x/c/0/0").stat().st_size == 3 * (256 * 4 * 4 + 4) + 3 * 16 + 4
    assert (path / "valid/c/0").stat().st_size == 600 + 4
    assert_holds(Shard(path), [zeros])


def test_same_items_twice_are_one_shard(tmp_path, item):
    items = [item("k0"), item("k1", seed=1)]
    first = write_shard(tmp_path, items, {"run": 1})
    marks = {p: p.stat().st_mtime_ns for p in first.rglob("*")}
    assert write_shard(tmp_path, items, {"run": 2}) == first
    assert [p.name for p in tmp_path.iterdir()] == [first.name]
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == marks
    assert write_shard(tmp_path, items[:1], {}) != first
    assert len(list(tmp_path.iterdir())) == 2


FILES = [
    "zarr.json",
    "index.json",
    "provenance.json",
    *(f"{name}/zarr.json" for name in ARRAYS),
    "x/c/0/0",
    "valid/c/0",
    "flags/c/0",
    "times/c/0",
]


@pytest.mark.parametrize("fault", ["missing", "truncated", "emptied", "grown"])
@pytest.mark.parametrize("name", FILES)
def test_seal_names_the_damaged_file(shard, fault, name):
    path = shard[0] / name
    content = path.read_bytes()
    path.unlink()
    if fault != "missing":
        cut = {"truncated": content[:-1], "emptied": b"", "grown": content + b"\0"}[fault]
        path.write_bytes(cut)
    with pytest.raises(StoreError) as error:
        Shard(shard[0])
    told = str(error.value)
    assert told.startswith(f"{path}: ")
    sizes = fault != "missing" and name != "index.json"
    assert ("missing" in told) == (fault == "missing")
    assert (f"expected {len(content)} bytes, found {len(cut)}" in told) if sizes else True


def test_without_a_seal_it_is_no_shard(shard):
    (shard[0] / "seal.json").unlink()
    with pytest.raises(StoreError, match=r"seal\.json: missing: the shard was never finished"):
        Shard(shard[0])


def reseal(shard):
    """Seal a forged shard as its forger would."""
    path = shard / "seal.json"
    names = json.loads(path.read_bytes())["files"]
    files = {
        name: {"size": (shard / name).stat().st_size, "sha256": file_digest(shard / name)}
        for name in names
    }
    path.write_text(json.dumps({"version": 2, "files": files, "sha256": digest(files)}))


def edit(path, change):
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


@pytest.mark.parametrize("version", [3, 9])
@pytest.mark.parametrize("name", ["seal.json", "index.json"])
def test_a_newer_version_is_refused(shard, name, version):
    edit(shard[0] / name, lambda record: record.update(version=version))
    if name == "index.json":
        reseal(shard[0])
    with pytest.raises(StoreError, match=f"{name}: version {version} is newer .* update concord"):
        Shard(shard[0])


@pytest.mark.parametrize("version", [0, -1, True, None, "2", 2.0])
def test_no_version_is_refused(shard, version):
    edit(shard[0] / "seal.json", lambda record: record.update(version=version))
    with pytest.raises(StoreError, match=r"seal\.json: expected a version number"):
        Shard(shard[0])


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": 1}', '"seal"'])
def test_garbage_for_a_seal(shard, content):
    (shard[0] / "seal.json").write_text(content)
    with pytest.raises(StoreError, match=r"seal\.json"):
        Shard(shard[0])


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "x/../../outside", "", "more"])
def test_seal_may_not_name_other_files(shard, name):
    (shard[0].parent / "outside").write_bytes(b"12345")

    def forge(seal):
        seal["files"][name] = {"size": 5, "sha256": "0" * 64}
        seal["sha256"] = digest(seal["files"])

    edit(shard[0] / "seal.json", forge)
    with pytest.raises(StoreError, match=r"seal\.json: not the files of this format"):
        Shard(shard[0])


def test_a_link_out_of_the_shard_is_refused(shard, tmp_path):
    file = shard[0] / "x/c/0/0"
    shutil.copy(file, tmp_path / "elsewhere")
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"x/c/0/0: expected a plain file or folder, found a link"):
        Shard(shard[0])


@pytest.mark.parametrize(("field", "old", "new"), [("rows", 289, 291), ("first", 301, 302)])
def test_an_index_past_the_end_is_refused(shard, field, old, new):
    path = shard[0] / "index.json"
    before = path.read_bytes()
    path.write_bytes(before.replace(f'"{field}": {old}'.encode(), f'"{field}": {new}'.encode()))
    assert path.read_bytes() != before
    with pytest.raises(StoreError, match=r"index\.json: damaged: SHA-256"):
        Shard(shard[0])
    reseal(shard[0])
    with pytest.raises(StoreError, match=r"index\.json: (items hold 592|track 'c' starts at)"):
        Shard(shard[0])


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "file", "place"),
    [
        ("x", "x/c/0/0", 0),
        ("x", "x/c/0/0", 256 * 6 - 1),
        ("x", "x/c/0/0", -10),
        ("valid", "valid/c/0", 5),
        ("flags", "flags/c/0", 5),
        ("times", "times/c/0", 5),
    ],
)
def test_a_flipped_bit_is_noticed(shard, name, file, place):
    path, items = shard
    flip(path / file, place)
    opened = Shard(path)
    with pytest.raises(StoreError, match=f"{file}: rows 0 .* '{name}', track 'a', are damaged"):
        opened.read(name, opened.entries["k0"])
    for other in set(ARRAYS) - {name}:
        found = opened.read(other, opened.entries["k0"])
        assert np.array_equal(found, parts(items[0])[other])


def test_damage_in_one_chunk_leaves_the_others_readable(shard):
    path, items = shard
    flip(path / "x/c/0/0", 10)
    opened = Shard(path)
    assert np.array_equal(opened.read("x", opened.entries["k2"]), items[2].rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": np.zeros((5, 4), np.float16)},
        {"rows": np.zeros((5, 3), np.float32)},
        {"valid": np.ones(4, np.bool_)},
        {"times": np.zeros(6)},
        {"flags": np.zeros(4, np.uint8)},
    ],
    ids=["dim", "dtype", "valid", "times", "flags"],
)
def test_misfits_are_refused_before_anything_is_written(tmp_path, item, changes):
    bad = dataclasses.replace(item("k1", track="bad"), **changes)
    with pytest.raises(StoreError, match="track 'bad'"):
        write_shard(tmp_path, [item("k0"), bad], {})
    assert not list(tmp_path.iterdir())


def test_no_items_no_shard(tmp_path):
    with pytest.raises(StoreError, match="at least one item"):
        write_shard(tmp_path, [], {})
    assert not list(tmp_path.iterdir())


def test_unfinished_names_are_marked(tmp_path, item, monkeypatch):
    seen = []

    def look(temporary, final):
        seen.append((temporary, (temporary / "seal.json").is_file(), final.exists()))
        raise KeyboardInterrupt

    monkeypatch.setattr("concord.cache.new_shard.publish_folder", look)
    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path, [item("k0")], {})
    ((temporary, sealed, published),) = seen
    assert temporary.name.startswith(TEMPORARY)
    assert sealed
    assert not published
