"""Rows made up in memory and in small stores."""

import dataclasses

import numpy as np
import pytest
import torch
from concord.cache import FeatureStore, Manifest, ManifestTrack, NewItem, ShardFormat, StreamWriter
from concord.fuse.evaluate import Problem
from concord.fuse.folds import fold_of
from concord.fuse.rows import Rows
from concord.fuse.scaling import Scaling
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings
from concord.fuse.sources import Resident

LABEL_NAME = "labels/va"
STREAMS = ("visual/x", "audio/x")
BOTH = ("audio/x", "visual/x")
CONCAT = ExperimentSettings(
    head="concat",
    streams=("audio/x",),
    width=4,
    hidden=8,
    window=WindowSettings(length=8, hop=4),
    training=TrainingSettings(epochs=2, seeds=(0, 1)),
)
JCA = dataclasses.replace(CONCAT, head="jca", streams=BOTH, k=2)


def planted(tracks=6, rows=60, seed=0, split="train", noise=0.3):
    """Valence is seen in the visual stream's first dimensions, arousal heard in the audio one's."""
    random = np.random.default_rng(seed)
    names = tuple(
        ManifestTrack(
            track=f"{split}{i}",
            source=f"{split}{i}",
            split=split,
            family=f"{split}{i}",
            rows=rows,
            rate=10.0,
        )
        for i in range(tracks)
    )
    total = tracks * rows
    t = np.arange(total)
    va = np.stack([np.sin(t / 3 + seed), np.cos(t / 4.7 + seed)], 1) * 0.6
    features = {
        name: torch.tensor(
            np.concatenate([va[:, [i]], random.normal(size=(total, 3))], 1)
            + noise * random.normal(size=(total, 4)),
            dtype=torch.float32,
        )
        for i, name in enumerate(["visual/x", "audio/x"])
    }
    return Rows(
        tracks=names,
        firsts=tuple(range(0, total, rows)),
        sources={name: Resident(x) for name, x in features.items()},
        valid={name: torch.ones(total, dtype=torch.bool) for name in features},
        labels=torch.tensor(va, dtype=torch.get_default_dtype()),
        labelled=torch.ones(total, dtype=torch.bool),
        times=t / 10,
        face=np.ones(total, bool),
    )


def joined(first, second):
    """Rows of two splits, one after the other."""
    shift = len(first)
    return Rows(
        tracks=first.tracks + second.tracks,
        firsts=first.firsts + tuple(at + shift for at in second.firsts),
        sources={
            name: Resident(torch.cat([first.sources[name].x, second.sources[name].x]))
            for name in first.sources
        },
        valid={name: torch.cat([first.valid[name], second.valid[name]]) for name in first.valid},
        labels=torch.cat([first.labels, second.labels]),
        labelled=torch.cat([first.labelled, second.labelled]),
        times=np.concatenate([first.times, second.times]),
        face=np.concatenate([first.face, second.face]),
    )


def problem_of(rows, streams=STREAMS):
    """Train on the rows' training tracks, validate on the others."""
    fold = fold_of(rows.tracks, "official")
    scaling = Scaling.of(rows, streams, fold.train)
    return Problem(rows, tuple(streams), fold.train, fold.val, scaling)


@pytest.fixture(scope="session")
def problem():
    return problem_of(joined(planted(seed=1), planted(tracks=3, seed=2, split="val")))


def write_store(path, parts, shards="zarr"):
    """Write rows of some splits into a store; gives store and manifest."""
    store = FeatureStore.create(path, ShardFormat(shards))
    manifest_tracks = []
    names = [*parts[0].sources, LABEL_NAME]
    streams = {name: store.create_stream(name, {"made": "up", "stream": name}) for name in names}
    writers = {name: StreamWriter(store, stream, {}) for name, stream in streams.items()}
    for rows in parts:
        for track, first in zip(rows.tracks, rows.firsts, strict=True):
            here = slice(first, first + track.rows)
            items = {}
            for name, stream in streams.items():
                x = rows.labels if name == LABEL_NAME else rows.sources[name].x
                ok = rows.labelled if name == LABEL_NAME else rows.valid[name]
                dtype = np.float64 if name == LABEL_NAME else np.float16
                times = np.full(track.rows, np.nan) if name == LABEL_NAME else rows.times[here]
                key = f"{track.track}-{name}"
                writers[name].add(
                    NewItem(
                        key=key,
                        track=track.track,
                        rows=x[here].numpy().astype(dtype),
                        valid=ok[here].numpy(),
                        times=times,
                    )
                )
                items[stream.full_name] = key
            manifest_tracks.append(
                ManifestTrack(
                    track=track.track,
                    source=track.source,
                    split=track.split,
                    family=track.family,
                    rows=track.rows,
                    rate=10.0,
                    items=items,
                )
            )
    for writer in writers.values():
        writer.publish()
    manifest = Manifest("made", "abc", tuple(manifest_tracks))
    store.save_manifest(manifest)
    return FeatureStore(path), manifest
