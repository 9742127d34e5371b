"""Rows made up in memory and in small stores."""

import numpy as np
import pytest
import torch
from concord.cache import FeatureStore, Manifest, ManifestTrack, NewItem, StreamWriter
from concord.fuse.rows import Rows

LABEL_NAME = "labels/va"


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
        first=tuple(range(0, total, rows)),
        features=features,
        valid={name: torch.ones(total, dtype=torch.bool) for name in features},
        labels=torch.tensor(va, dtype=torch.float32),
        labelled=torch.ones(total, dtype=torch.bool),
        times=t / 10,
    )


@pytest.fixture(scope="session")
def training():
    return planted(seed=1)


@pytest.fixture(scope="session")
def validation():
    return planted(tracks=3, seed=2, split="val")


def write_store(path, parts):
    """Write rows of some splits into a store; gives store and manifest."""
    store = FeatureStore.create(path)
    manifest_tracks = []
    names = [*parts[0].features, LABEL_NAME]
    streams = {name: store.create_stream(name, {"made": "up", "stream": name}) for name in names}
    writers = {name: StreamWriter(store, stream, {}) for name, stream in streams.items()}
    for rows in parts:
        for track, first in zip(rows.tracks, rows.first, strict=True):
            here = slice(first, first + track.rows)
            items = {}
            for name, stream in streams.items():
                x = rows.labels if name == LABEL_NAME else rows.features[name]
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
