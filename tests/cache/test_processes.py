"""Real processes: writers that are killed, and writers that race."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from concord.cache import FeatureStore

KILLS = 15
ROWS = 40

# Imports once, then forks one child per request, so that a kill costs milliseconds, not imports.
FORKER = """
import os, sys, traceback
import numpy as np, zarr, zarr.codecs
from concord.cache import FeatureStore, NewItem, StreamWriter
from concord.cache.shard import write_shard

def item(key, rows):
    x = np.full((rows, 8), int(key) % 1000, np.float32)
    return NewItem(key=key, track=f"t{key}", rows=x, valid=np.ones(rows, bool),
                   times=np.arange(rows, dtype=float))

def endless(start):
    store = FeatureStore(sys.argv[1])
    stream = store.create_stream("visual/x", {"v": 1})
    with StreamWriter(store, stream, {}) as writer:
        for k in range(start, start + 10**6):
            writer.add(item(str(k), int(sys.argv[2])))
            if k % 3 == 2:
                writer.publish()

def same(_):
    store = FeatureStore(sys.argv[1])
    folder = store.shard_folder(store.create_stream("visual/x", {"v": 1}))
    for k in range(0, 40, 2):
        write_shard(folder, [item(str(k + j), int(sys.argv[2])) for j in range(2)], {})

for line in sys.stdin:
    what, argument = line.split()
    if what == "wait":
        print(os.waitpid(int(argument), 0)[1], flush=True)
        continue
    child = os.fork()
    if not child:
        try:
            {"endless": endless, "same": same}[what](int(argument))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    print(child, flush=True)
"""


class Forker:
    def __init__(self, store):
        command = [sys.executable, "-c", FORKER, str(store.path), str(ROWS)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, what, argument):
        self._process.stdin.write(f"{what} {argument}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


@pytest.fixture
def forker(store):
    with contextlib.closing(Forker(store)) as forker:
        yield forker


def check(store, known=frozenset()):
    """Open the store anew and read all of it but the known keys; gives the keys."""
    found = FeatureStore(store.path)
    streams = found.streams()
    if not streams:
        return set()
    (stream,) = streams
    for key in set(stream.items) - known:
        item = stream.items[key]
        rows = item.rows
        assert hashlib.sha256(rows.tobytes()).hexdigest() == item.entry.sha256
        assert np.array_equal(rows, np.full((ROWS, 8), int(key) % 1000, np.float32))
        assert item.valid.all()
        assert np.array_equal(item.times, np.arange(ROWS))
    return set(stream.items)


def unfinished(store):
    return [path for path in store.path.rglob(".tmp-*") if path.is_dir()]


def test_a_killed_writer_leaves_whole_items_only(store, forker):
    delays = random.Random(5)
    seen = set()
    cut = 0
    for k in range(KILLS):
        child = forker.ask("endless", 9_999 * k)
        # A reader beside the writer, then one after its death; one kill in three comes early.
        deadline = time.monotonic() + 30
        while k % 3 and not check(store, seen) - seen:
            assert time.monotonic() < deadline
        time.sleep(delays.uniform(0, 0.1))
        seen |= check(store, seen)
        os.kill(child, signal.SIGKILL)
        assert forker.ask("wait", child) == signal.SIGKILL
        now = check(store, seen)
        assert seen <= now
        seen = now
        cut = max(cut, len(unfinished(store)))
    assert len(seen) > KILLS
    # Items are published by threes, and a shard is there with all of them or with none.
    numbers = {int(key) for key in seen}
    assert numbers == {n - n % 3 + j for n in numbers for j in range(3)}
    # Some kill must have hit a shard in the making, or this proves nothing.
    assert cut > 0


def test_writers_of_the_same_items_all_succeed(store, forker):
    children = [forker.ask("same", 0) for _ in range(4)]
    deadline = time.monotonic() + 30
    keys = set()
    while len(keys) < 40 and time.monotonic() < deadline:
        now = check(store)
        assert keys <= now
        keys = now
    assert [forker.ask("wait", child) for child in children] == [0] * 4
    assert check(store) == {str(k) for k in range(40)}
    (stream,) = FeatureStore(store.path).streams()
    assert len(stream.shards) == 20
    assert unfinished(store) == []
