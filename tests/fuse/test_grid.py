"""A grid of runs: kept, continued, dealt to batches, and failing one by one."""

import dataclasses
import json
import shutil

import pytest
import torch
from concord.cache import ConfigError, NotInStoreError, TrainingError
from concord.fuse.finished import Finished
from concord.fuse.grid import TRAINING, Grid
from concord.fuse.results import experiment_names, spread
from concord.fuse.scaling import Scaling
from concord.fuse.scores import Scores
from concord.fuse.settings import (
    FuseSettings,
    TrainingSettings,
    WindowSettings,
)
from safetensors import safe_open

from .conftest import BOTH, CONCAT, JCA, planted, write_store

SETTINGS = FuseSettings(experiments=(CONCAT, JCA), traces=2, resamples=100)
FILES = {"head.safetensors", "last.safetensors", "predictions.safetensors", "metrics.jsonl"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    parts = [planted(seed=1), planted(tracks=3, seed=2, split="val")]
    return write_store(tmp_path_factory.mktemp("grid") / "store", parts)


@pytest.fixture(scope="module")
def trained(stored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(stored, folder)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the finished runs."""
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"


def train(stored, folder, settings=SETTINGS, batch=(0, 1)):
    told = []
    grid = Grid(*stored, settings, folder)
    digests = grid.train(lambda *call: told.append(call), told.append, batch)
    return grid, digests, told


def results(stored, folder, settings=SETTINGS):
    return Scores(Grid(*stored, settings, folder)).results()


def with_experiments(*experiments):
    return dataclasses.replace(SETTINGS, experiments=experiments)


def marks(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/run.json")}


def test_every_experiment_is_trained_with_every_seed(stored, tmp_path):
    grid, digests, told = train(stored, tmp_path)
    assert sorted(digests) == sorted(path.parent.name for path in tmp_path.glob("*/run.json"))
    assert len(set(digests)) == 4
    found = [Finished.read(tmp_path / name) for name in digests]
    runs = {(run.experiment().head, run.record["seed"]) for run in found}
    assert runs == {("concat", 0), ("concat", 1), ("jca", 0), ("jca", 1)}
    assert [run.record["together"] for run in found] == [[0, 1]] * 4
    assert told[0] == (0, 4, "reading rows")
    assert told[-1] == (4, 4, "done")
    assert any("epoch 1: validation CCC" in text for text in told if isinstance(text, str))
    assert not list(tmp_path.glob(f"{TRAINING}/*"))
    assert all(grid.finished(run) for run in grid.runs)


def test_finished_runs_are_not_trained_again(stored, folder, monkeypatch):
    before, first = marks(folder), results(stored, folder)
    monkeypatch.setattr("concord.fuse.grid.train", lambda *_: pytest.fail("trained"))
    grid, _, told = train(stored, folder)
    assert told == [(4, 4, "all are finished"), (4, 4, "done")]
    assert "rows" not in vars(grid)
    assert marks(folder) == before
    assert results(stored, folder) == first


def test_only_what_changed_is_trained(stored, folder):
    before = marks(folder)
    more = dataclasses.replace(CONCAT.training, seeds=(0, 1, 2))
    train(
        stored,
        folder,
        with_experiments(dataclasses.replace(CONCAT, training=more), dataclasses.replace(JCA, k=3)),
    )
    after = marks(folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 3


@pytest.mark.parametrize(
    "told",
    [
        {"window": {"length": 8, "hop": 4, "hop_scoring": 8, "dilation": 1, "tail": "align"}},
        {"training": {"tensorboard": False, "seeds": (1, 0)}},
    ],
)
def test_other_words_for_the_same_are_the_same_run(stored, folder, told):
    before = marks(folder)
    experiment = CONCAT
    for name, values in told.items():
        value = dataclasses.replace(getattr(experiment, name), **values)
        experiment = dataclasses.replace(experiment, **{name: value})
    assert experiment != CONCAT
    train(stored, folder, with_experiments(experiment, JCA))
    assert marks(folder) == before


def test_protocol_and_smoothing_change_scores_and_train_nothing(stored, folder):
    before, first = marks(folder), results(stored, folder)
    for changed in ({"protocol": "livia"}, {"smoothing": "box:9"}):
        settings = dataclasses.replace(SETTINGS, **changed)
        grid, _, _ = train(stored, folder, settings)
        assert Scores(grid).results() != first
    assert marks(folder) == before


def test_a_run_that_was_broken_off_is_trained_again(stored, folder):
    first = results(stored, folder)
    done = min(path.parent for path in folder.glob("*/run.json"))
    done.rename(done.with_name(f".tmp-{done.name}"))
    with pytest.raises(ConfigError, match=r"no finished run of seeds 0|1; run `concord fuse train"):
        results(stored, folder)
    train(stored, folder)
    again = results(stored, folder)
    for found in (first, again):
        for experiment in found["experiments"]:
            for run in experiment["runs"]:
                # Trained alone, not beside the other seed: the same numbers to rounding.
                assert run.pop("together")
    assert again["experiments"][0]["scores"]["score"]["mean"] == pytest.approx(
        first["experiments"][0]["scores"]["score"]["mean"], abs=1e-4
    )
    assert [e["seeds"] for e in again["experiments"]] == [[0, 1], [0, 1]]


def test_a_run_keeps_all_that_made_it(stored, trained):
    store, manifest = stored
    grid = Grid(*stored, SETTINGS, trained)
    run = grid.runs[2]
    path = grid.path(run)
    assert {each.name for each in path.iterdir()} == {*FILES, "run.json"}
    for name in ("head.safetensors", "last.safetensors"):
        with safe_open(path / name, "pt") as file:
            told = json.loads(file.metadata()["configuration"])
            names = set(file.keys())
        assert told["experiment"]["head"] == "jca"
        assert told["seed"] == 0
        assert told["manifest"] == manifest.name
        assert told["streams"] == [store[stream].full_name for stream in BOTH]
        assert set(told["items"]) == set(BOTH)
        assert {"W.W_ja", "scaling/mean/audio/x", "scaling/scale/visual/x"} <= names
    finished = Finished.read(path)
    seeds = dataclasses.replace(JCA.training, seeds=TrainingSettings().seeds)
    told = dataclasses.replace(JCA, training=seeds, window=JCA.window.resolved())
    assert finished.experiment() == told
    assert finished.identity() == json.loads(json.dumps(grid.identity(run)))
    _, scaling = finished.weights()
    measured = Scaling.of(grid.rows, BOTH, grid.problem(JCA).training)
    for stream in BOTH:
        assert torch.equal(scaling.mean[stream], measured.mean[stream])
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == finished.record["curve"]["epoch"] == [1, 2]
    assert finished.predictions.shape == (180, 2)


def test_a_run_is_another_over_other_items(stored, trained):
    _, manifest = stored
    first = manifest.tracks[0]
    items = {name: f"{key}-other" for name, key in first.items.items() if "visual" in name}
    other = dataclasses.replace(first, items={**first.items, **items})
    changed = dataclasses.replace(manifest, tracks=(other, *manifest.tracks[1:]))
    grid = Grid(stored[0], changed, SETTINGS, trained)
    assert [grid.finished(run) for run in grid.runs] == [True, True, False, False]


def test_batches_are_disjoint_and_complete(stored, tmp_path):
    widths = [dataclasses.replace(CONCAT, width=width) for width in (2, 3, 4, 5, 6)]
    settings = with_experiments(*widths)
    parts = [set(train(stored, tmp_path, settings, (i, 3))[1]) for i in range(3)]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert len(set.union(*parts)) == 10 == len(marks(tmp_path))
    _, digests, told = train(stored, tmp_path, settings)
    assert set(digests) == set.union(*parts)
    assert told[0] == (10, 10, "all are finished")
    # More batches than there is to do.
    assert train(stored, tmp_path, settings, (8, 9))[1] == []


def test_folds_train_and_validate_on_other_tracks(stored, tmp_path):
    folds = [dataclasses.replace(CONCAT, fold=fold) for fold in ("six:0", "six:1", "official")]
    grid, _, _ = train(stored, tmp_path, with_experiments(*folds))
    found = Scores(grid).results()["experiments"]
    assert [e["fold"] for e in found] == ["six:0", "six:1", "official"]
    # The last of five slices of six training tracks holds two of them.
    assert [e["rows"] for e in found] == [180, 120, 180]
    assert found[0]["scores"] == found[2]["scores"] != found[1]["scores"]
    assert [e["name"] for e in found][1] == "concat / audio, fold six:1"


def test_recordings_on_both_sides_of_a_fold_are_told(stored, tmp_path):
    store, manifest = stored
    tracks = [dataclasses.replace(t, family="one") for t in manifest.split("train")]
    manifest = dataclasses.replace(manifest, tracks=(*tracks, *manifest.split("val")))
    folds = [dataclasses.replace(CONCAT, fold=fold) for fold in ("official", "six:1")]
    told = train((store, manifest), tmp_path, with_experiments(*folds))[2]
    texts = [text for text in told if isinstance(text, str) and "both sides" in text]
    assert texts == [
        "fold six:1: 1 recordings have tracks on both sides: one; grouped folds have none"
    ]


def broken(folder, split, track, row):
    """A store in which one number of a row is more than float16 can hold."""
    parts = [planted(seed=1), planted(tracks=3, seed=2, split="val")]
    rows = parts[0 if split == "train" else 1]
    rows.sources["visual/x"].x[rows.firsts[track] + row, 1] = 1e6
    with pytest.warns(RuntimeWarning, match="overflow"):
        return write_store(folder, parts)


@pytest.mark.parametrize(("split", "track"), [("train", 4), ("val", 1)])
def test_a_number_that_is_not_finite_is_named_and_other_runs_are_kept(tmp_path, split, track):
    stored = broken(tmp_path / "store", split, track, 33)
    with pytest.raises(TrainingError) as caught:
        train(stored, tmp_path / "runs")
    text = str(caught.value)
    where = f"row 33 of track '{split}{track}'"
    assert f"stream 'visual/x' holds a number that is not finite in {where}" in text
    assert "head 'jca'" in text
    assert "concat" not in text
    assert {
        Finished.read(path.parent).experiment().head
        for path in (tmp_path / "runs").glob("*/run.json")
    } == {"concat"}


def test_an_experiment_that_cannot_begin_leaves_the_others(stored, tmp_path):
    impossible = dataclasses.replace(
        CONCAT, window=WindowSettings(length=100, tail="drop", dilation=1)
    )
    with pytest.raises(TrainingError, match=r"head 'concat' over audio/x, fold official: no train"):
        train(stored, tmp_path, with_experiments(impossible, JCA))
    assert len(marks(tmp_path)) == 2


def test_a_stream_that_is_not_there(stored, tmp_path):
    experiment = dataclasses.replace(CONCAT, streams=("visual/i3d",))
    with pytest.raises(NotInStoreError, match=r"expected one stream 'visual/i3d', found none"):
        Grid(*stored, with_experiments(experiment), tmp_path)


def test_names_tell_experiments_apart():
    wide = dataclasses.replace(JCA, width=64)
    assert experiment_names([JCA, wide, CONCAT]) == [
        "jca / audio+visual, width 4",
        "jca / audio+visual, width 64",
        "concat / audio",
    ]
    seeds = dataclasses.replace(CONCAT.training, seeds=(5, 6))
    others = [dataclasses.replace(CONCAT, training=seeds, encoders=("gru",)), CONCAT]
    assert experiment_names(others) == [
        "concat / audio, encoders gru, seeds 5 6",
        "concat / audio, encoders -, seeds 0 1",
    ]
    same = dataclasses.replace(CONCAT, window=CONCAT.window.resolved())
    with pytest.raises(ConfigError, match="listed twice"):
        experiment_names([CONCAT, same])


def test_many_experiments_are_named_in_no_time():
    import time

    many = [
        dataclasses.replace(CONCAT, width=width, k=k) for width in range(100) for k in range(1, 101)
    ]
    begun = time.perf_counter()
    names = experiment_names(many)
    spent = time.perf_counter() - begun
    print(f"10,000 experiments are named in {spent:.2f} s")
    assert len(set(names)) == 10_000
    assert spent < 10


def test_spread_leaves_out_what_is_undefined():
    assert spread([0.5, None, 0.7])["mean"] == pytest.approx(0.6)
    assert spread([None, None]) == {"mean": None, "std": None, "values": [None, None]}
    assert spread([0.5])["std"] is None
