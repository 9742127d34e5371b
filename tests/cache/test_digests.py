"""Digests: one text per value, one digest per file, and a memory that notices changes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os

import pytest
from concord.cache import StoreError, canonical, digest, file_digest
from concord.cache.digests import BLOCK, DigestMemory
from hypothesis import given, settings
from hypothesis import strategies as st

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=12,
)


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int
    scale: float


@dataclasses.dataclass(frozen=True, slots=True)
class Outer:
    name: str
    inner: Inner
    sides: tuple[int, ...] = (1, 2)


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=40)
@given(PLAIN)
def test_canonical_carries_the_value_whatever_the_order_of_keys(value):
    text = canonical(value)
    assert json.loads(text) == value
    assert canonical(reordered(value)) == text
    assert digest(value) == hashlib.sha256(text).hexdigest()


@settings(deadline=None, max_examples=40)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_every_bit(value):
    back = json.loads(canonical(value))
    assert math.copysign(1, back) == math.copysign(1, value)
    assert back == value
    nearest = math.nextafter(value, math.inf)
    if math.isfinite(nearest):
        assert digest(nearest) != digest(value)


def test_canonical_text_is_pinned():
    value = {"b": 1, "a": [0.1, True, None, "é"]}
    assert canonical(value) == '{"a":[0.1,true,null,"é"],"b":1}'.encode()
    assert digest({}) == hashlib.sha256(b"{}").hexdigest()


def test_dataclasses_are_objects():
    value = Outer("x", Inner(3, 0.5))
    same = {"name": "x", "inner": {"size": 3, "scale": 0.5}, "sides": [1, 2]}
    assert canonical(value) == canonical(same)
    changed = dataclasses.replace(value, inner=Inner(3, 0.25))
    assert digest(changed) != digest(value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, {"a": [-math.inf]}, {1, 2}, b"bytes", object(), Outer]
)
def test_what_json_cannot_carry_is_refused(value):
    with pytest.raises(StoreError, match="canonical form"):
        digest(value)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 7])
def test_file_digest(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def rewrite_keeping_stat(path, content):
    """Change a file's bytes in place so that size, mtime and inode stay."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_ino) == (before.st_size, before.st_ino)


def test_memory_reads_a_file_once(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"aaaa")
    first = DigestMemory(tmp_path / "memory").file(path)
    assert first == hashlib.sha256(b"aaaa").hexdigest()
    # The stat says "unchanged", so a memory that works answers without reading.
    rewrite_keeping_stat(path, b"bbbb")
    assert DigestMemory(tmp_path / "memory").file(path) == first
    assert DigestMemory(tmp_path / "other").file(path) == hashlib.sha256(b"bbbb").hexdigest()


def touch(path):
    path.write_bytes(b"bbbb")
    os.utime(path, ns=(1, 12345))


def grow(path):
    before = path.stat()
    path.write_bytes(b"aaaaa")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path):
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"bbbb")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [touch, grow, replace], ids=["mtime", "size", "inode"])
def test_memory_notices_a_changed_file(tmp_path, change):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"aaaa")
    memory = DigestMemory(tmp_path / "memory")
    first = memory.file(path)
    change(path)
    assert memory.file(path) == hashlib.sha256(path.read_bytes()).hexdigest() != first


def test_folder_digest_is_of_names_and_bytes(tmp_path):
    def make(name, files):
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return DigestMemory(tmp_path / "memory").folder(folder, list(files))

    files = {"00001.jpg": b"one", "00002.jpg": b"two"}
    first = make("a", files)
    lines = "".join(
        f"{name}\0{hashlib.sha256(content).hexdigest()}\n" for name, content in files.items()
    )
    assert first == hashlib.sha256(lines.encode()).hexdigest()
    assert make("b", dict(reversed(files.items()))) == first
    assert make("c", {"00001.jpg": b"one", "00003.jpg": b"two"}) != first
    assert make("d", {"00001.jpg": b"two", "00002.jpg": b"one"}) != first
    assert make("e", {"00001.jpg": b"one"}) != first


def test_memory_of_a_folder(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.jpg").write_bytes(bytes([k]))
    names = sorted(path.name for path in folder.iterdir())
    memory = DigestMemory(tmp_path / "memory")
    first = memory.folder(folder, names)
    rewrite_keeping_stat(folder / "1.jpg", b"z")
    assert memory.folder(folder, names) == first
    assert memory.folder(folder, names[:2]) != first
    (folder / "0.jpg").unlink()
    (folder / "0.jpg").write_bytes(b"new")
    os.utime(folder, ns=(1, 99))
    assert memory.folder(folder, names) != first


def test_memory_stores_no_path(tmp_path):
    path = tmp_path / "secret-person" / "secret-video.mp4"
    path.parent.mkdir()
    path.write_bytes(b"x")
    memory = tmp_path / "memory"
    DigestMemory(memory).file(path)
    DigestMemory(memory).folder(path.parent, [path.name])
    records = [p for p in memory.rglob("*") if p.is_file()]
    assert len(records) == 2
    for record in records:
        text = str(record.relative_to(memory)) + record.read_text()
        assert "secret" not in text
        assert set(json.loads(record.read_bytes())) == {"mark", "sha256"}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"mark": 1}', b"\xff\xfe"])
def test_a_damaged_record_is_learned_anew(tmp_path, damage):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"aaaa")
    memory = DigestMemory(tmp_path / "memory")
    first = memory.file(path)
    (record,) = (p for p in (tmp_path / "memory").rglob("*") if p.is_file())
    record.write_bytes(damage)
    assert memory.file(path) == first
    assert json.loads(record.read_bytes())["sha256"] == first
