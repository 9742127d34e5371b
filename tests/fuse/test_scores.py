"""Scores of a grid's finished runs: the table, comparisons, track by track, traces."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from concord.cache import ConfigError
from concord.fuse import scores as module
from concord.fuse.finished import Finished
from concord.fuse.grid import Grid
from concord.fuse.scores import Scores
from concord.fuse.settings import (
    FuseSettings,
)

from .conftest import BOTH, CONCAT, JCA, planted, write_store

SETTINGS = FuseSettings(experiments=(CONCAT, JCA), traces=2, resamples=200)
NAMES = ["concat / audio", "jca / audio+visual"]


def quarantined(manifest, track, modality):
    """The manifest without a track's item of a modality."""
    changed = [
        dataclasses.replace(
            t, items={n: k for n, k in t.items.items() if not n.startswith(modality)}
        )
        if t.track == track
        else t
        for t in manifest
    ]
    return dataclasses.replace(manifest, tracks=tuple(changed))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Track val1 has no sound; in val2 there is neither face nor sound in ten rows."""
    parts = [planted(seed=1), planted(tracks=3, seed=2, split="val")]
    for stream in BOTH:
        parts[1].valid[stream][130:140] = False
    store, manifest = write_store(tmp_path_factory.mktemp("scores") / "store", parts)
    return store, quarantined(manifest, "val1", "audio/")


@pytest.fixture(scope="module")
def folder(stored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    Grid(*stored, SETTINGS, folder).train(lambda *_: None, lambda _: None)
    return folder


@pytest.fixture
def grid(stored, folder):
    return Grid(*stored, SETTINGS, folder)


def test_the_table(grid):
    found = Scores(grid).results()
    json.dumps(found, allow_nan=False)
    assert [e["name"] for e in found["experiments"]] == NAMES
    for experiment in found["experiments"]:
        values = experiment["scores"]["score"]["values"]
        assert values == [run["score"] for run in experiment["runs"]]
        assert experiment["scores"]["score"]["std"] == pytest.approx(np.std(values, ddof=1))
        assert experiment["rows"] == 180
        assert experiment["in_quarantine"] == ["val1"]
        assert experiment["window"]["length"] == 8
        low, high = experiment["intervals"]["score"]
        assert low < high
    concat, jca = found["experiments"]
    assert (concat["filled"], concat["without_value"]) == (70, ["val1"])
    assert (jca["filled"], jca["without_value"]) == (10, [])
    told = found["protocol"]
    assert (told["name"], told["smoothing"], told["rows"]) == ("official", "none", 180)


def test_the_table_reads_no_feature(grid):
    Scores(grid).results()
    assert "mapped" in grid.rows.told


def test_traces_show_seed_means(grid):
    found = Scores(grid).results()
    assert [trace["track"] for trace in found["traces"]] == ["val0", "val1"]
    runs = [Finished.read(grid.path(run)) for run in grid.runs[2:]]
    mean = torch.stack([run.predictions for run in runs]).mean(0)[60:120, 0]
    shown = found["traces"][1]
    np.testing.assert_allclose(shown["predictions"][NAMES[1]]["valence"], mean, atol=1e-4)
    assert shown["clock"]
    assert shown["times"][:3] == [6.0, 6.1, 6.2]


def test_traces_show_the_best_experiments(grid, monkeypatch):
    monkeypatch.setattr(module, "TRACED", 1)
    found = Scores(grid).results()
    best = max(found["experiments"], key=lambda e: e["scores"]["score"]["mean"])["name"]
    assert {name for trace in found["traces"] for name in trace["predictions"]} == {best}
    assert [e["name"] for e in found["experiments"]] == NAMES


def test_experiments_are_compared_by_their_names(grid):
    scores = Scores(grid)
    found = scores.compare(*NAMES)
    json.dumps(found, allow_nan=False)
    for measure in ("valence", "arousal", "score"):
        difference = found["first"][measure] - found["second"][measure]
        assert found["difference"][measure] == pytest.approx(difference)
        low, high = found["intervals"][measure]
        assert low < found["difference"][measure] < high
    assert found["families"] == 3
    runs = [Finished.read(grid.path(run)) for run in grid.runs[2:]]
    mean = torch.stack([run.predictions.double() for run in runs]).mean(0)
    assert found["second"]["score"] == pytest.approx(scores.scored(mean, JCA).score)
    back = scores.compare(*reversed(NAMES))
    assert back["difference"]["score"] == pytest.approx(-found["difference"]["score"])


def test_an_unknown_experiment_is_answered_with_those_there_are(grid):
    with pytest.raises(ConfigError, match=r"unknown experiment 'jca / visual'; did you mean 'jca"):
        Scores(grid).compare("jca / visual", NAMES[0])


def test_diagnostics_name_what_is_in_quarantine(grid):
    found = Scores(grid).diagnostics()
    assert [(each["name"], each["seed"]) for each in found] == [
        (name, seed) for name in NAMES for seed in (0, 1)
    ]
    for each in found:
        absent = {track["track"]: track["absent"] for track in each["tracks"]}
        assert absent == {"val0": [], "val1": ["audio/x"], "val2": []}
    filled = {track["track"]: track["filled"] for track in found[0]["tracks"]}
    assert filled == {"val0": 0, "val1": 60, "val2": 10}


def test_runs_that_are_not_finished_are_named(stored, tmp_path):
    grid = Grid(*stored, SETTINGS, tmp_path)
    for ask in (Scores(grid).results, Scores(grid).diagnostics):
        with pytest.raises(ConfigError, match=r"head 'concat' over audio/x, fold official: no fin"):
            ask()
