"""Stores to be shared, and what must hold of a remote at any moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
from concord.cache import FeatureStore, Identity, Manifest, ManifestTrack, NewItem, StoreError
from concord.cache.verify import verify

NAME = "visual/x"
RECIPE = {"v": 1, "sensitivity": "vectors"}
ALL = tuple(f"t{k:02d}" for k in range(12))
EDITION = "0123456789ab"


def new_item(stream, track, rows=300, dim=32):
    """An item whose every value follows from its track's name."""
    random = np.random.default_rng([dim, *track.encode()])
    identity = Identity(recipe=stream.digest, rows=rows, inputs={"media": track})
    return NewItem(
        key=identity.key,
        identity=identity.record(),
        track=track,
        rows=random.standard_normal((rows, dim)).astype(np.float16),
        valid=random.random(rows) < 0.8,
        times=np.arange(rows) / 25,
        flags=(random.random(rows) < 0.2).astype(np.uint8),
    )


def fill(path, tracks=ALL, per_shard=4, name=NAME, how=None, **size):
    """Write items of some tracks, and a manifest that knows all tracks but lists only these."""
    store = FeatureStore.create(path, how)
    stream = store.create_stream(name, RECIPE)
    keys = {}
    with stream.writer({"versions": {"numpy": "2"}}) as writer:
        for number, track in enumerate(tracks, 1):
            item = new_item(stream, track, **size)
            keys[track] = item.key
            writer.add(item)
            if number % per_shard == 0:
                writer.publish()
    rows = size.get("rows", 300)
    listed = tuple(
        ManifestTrack(
            track=track,
            source=track,
            split="train" if number % 2 else "val",
            family=track,
            rows=rows,
            rate=25.0,
            items={stream.full_name: keys[track]} if track in keys else {},
        )
        for number, track in enumerate(ALL)
    )
    store.save_manifest(Manifest("mine", EDITION, listed))
    return FeatureStore(path)


def listed(store, name=NAME):
    """Tracks that a store's manifests list of a stream."""
    return {
        row.track
        for manifest in store.manifests()
        for row in manifest
        if any(stream.partition("@")[0] == name for stream in row.items)
    }


def check(where, **size):
    """Read all that a store lists: bit for bit what was written. Gives the tracks."""
    try:
        store = FeatureStore(where)
    except StoreError as error:
        if "no store here" in str(error):
            return set()
        raise
    assert verify(store) == []
    tracks = listed(store)
    for stream in store.streams():
        assert stream.damages == ()
    for track in tracks:
        found = store[NAME][track]
        expected = new_item(store[NAME], track, **size)
        for name, values in expected.arrays().items():
            read = np.asarray(getattr(found, {"x": "rows"}.get(name, name)))
            assert read.tobytes() == values.tobytes(), (track, name)
    return tracks


def command(*arguments, environment=None, folder=None):
    """Start the real command."""
    return subprocess.Popen(
        [sys.executable, "-m", "concord.pipelines", "cache", *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process, code=0, timeout=120):
    """Wait for a command, and give what it printed as JSON."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, err
    return json.loads(out) if out.startswith(("{", "[")) else out
