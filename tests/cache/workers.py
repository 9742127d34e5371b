"""Writers and readers in processes of their own, and what the items that they write hold.

As a program it imports once and then forks one child per request, so that a killed child costs
milliseconds. A child dies with the program, and the program with the test that started it.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import time
import traceback
import zlib
from collections import Counter, deque
from pathlib import Path

import h5py  # noqa: F401 - imported once, for all children
import numpy as np
import zarr.codecs  # noqa: F401
from concord.cache import FeatureStore, Manifest, ManifestTrack, NewItem, ShardFormat, digest

NAME = "visual/x"
RECIPE = {"v": 1}
EDITION = "0123456789ab"
DIM = 512
NARROW = 48
GROUP = 4
"""Items in a shard of the writers that are killed."""
ROWS = (1, 40, 256, 257, 700, 1500)
PARENT_DIED = 1
"""PR_SET_PDEATHSIG: have a signal sent when the parent ends."""
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
"""What Python tells an audit hook before it changes a file system."""
LONGEST_SECONDS = 150


# What is written: everything follows from a key or a number.


def arrays_of(key, dim):
    """Every value of an item, from its key alone: any bits, those of NaN too."""
    seed = zlib.crc32(key.encode())
    chance, rows = np.random.default_rng(seed), ROWS[seed % len(ROWS)]
    return {
        "rows": chance.integers(0, 1 << 16, (rows, dim), np.uint16).view(np.float16),
        "valid": chance.random(rows) < 0.8,
        "flags": chance.integers(0, 2, rows, np.uint8),
        "times": chance.random(rows),
    }


def new_item(key, dim=DIM):
    return NewItem(key=key, track=f"track {key}", **arrays_of(key, dim))


def keys_of(shard):
    return [f"{shard}-{k}" for k in range(GROUP)]


def manifest(number, keys=()):
    """A manifest that says in each of its tracks which one it is."""
    tracks = [
        ManifestTrack(
            track=f"track {key}",
            source=key,
            split="train",
            family=key,
            rows=number,
            rate=None,
            items={f"{NAME}@{digest(RECIPE)}": key},
        )
        for key in keys or [str(k) for k in range(200)]
    ]
    return Manifest("demo", EDITION, tuple(tracks))


# What is read: bit for bit what was written, or an assertion fails.


def check_item(item, dim=DIM):
    """Compare all of an item with what its key says; gives the number of rows."""
    for name, expected in arrays_of(item.key, dim).items():
        found = np.asarray(getattr(item, name))
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), (item, name)
        assert found.tobytes() == expected.tobytes(), (item, name)
    assert item.entry.track == f"track {item.key}"
    item.check()
    return len(item.rows)


def check_gather(stream, tracks, chance, dim, length=200):
    """Compare windows of some tracks, -1 where they lie outside, with what the keys say."""
    rows = np.full((len(tracks), length), -1)
    expected = np.zeros((len(tracks), length, dim), np.float16)
    for k, track in enumerate(tracks):
        whole = arrays_of(track.removeprefix("track "), dim)["rows"]
        first = chance.randrange(max(len(whole) - length, 0) + 1)
        window = whole[first : first + length]
        rows[k, : len(window)] = np.arange(first, first + len(window))
        expected[k, : len(window)] = window
    found = stream.gather(tracks, rows)
    assert found.tobytes() == expected.tobytes(), tracks
    return int((rows >= 0).sum())


# What children do.


def endless(path, first, acknowledged):
    """Publish shards, and note each in a file once it is published."""
    stream = FeatureStore(path).create_stream(NAME, RECIPE)
    with Path(acknowledged).open("ab", buffering=0) as noted, stream.writer() as writer:
        for shard in itertools.count(first):
            for key in keys_of(shard):
                writer.add(new_item(key))
            writer.publish()
            noted.write(f"{shard}\n".encode())


def manifests(path, first, acknowledged):
    """Replace a manifest again and again."""
    store = FeatureStore(path)
    with Path(acknowledged).open("ab", buffering=0) as noted:
        for number in itertools.count(first):
            store.save_manifest(manifest(number))
            noted.write(f"{number}\n".encode())


def life(path, shards, compressed, last):
    """Make a store and fill it; die just before step `last`. Gives the number of steps."""
    steps, fsync = itertools.count(1), os.fsync

    def step():
        if next(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(event, arguments):
        if event in STEPS and str(arguments[0]).startswith(path):
            step()

    def counted_fsync(handle):
        step()
        fsync(handle)

    os.fsync = counted_fsync
    sys.addaudithook(heard)
    store = FeatureStore.create(path, ShardFormat(shards, compressed=compressed))
    with store.create_stream(NAME, RECIPE).writer() as writer:
        for shard in range(2):
            for key in keys_of(shard):
                writer.add(new_item(key, NARROW))
            writer.publish()
    for number in range(2):
        store.save_manifest(manifest(number))
    return next(steps) - 1


def create(path, shards, at):
    """Make a store and a stream at a moment at which others do the same."""
    while time.monotonic() < at:
        pass
    store = FeatureStore.create(path, ShardFormat(shards))
    stream = store.create_stream(NAME, RECIPE)
    assert [found.full_name for found in store.streams()] == [stream.full_name]
    assert stream.recipe == RECIPE
    return store.format.name


def same(path, at):
    """Publish a shard at a moment at which others publish the same one."""
    writer = FeatureStore(path).create_stream(NAME, RECIPE).writer()
    for key in keys_of(0):
        writer.add(new_item(key, NARROW))
    while time.monotonic() < at:
        pass
    writer.publish()


LEAST = 6
"""Publishes of a writer."""
FEW_ROWS = 1000
"""Rows that a reader reads at least."""


def write(path, seconds, seed):
    """Publish items that other writers publish too, and manifests of what is there.

    On a busy disk it takes longer, until there were a few publishes.
    """
    store, chance, done = FeatureStore(path), random.Random(seed), Counter()
    stream = store.create_stream(NAME, RECIPE)
    start = time.monotonic()
    with stream.writer({"writer": seed}) as writer:
        while (spent := time.monotonic() - start) < seconds or done["publishes"] < LEAST:
            newest = 8 + int(spent * 8)
            group = chance.randrange(max(0, newest - 20), newest)
            for k in range(3 * group, 3 * group + 5):
                writer.add(new_item(str(k), NARROW))
                done["items"] += 1
            writer.publish()
            done["publishes"] += 1
            if chance.random() < 0.2:
                keys = sorted(FeatureStore(path)[NAME].items)
                store.save_manifest(manifest(1, keys))
                done["manifests"] += 1
    return done


def read(path, seconds, seed, mapped):
    """Read from stores opened anew and from older ones; all that is seen must be right.

    On a busy disk it takes longer, until there was something to read.
    """
    chance, done, seen = random.Random(seed), Counter(), set()
    kept = deque(maxlen=5)
    end = time.monotonic() + seconds
    while time.monotonic() < end or done["rows"] <= FEW_ROWS:
        # Readers that never rest can keep writers off a machine of two processors.
        time.sleep(0.002)
        stream = FeatureStore(path, mapped=mapped)[NAME]
        # The manifests are read first, so all items that they name are there already.
        tracks = [row.track for table in stream.tracks.manifests for row in table]
        assert not stream.damages, stream.damages
        assert seen <= set(stream.items), "an item is there no longer"
        seen |= set(stream.items)
        kept.append(stream)
        done["opened"] += 1
        if tracks:
            chosen = chance.sample(tracks, min(8, len(tracks)))
            done["rows"] += check_gather(stream, chosen, chance, NARROW)
        for old in (stream, chance.choice(kept)):
            keys = sorted(old.items)
            for key in chance.sample(keys, min(6, len(keys))):
                done["rows"] += check_item(old.items[key], NARROW)
                done["items"] += 1
    return {**done, "seen": len(seen)}


def hold(path):
    """Hold the lock that the HDF5 library would ask for, until killed."""
    with Path(path).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        signal.pause()


ACTIONS = {
    action.__name__: action
    for action in (endless, manifests, life, create, same, write, read, hold)
}


# The program, and the tests' end of it.


def serve():
    """Fork children and wait for them, as asked line by line."""
    results = {}
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        if what == "wait":
            (child,) = arguments
            status = os.waitpid(child, 0)[1]
            with os.fdopen(results.pop(child)) as result:
                answer = [os.waitstatus_to_exitcode(status), json.loads(result.read() or "null")]
        else:
            reading, writing = os.pipe()
            answer = os.fork()
            if not answer:
                _act(what, arguments, writing)
            os.close(writing)
            results[answer] = reading
        print(json.dumps(answer), flush=True)


def _act(what, arguments, writing):
    ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)
    status = 1
    try:
        result = json.dumps(ACTIONS[what](*arguments))
        os.write(writing, result.encode())
        status = 0
    finally:
        # Whatever it was, the fork must not go on as a second program.
        if status:
            traceback.print_exc()
        os._exit(status)


class Workers:
    """The program, run for a test; it is over when its `with` block ends."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def start(self, what, *arguments):
        """Have a child do something; gives its process number."""
        return self._ask(what, *map(_plain, arguments))

    def wait(self, child):
        """Give a child's exit code (minus the signal that killed it) and result."""
        return tuple(self._ask("wait", child))

    def kill(self, child):
        os.kill(child, signal.SIGKILL)
        assert self.wait(child) == (-signal.SIGKILL, None), "it had ended before"

    def all(self, *calls):
        """Have several children work at once; gives their results."""
        children = [self.start(*call) for call in calls]
        ended = [self.wait(child) for child in children]
        assert [code for code, _ in ended] == [0] * len(calls)
        return [result for _, result in ended]

    def _ask(self, *request):
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            assert selector.select(LONGEST_SECONDS), f"no answer to {request}"
        return json.loads(self._process.stdout.readline())

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()


def _plain(value):
    return value if isinstance(value, (int, float)) else str(value)


if __name__ == "__main__":
    serve()
