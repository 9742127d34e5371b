"""What the demo is for: each modality tells a part, fusing them tells more, and nothing leaks."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from concord.cache import FeatureStore
from concord.fuse import train
from concord.fuse.grid import Grid
from concord.pipelines.config import load_config

DEMO = Path(__file__).parents[2] / "pipelines" / "configs" / "demo.yaml"
AUDIO = "audio/resnet18"


@pytest.fixture(scope="module")
def grid(demo):
    config = load_config(DEMO)
    store = FeatureStore(demo / config.store_path)
    return Grid(store, store.manifest("demo"), config.fuse, demo / "runs")


@pytest.fixture(scope="module")
def scores(grid):
    results = grid.go(lambda *_: None)
    found = {e["name"]: e["scores"]["score"]["mean"] for e in results["experiments"]}
    print({name: round(score, 3) for name, score in found.items()})
    return found


def moved(rows, by):
    """For each row, the row that another track has in its place: tracks are rotated by `by`."""
    parts = []
    count = len(rows.tracks)
    for i, track in enumerate(rows.tracks):
        other = (i + by) % count
        place = np.arange(track.rows) % rows.tracks[other].rows
        parts.append(rows.first[other] + place)
    return torch.from_numpy(np.concatenate(parts))


def last_score(grid, training, validation, seed):
    experiment = grid.settings.experiments[-1]
    assert experiment.head == "jca"
    chosen = [rows.of_streams(experiment.streams) for rows in (training, validation)]
    run = train(*chosen, experiment, grid.settings.window, grid.settings.training, seed)
    return run.curve[-1].score, run.best.mean


def test_each_modality_alone_tells_a_part(scores):
    assert scores["concat / visual"] >= 0.25
    assert scores["concat / audio"] >= 0.25
    # ... and no more, so that both fusing and fine-tuning are worth something.
    assert scores["concat / visual"] <= 0.5
    assert scores["concat / audio"] <= 0.5


@pytest.mark.parametrize("head", ["concat", "jca"])
def test_fusing_tells_more(scores, head):
    single = max(scores["concat / visual"], scores["concat / audio"])
    assert scores[f"{head} / audio+visual"] >= single + 0.10


@pytest.mark.slow
def test_shuffled_labels_teach_nothing(grid):
    found = []
    for by in range(1, 6):
        training = copy.copy(grid.training)
        at = moved(training, by)
        training.labels, training.labelled = training.labels[at], training.labelled[at]
        found.append(last_score(grid, training, grid.validation, by)[0])
    print("shuffled labels:", np.round(found, 3), "mean", round(float(np.mean(found)), 3))
    assert np.mean(found) <= 0.10


def test_swapped_sound_adds_nothing(grid, scores):
    single = max(scores["concat / visual"], scores["concat / audio"])
    swapped = []
    for rows in (grid.training, grid.validation):
        other = copy.copy(rows)
        at = moved(rows, 1)
        other.features = {**rows.features, AUDIO: rows.features[AUDIO][at]}
        other.valid = {**rows.valid, AUDIO: rows.valid[AUDIO][at]}
        swapped.append(other)
    found = [last_score(grid, *swapped, seed)[1] for seed in range(3)]
    print("swapped sound:", np.round(found, 3), "best single", round(single, 3))
    assert np.mean(found) <= single + 0.05
