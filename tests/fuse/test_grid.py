"""A grid of runs: kept, continued, and reported as one table."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from concord.cache import ConfigError, NotInStoreError
from concord.fuse.grid import Grid
from concord.fuse.results import experiment_names, spread
from concord.fuse.settings import (
    ExperimentSettings,
    FuseSettings,
    TrainingSettings,
    WindowSettings,
)
from safetensors import safe_open

from .conftest import planted, write_store

BOTH = ("audio/x", "visual/x")
SETTINGS = FuseSettings(
    window=WindowSettings(length=8, hop=4),
    training=TrainingSettings(epochs=2, seeds=(0, 1)),
    experiments=(
        ExperimentSettings(head="concat", streams=("audio/x",), width=4, hidden=8),
        ExperimentSettings(head="jca", streams=BOTH, width=4, hidden=8, k=2),
    ),
    traces=2,
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    parts = [planted(seed=1), planted(tracks=3, seed=2, split="val")]
    return write_store(tmp_path_factory.mktemp("grid") / "store", parts)


def go(stored, folder, settings=SETTINGS):
    told = []
    grid = Grid(*stored, settings, folder)
    return grid.go(lambda done, total, text: told.append((done, total, text))), told


def marks(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/run.json")}


def test_trains_every_experiment_with_every_seed(stored, tmp_path):
    results, told = go(stored, tmp_path)
    assert [e["name"] for e in results["experiments"]] == ["concat / audio", "jca / audio+visual"]
    assert told[0] == (0, 4, "concat / audio, seed 0")
    assert told[-1] == (4, 4, "done")
    for experiment in results["experiments"]:
        values = experiment["scores"]["score"]["values"]
        assert values == [run["score"] for run in experiment["runs"]]
        assert experiment["scores"]["score"]["std"] == pytest.approx(np.std(values, ddof=1))
        assert experiment["rows"] == 180
    assert results["protocol"]["rows"] == 180
    json.dumps(results, allow_nan=False)


def test_finished_runs_are_not_trained_again(stored, tmp_path):
    first, _ = go(stored, tmp_path)
    before = marks(tmp_path)
    again, _ = go(stored, tmp_path)
    assert marks(tmp_path) == before
    assert again == first


def test_only_what_changed_is_trained(stored, tmp_path):
    go(stored, tmp_path)
    before = marks(tmp_path)
    changed = dataclasses.replace(
        SETTINGS,
        experiments=(SETTINGS.experiments[0], dataclasses.replace(SETTINGS.experiments[1], k=3)),
    )
    go(stored, tmp_path, changed)
    after = marks(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2


def test_a_run_that_was_broken_off_is_trained_again(stored, tmp_path):
    first, _ = go(stored, tmp_path)
    done = min(tmp_path.iterdir())
    done.rename(done.with_name(f".tmp-{done.name}"))
    again, _ = go(stored, tmp_path)
    assert again == first


def test_a_run_keeps_weights_configuration_and_curve(stored, tmp_path):
    results, _ = go(stored, tmp_path)
    run = results["experiments"][1]["runs"][0]
    folder = tmp_path / run["digest"]
    with safe_open(folder / "head.safetensors", "pt") as file:
        configuration = json.loads(file.metadata()["configuration"])
        assert configuration["experiment"]["head"] == "jca"
        assert configuration["seed"] == 0
        assert "W.W_ja" in set(file.keys())
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == run["curve"]["epoch"] == [1, 2]


def test_traces_show_seed_means(stored, tmp_path):
    from safetensors.torch import load_file

    results, _ = go(stored, tmp_path)
    assert [trace["track"] for trace in results["traces"]] == ["val0", "val1"]
    runs = results["experiments"][0]["runs"]
    predictions = [load_file(tmp_path / r["digest"] / "predictions.safetensors") for r in runs]
    mean = torch.stack([p["predictions"] for p in predictions]).mean(0)[60:120, 0]
    shown = results["traces"][1]["predictions"]["concat / audio"]["valence"]
    np.testing.assert_allclose(shown, mean, atol=1e-4)


def test_a_stream_that_is_not_there(stored, tmp_path):
    experiment = ExperimentSettings(head="concat", streams=("visual/i3d",))
    settings = dataclasses.replace(SETTINGS, experiments=(experiment,))
    with pytest.raises(NotInStoreError, match=r"expected one stream 'visual/i3d', found none"):
        Grid(*stored, settings, tmp_path)


def test_names_tell_experiments_apart():
    base = SETTINGS.experiments[1]
    wide = dataclasses.replace(base, width=64)
    assert experiment_names([base, wide, SETTINGS.experiments[0]]) == [
        "jca / audio+visual, width 4",
        "jca / audio+visual, width 64",
        "concat / audio",
    ]
    with pytest.raises(ConfigError, match="listed twice"):
        experiment_names([base, base])


def test_spread_leaves_out_what_is_undefined():
    assert spread([0.5, None, 0.7])["mean"] == pytest.approx(0.6)
    assert spread([None, None]) == {"mean": None, "std": None, "values": [None, None]}
    assert spread([0.5])["std"] is None
