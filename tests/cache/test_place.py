"""A folder as a place: small files are read whole, whatever others do meanwhile."""

from __future__ import annotations

import os
import threading
import time

import pytest
from concord.cache.atomic import atomic_write
from concord.cache.errors import StoreError
from concord.cache.place import RECORD_LIMIT, open_place


def test_a_file_that_is_replaced_meanwhile_is_the_old_or_the_new_one(tmp_path):
    contents = [b"{}", b"[" + b"1," * 40_000 + b"1]"]
    atomic_write(tmp_path / "record", contents[0])
    place, seen, stop = open_place(tmp_path), set(), threading.Event()

    def write():
        spare = [tmp_path / f".{k}" for k in range(2)]
        while not stop.wait(0.0001):
            for path, content in zip(spare, contents, strict=True):
                path.write_bytes(content)
                path.replace(tmp_path / "record")

    writer = threading.Thread(target=write)
    writer.start()
    until, reads = time.monotonic() + 20, 0
    try:
        while (len(seen) < 2 or reads < 2_000) and time.monotonic() < until:
            seen.add(place.read("record"))
            reads += 1
            stop.wait(0.0001)
    finally:
        stop.set()
        writer.join()
    assert seen == set(contents)


def test_what_is_no_small_plain_file_is_not_read(tmp_path):
    place = open_place(tmp_path)
    with pytest.raises(FileNotFoundError):
        place.read("none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="plain file"):
        place.read("pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(StoreError, match="link"):
        place.read("link")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(RECORD_LIMIT + 1)
    with pytest.raises(StoreError, match="large"):
        place.read("large")
