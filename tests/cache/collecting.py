"""What tests of collecting share: shards, manifests and their ages."""

from __future__ import annotations

import os
import time

from concord.cache import Manifest, ManifestTrack
from concord.cache.collect import Roots, plan_collection
from concord.cache.new_shard import write_shard

DAY = 86400.0
NAMES = ("visual/x", "audio/y", "labels/va")


def publish(stream, *items):
    return write_shard(stream.store.shard_folder(stream), items, {"device": "cpu"})


def table(name, items):
    """A manifest of one track per entry: track to stream to key."""
    dataset, _, edition = name.partition("@")
    rows = [
        ManifestTrack(
            track=track,
            source=track,
            split="train",
            family=track,
            rows=5,
            rate=25.0,
            items={stream.full_name: key for stream, key in listed.items()},
        )
        for track, listed in items.items()
    ]
    return Manifest(dataset, edition, tuple(rows))


def aged(path, days):
    """Make everything in a folder look as if it had been written some days ago."""
    written = time.time() - days * DAY
    for each in (*path.rglob("*"), path):
        os.utime(each, (written, written))
    return path


def plan(store, *streams, manifests=(), **options):
    roots = Roots(streams={s.full_name for s in streams}, manifests=set(manifests))
    return plan_collection(store, roots, **options)


def going(collection):
    return sorted((each.kind, each.path.name) for each in collection.removals)


def tree(path):
    return {
        str(each.relative_to(path)): each.is_file() and each.read_bytes()
        for each in path.rglob("*")
    }
