"""A small data set whose rows one person has in a store, and another is to use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from concord.cache import FeatureStore, Identity, NewItem
from concord.cache.transfer import Selection, plan_push
from concord.extract.affwild2 import scan
from concord.extract.engine import extract
from concord.extract.index import Index
from concord.extract.receipt import ItemRecord
from concord.extract.settings import LABELS
from concord.pipelines.config import parse_config
from concord.pipelines.fetching import recipes_of

STREAM = "audio/resnet18"
ROWS = 40
SPLITS = {"a": "Train_Set", "b": "Train_Set", "c": "Train_Set", "d": "Validation_Set"}
SPLITS |= {"e": "Validation_Set", "f": "Validation_Set"}
TRACKS = tuple(SPLITS)


def values(**changed):
    """A configuration as it is written."""
    return {
        "data": {"adapter": "affwild2", "name": "mine", "path": "videos"},
        "results": "results",
        "streams": {STREAM: {"weights": "seeded"}},
        "stores": ["local", "team"],
        "fuse": {
            "window": {"length": 16, "hop": 8},
            "training": {"epochs": 2, "seeds": [0]},
            "experiments": [{"head": "concat", "streams": [STREAM], "width": 4}],
        },
        **changed,
    }


def write_labels(folder):
    """Write label files in Aff-Wild2's layout; there is no video."""
    for number, (track, split) in enumerate(SPLITS.items()):
        random = np.random.default_rng(number).uniform(-1, 1, (ROWS, 2)).round(3)
        lines = ["valence,arousal", *(f"{v},{a}" for v, a in random), ""]
        path = folder / "VA_Estimation_Challenge" / split / f"{track}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    return folder


def new_item(stream, track, seed=0):
    """An item as if it had been computed from a video; it resembles the track's number."""
    random = np.random.default_rng([seed, *track.encode()])
    identity = Identity(recipe=stream.digest, rows=ROWS, inputs={"media": f"{track}{seed}"})
    return NewItem(
        key=identity.key,
        identity=identity.record(),
        track=track,
        rows=random.standard_normal((ROWS, 8)).astype(np.float16),
        valid=random.random(ROWS) < 0.9,
        times=np.arange(ROWS) / 25,
        flags=(random.random(ROWS) < 0.2).astype(np.uint8),
    )


def make_owner(folder, tracks=TRACKS):
    """Make the store of somebody who has extracted some tracks; gives it and its coverage."""
    dataset = scan(write_labels(folder / "labels"), "mine")
    store = FeatureStore.create(folder / "store")
    receipt = extract(dataset, {LABELS: None}, store)
    stream = store.create_stream(STREAM, recipes_of(parse_config(values()))[STREAM])
    receipt.streams[STREAM] = stream.digest
    receipt.items[STREAM] = {}
    with stream.writer({}) as writer:
        for number, track in enumerate(tracks, 1):
            item = new_item(stream, track)
            writer.add(item)
            receipt.items[STREAM][track] = ItemRecord(
                key=item.key,
                rows=ROWS,
                invalid=int((~item.valid).sum()),
                repeated=int((item.flags & 1).sum()),
            )
            if number % 2 == 0:
                writer.publish()
    index = Index([receipt], store)
    store.save_manifest(index.manifest())
    return FeatureStore(store.path), index.coverage(0.25)


def push(store, where, **chosen):
    """Send some of a store to a remote."""
    plan_push(store, where, Selection(**chosen)).carry_out()


def name_remote(folder, **named):
    """Write the names of remotes, as `concord cache remote add` does."""
    record = {"version": 1, "remotes": {name: str(url) for name, url in named.items()}}
    Path(folder, "concord.remotes.json").write_text(json.dumps(record))


def bytes_below(folder):
    """Every file below a folder, with its time: whether anything was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
