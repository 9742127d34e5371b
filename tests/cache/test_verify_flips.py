"""Damage of every kind: `verify` names it, and no reader takes a damaged number for a sound one.

Every flipped bit of a sealed file is found, so also each that changes a number or a name; which
items it costs is told here from where plain zarr, h5py and struct say that the bytes lie.
"""

from __future__ import annotations

import struct

import h5py
import pytest
import zarr
from concord.cache.place import LocalPlace
from concord.cache.reading import read_shard

from .damage import (
    FORMATS,
    IDS,
    KINDS,
    RECORDS,
    ROWS,
    flip,
    flips,
    read_all,
)
from .verifying import found_in, named

pytestmark = pytest.mark.usefixtures("patience")


def rows_beside(shard, flipped):
    """Say which rows of a shard lie under one checksum with a byte."""
    path = shard / flipped.file
    if flipped.file == "shard.h5":
        with h5py.File(path, "r") as file:
            for data in file.values():
                at = flipped.position - data.id.get_offset()
                if 0 <= at < data.nbytes:
                    first = at // (data.nbytes // len(data)) // 256 * 256
                    return range(first, first + 256)
    elif flipped.file == "x/c/0/0":
        content = path.read_bytes()
        count = -(-zarr.open_array(shard / "x", mode="r").shape[0] // 256)
        index = struct.unpack(f"<{2 * count}Q", content[-16 * count - 4 : -4])
        for k, (start, size) in enumerate(zip(index[::2], index[1::2], strict=True)):
            if start <= flipped.position < start + size:
                return range(k * 256, k * 256 + 256)
    elif flipped.file.endswith("/c/0") or flipped.file in ("index.json", "seal.json"):
        return range(sum(ROWS["a"]))
    return range(0)


def items_beside(written, rows):
    """Give, of the items of shard `a`, the track and rows that lie among some rows of it."""
    hit, first = {}, 0
    for item in written.items["a"]:
        stretch = max(rows.start - first, 0), min(rows.stop - first, len(item.rows))
        if stretch[0] < stretch[1]:
            hit[item.key] = (item.track, (stretch,))
        first += len(item.rows)
    return hit


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_found_and_never_read(written, name, count):
    here = written(name)
    for flipped in flips(here.shard, count, seed=count):
        hit = items_beside(here, rows_beside(here.shard, flipped))
        flipped.do(here.shard)
        findings = found_in(here)
        (found,) = [finding for finding in findings if finding.path == str(here.shard)]
        assert found.kind == "shard", flipped
        assert flipped.file in found.problem
        assert named(findings) == hit, flipped
        refused = read_all(here, mapped=True)
        assert set(hit) <= refused <= here.keys("a"), flipped
        flipped.do(here.shard)
    assert found_in(here) == []
    assert read_all(here, mapped=True) == set()


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
@pytest.mark.parametrize("count", [16, pytest.param(300, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_never_read_by_a_library(stores, tmp_path, kind, count):
    for number, flipped in enumerate(flips(stores[kind].shard, count, seed=count + 1)):
        here = stores[kind].copy(tmp_path / str(number))
        flipped.do(here.shard)
        assert [found.path for found in found_in(here) if found.kind == "shard"] == [
            str(here.shard)
        ]
        assert read_all(here, mapped=False) <= here.keys("a"), flipped


@pytest.mark.parametrize("compressed", [False, True])
def test_no_bit_of_the_metadata_sends_zarr_elsewhere(written, compressed):
    """A dot for a slash is one bit, and zarr gives zeros where it finds no file of that name."""
    here = written("zarr", compressed)
    path = here.shard / "x/zarr.json"
    flip(path, path.read_bytes().index(b'"/"') + 1)
    assert b'"."' in path.read_bytes()
    assert read_all(here, mapped=False) == here.keys("a")


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("file", RECORDS)
def test_every_bit_of_the_records_counts(written, name, file):
    shard = written(name).shard
    size = (shard / file).stat().st_size
    for position in range(size):
        for bit in range(8):
            flip(shard / file, position, bit)
            assert read_shard(LocalPlace(str(shard))).problems, (position, bit)
            flip(shard / file, position, bit)
    assert not read_shard(LocalPlace(str(shard))).problems


@pytest.mark.parametrize("what", ["recipe", "manifest"])
@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flipped_bit_in_a_record_of_the_store(written, what, count):
    here = written()
    path = getattr(here, what)
    for flipped in flips(path.parent, count, seed=5):
        if flipped.file == path.name:
            flipped.do(path.parent)
            (found,) = found_in(here)
            assert found.path == str(path)
            assert found.kind in (what, "unreadable")
            assert found.problem.startswith(str(path))
            flipped.do(path.parent)
    assert found_in(here) == []
