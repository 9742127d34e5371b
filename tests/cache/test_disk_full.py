"""A full disk: a clear error, nothing lost or half there, and on it goes when there is space."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import traceback
from collections import Counter
from pathlib import Path

import pytest
from concord.cache import FeatureStore, ShardFormat, StoreError

from .workers import NAME, NARROW, RECIPE, check_item, manifest, new_item

BYTES, FILES, PAGE = 64 << 20, 1000, 4096
MOUNT = 'mount -t tmpfs -o "size=$1,nr_inodes=$2" tmpfs "$3" && echo mounted && exec cat'
FORMATS = {
    f"{name}{'-compressed' * compressed}": ShardFormat(name, compressed=compressed)
    for name in ("zarr", "hdf5")
    for compressed in (False, True)
}


class SmallDisk:
    """A file system of 64 MB and 1,000 files.

    It is mounted in a name space of its own, that of a process that ends with this one, so nothing
    has to be unmounted; it is reached through that process's root.
    """

    def __init__(self, process, path):
        self._process = process
        self.path = Path(f"/proc/{process.pid}/root{path}")

    def left(self):
        """Pages of data, and files and folders, that fit."""
        found = os.statvfs(self.path)
        return {"pages": found.f_bavail * found.f_frsize // PAGE, "files": found.f_favail}

    @contextlib.contextmanager
    def nearly_full(self, *, pages=None, files=None):
        """Leave room for so many pages of data, or so many files and folders."""
        filling = self.path / "filling"
        filling.mkdir()
        if files is not None:
            for k in range(self.left()["files"] - files):
                (filling / str(k)).touch()
        else:
            with (filling / "one").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, (self.left()["pages"] - pages) * PAGE)
        try:
            yield
        finally:
            shutil.rmtree(filling)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh"]
    with subprocess.Popen(
        [*command, str(BYTES), str(FILES), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdout.readline() != "mounted\n":
            pytest.skip(f"no small file system can be made here: {process.communicate()[1]}")
        yield SmallDisk(process, folder)
        process.communicate()


@pytest.fixture
def disk(mounted):
    yield mounted
    for path in mounted.path.iterdir():
        shutil.rmtree(path)


@pytest.fixture(params=list(FORMATS))
def shards(request):
    return FORMATS[request.param]


def keys_in(store):
    """Open a store anew, mapped and not, and check all of it; gives the keys of its items."""
    for mapped in (True, False):
        (stream,) = FeatureStore(store.path, mapped=mapped).streams()
        assert stream.damages == ()
        for item in stream.items.values():
            check_item(item, NARROW)
    return sorted(stream.items)


def adding(writer, keys):
    for key in keys:
        writer.add(new_item(key, NARROW))
    return writer


def remove(store, key):
    """Remove the shard that holds an item."""
    (shard,) = (shard for shard in store[NAME].shards if key in shard.entries)
    shutil.rmtree(shard.path)


def step_of(error):
    """Name the function of the writing that met the full disk."""
    while error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    return [frame.name for frame in frames if Path(frame.filename).parent.name == "cache"][-1]


def rooms(needed, count):
    """Choose amounts of room, from none to one too little."""
    return range(needed - 1, -1, -(max(1, needed // count) if count else 1))


@pytest.mark.parametrize("count", [3, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", ["pages", "files"])
def test_a_writer_goes_on_when_there_is_space_again(disk, shards, what, count):
    store = FeatureStore.create(disk.path / "store", shards)
    stream = store.create_stream(NAME, RECIPE)
    adding(stream.writer(), "abc").publish()
    before = disk.left()
    adding(stream.writer(), "ABC").publish()
    used = {name: before[name] - left for name, left in disk.left().items()}
    remove(store, "A")
    met = Counter()
    for room in rooms(used[what], count):
        writer = adding(stream.writer(), "ABC")
        with disk.nearly_full(**{what: room}):
            with pytest.raises(StoreError, match="no space left") as error:
                writer.publish()
            assert keys_in(store) == ["a", "b", "c"]
            assert list(store.path.rglob(".tmp-*")) == []
        met[step_of(error.value)] += 1
        writer.publish()
        assert keys_in(store) == ["A", "B", "C", "a", "b", "c"]
        remove(store, "A")
    print(f"\n{shards}: full at {met.total()} points of {used[what]} {what}: {dict(met)}")
    assert count or len(met) > 2


@pytest.mark.parametrize("what", ["pages", "files"])
def test_a_small_file_is_the_old_or_the_new_one(disk, what):
    path = disk.path / "store"

    def no_store():
        with pytest.raises(StoreError, match="no store here"):
            FeatureStore(path)

    assert room_needed(disk, what, lambda: FeatureStore.create(path), no_store) > 0
    store = FeatureStore(path)

    def no_stream():
        assert store.streams() == ()

    assert room_needed(disk, what, lambda: store.create_stream(NAME, RECIPE), no_stream) > 0
    store.save_manifest(manifest(0))

    def old_manifest():
        assert store.manifests() == (manifest(0),)

    assert room_needed(disk, what, lambda: store.save_manifest(manifest(1)), old_manifest) > 0
    assert store.manifests() == (manifest(1),)
    assert list(path.rglob(".tmp-*")) == []


def room_needed(disk, what, act, check):
    """Do something with more and more room until it is done; gives the room that it took."""
    for room in range(FILES):
        with disk.nearly_full(**{what: room}):
            try:
                act()
            except StoreError as error:
                message = str(error)
            else:
                return room
            assert "no space left" in message
            check()
    pytest.fail("there is never enough room")
