"""Maps of finished runs: those of the head on the very rows that are named."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import torch
from concord.fuse.finished import Finished
from concord.fuse.grid import Grid
from concord.fuse.maps import LARGEST, LEVELS, small
from concord.fuse.scores import Scores
from concord.fuse.settings import (
    ExperimentSettings,
    FuseSettings,
    TrainingSettings,
    WindowSettings,
)

from .conftest import planted, write_store

BOTH = ("audio/x", "visual/x")
ROWS, LENGTH = 60, 8


def experiment(head, **window):
    return ExperimentSettings(
        head=head,
        streams=BOTH,
        width=4,
        hidden=8,
        k=2,
        window=WindowSettings(**{"length": LENGTH, "hop": 4, **window}),
        training=TrainingSettings(epochs=1, seeds=(3, 4)),
    )


HEADS = ("jca", "cross_attention", "leader_follower", "rjcma", "jmt", "concat")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The parsed results, and the grid they are of."""
    parts = [planted(seed=1), planted(tracks=2, rows=ROWS, seed=3, split="val")]
    stored = write_store(tmp_path_factory.mktemp("maps") / "store", parts)
    some = (*map(experiment, HEADS), experiment("jca_any", preset="livia", dilation=3))
    grid = Grid(*stored, FuseSettings(experiments=some), tmp_path_factory.mktemp("runs"))
    grid.train(lambda *_: None, lambda _: None)
    return json.loads(json.dumps(Scores(grid).results())), grid


def unpacked(one):
    cells = np.frombuffer(base64.b64decode(one["cells"]), np.uint8).reshape(one["size"])
    return one["low"] + cells * (one["high"] - one["low"]) / LEVELS


def test_windows_lie_evenly_in_the_longest_track(scored):
    results, grid = scored
    longest = max((t for t in grid.manifest if t.split == "val"), key=lambda track: track.rows)
    found = {e["experiment"]: e["windows"] for e in results["maps"]}
    for name, windows in found.items():
        if "concat" in name:
            assert windows == []
            continue
        assert [each["track"] for each in windows] == [longest.track] * 3
        spans = [last - first + 1 for first, last in (w["rows"] for w in windows)]
        middles = [sum(each["rows"]) / 2 for each in windows]
        if "any" in name:  # Eight rows, three apart; the last ones end with the track.
            assert spans[0] == LENGTH * 3 - 2
            assert np.allclose(middles, np.array([1, 3, 5]) * ROWS / 6, atol=13)
        else:
            assert spans == [LENGTH] * 3
            assert np.allclose(middles, np.array([1, 3, 5]) * ROWS / 6, atol=3)
        assert all(w["times"] is None or len(w["times"]) == 2 for w in windows)
    assert all(e["seed"] == 3 for e in results["maps"])


@pytest.mark.parametrize("head", ["jca", "cross_attention"])
def test_maps_are_the_formula_on_the_rows_that_are_named(scored, head):
    """Projection, then the map in NumPy loops, from the stored weights and rows."""
    results, grid = scored
    (found,) = (e for e in results["maps"] if e["experiment"].startswith(f"{head} /"))
    (experiment,) = (e for e in grid.settings.experiments if e.head == head)
    run = Finished.read(grid.path(next(r for r in grid.runs if r.experiment == experiment)))
    state, scaling = run.weights()
    for window in found["windows"]:
        first, last = window["rows"]
        X = {}
        for number, stream in enumerate(BOTH):
            item = grid.streams[stream].of(grid.manifest.name)[window["track"]]
            x = np.asarray(item.rows[first : last + 1], np.float64)
            x = (x - scaling.mean[stream].numpy()) * scaling.scale[stream].numpy()
            weight, bias = (
                state[f"project.layers.{number}.{part}"].double().numpy()
                for part in ("weight", "bias")
            )
            X[stream[0]] = x @ weight.T + bias
        W = {n.removeprefix("W."): x.double().numpy() for n, x in state.items() if n[0] == "W"}
        if head == "jca":
            J = np.concatenate([X["a"], X["v"]], 1)
            expected = {
                f"C_{m}": np.tanh(X[m].T @ W[f"W_j{m}"] @ J / np.sqrt(J.shape[1])) for m in "av"
            }
        else:
            expected = {"Z": X["a"] @ W["W"] @ X["v"].T}
        for name, values in expected.items():
            one = window["maps"][name]
            assert one["shape"] == list(values.shape)
            step = (one["high"] - one["low"]) / LEVELS
            assert np.abs(unpacked(one) - values).max() < step / 2 + 1e-4


def test_large_maps_are_averaged_over_blocks():
    values = torch.arange(128 * 256, dtype=torch.float32).view(128, 256)
    one = small(values)
    assert (one["shape"], one["size"]) == ([128, 256], [LARGEST, LARGEST])
    expected = values.numpy().reshape(64, 2, 64, 4).mean((1, 3))
    assert np.abs(unpacked(one) - expected).max() <= (one["high"] - one["low"]) / LEVELS
    flat = small(torch.full((2, 3), 0.5))
    assert (flat["low"], flat["high"]) == (0.5, 0.5)
    assert small(torch.zeros(7, 3, 3))["shape"] == [7, 9]


def test_none_are_made_where_none_are_asked_for(scored):
    _, grid = scored
    none = FuseSettings(experiments=grid.settings.experiments, maps=0)
    other = Grid(grid.store, grid.manifest, none, grid.folder)
    assert all(each["windows"] == [] for each in Scores(other).results()["maps"])
