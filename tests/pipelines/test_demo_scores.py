"""What the demo is for: each modality tells a part, fusing them tells more, and nothing leaks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from concord.cache import FeatureStore
from concord.fuse import train
from concord.fuse.grid import Grid
from concord.fuse.run import Run
from concord.fuse.scaling import Scaling
from concord.fuse.scores import Scores
from concord.fuse.sources import Resident
from concord.pipelines.config import load_config

DEMO = Path(__file__).parents[2] / "pipelines" / "configs" / "demo.yaml"
AUDIO = "audio/resnet18"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def grid(demo):
    config = load_config(DEMO)
    store = FeatureStore(demo / config.store_path)
    grid = Grid(store, store.manifest("demo"), config.fuse, demo / "runs")
    grid.train(lambda *_: None, lambda _: None)
    return grid


@pytest.fixture(scope="module")
def scores(grid):
    results = Scores(grid).results()
    found = {e["name"]: e["scores"]["score"]["mean"] for e in results["experiments"]}
    print({name: round(score, 3) for name, score in found.items()})
    return found


def moved(rows, tracks, by):
    """For each row, the row that another track of those has in its place: they are rotated."""
    at = np.arange(len(rows))
    for place, track in enumerate(tracks):
        other = tracks[(place + by) % len(tracks)]
        size = rows.tracks[track].rows
        numbers = rows.firsts[other] + np.arange(size) % rows.tracks[other].rows
        at[rows.firsts[track] :][:size] = numbers
    return torch.from_numpy(at)


def trained(problem, experiment, seeds):
    """Scores of runs after their last epoch, and after their best one."""
    runs = list(train(problem, [Run(experiment, seed) for seed in seeds]))
    assert not any(run.failure for run in runs)
    return np.array([(run.curve[-1].score, run.score) for run in runs])


def jca(grid):
    experiment = grid.settings.experiments[-1]
    assert experiment.head == "jca"
    return experiment


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
    problem, experiment = grid.problem(jca(grid)), jca(grid)
    found = []
    for by in range(1, 6):
        at = moved(problem.rows, problem.training, by)
        labels, labelled = problem.rows.labels[at], problem.rows.labelled[at]
        rows = dataclasses.replace(problem.rows, labels=labels, labelled=labelled)
        shuffled = dataclasses.replace(problem, rows=rows)
        found.append(trained(shuffled, experiment, [by])[0, 0])
    print("shuffled labels:", np.round(found, 3), "mean", round(float(np.mean(found)), 3))
    assert np.mean(found) <= 0.10


def test_swapped_sound_adds_nothing(grid, scores):
    single = max(scores["concat / visual"], scores["concat / audio"])
    problem, experiment = grid.problem(jca(grid)), jca(grid)
    at = torch.arange(len(problem.rows))
    for tracks in (problem.training, problem.validation):
        other = moved(problem.rows, tracks, 1)
        at = torch.where(other != torch.arange(len(at)), other, at)
    rows = problem.rows
    sound = Resident(rows.sources[AUDIO].take(at.numpy()[None])[0])
    swapped = dataclasses.replace(
        rows,
        sources={**rows.sources, AUDIO: sound},
        valid={**rows.valid, AUDIO: rows.valid[AUDIO][at]},
    )
    scaling = Scaling.of(swapped, experiment.streams, problem.training)
    found = trained(
        dataclasses.replace(problem, rows=swapped, scaling=scaling), experiment, range(3)
    )[:, 1]
    print("swapped sound:", np.round(found, 3), "best single", round(single, 3))
    assert np.mean(found) <= single + 0.05
