"""Predictions of finished runs: the run's own numbers, for any data set in the store."""

import csv
import dataclasses
import io

import numpy as np
import pytest
import torch
from concord.cache import ConfigError, DataError, NotInStoreError
from concord.fuse.finished import Finished
from concord.fuse.grid import Grid
from concord.fuse.prediction import COLUMNS, predict_tracks, read_run, runs_beside
from concord.fuse.settings import (
    ExperimentSettings,
    FuseSettings,
    TrainingSettings,
    WindowSettings,
)

from .conftest import planted, write_store

BOTH = ("audio/x", "visual/x")
JCA = ExperimentSettings(
    head="jca",
    streams=BOTH,
    width=4,
    hidden=8,
    k=2,
    window=WindowSettings(length=8, hop=4),
    training=TrainingSettings(epochs=2, seeds=(0, 1, 2)),
)
TCN = dataclasses.replace(JCA, head="concat", encoder="tcn", levels=1)
OTHER = dataclasses.replace(JCA, width=3, training=TrainingSettings(epochs=1, seeds=(7,)))
EXPERIMENTS = (JCA, TCN, OTHER)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Row 70 to 80 of the validation tracks has no value; neither has the last track any."""
    parts = [
        planted(seed=1),
        planted(tracks=3, seed=2, split="val"),
        planted(tracks=2, rows=50, seed=3, split="test"),
    ]
    for stream in BOTH:
        parts[1].valid[stream][70:80] = False
        parts[2].valid[stream][50:] = False
    parts[2].times[:50] = np.nan
    return write_store(tmp_path_factory.mktemp("prediction") / "store", parts)


@pytest.fixture(scope="module")
def folder(stored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    grid = Grid(*stored, FuseSettings(experiments=EXPERIMENTS), folder)
    grid.train(lambda *_: None, lambda _: None)
    return folder


def runs_of(stored, folder, experiment=JCA):
    grid = Grid(*stored, FuseSettings(experiments=EXPERIMENTS), folder)
    paths = [grid.path(run) for run in grid.runs if run.experiment == experiment]
    return [read_run(path) for path in paths]


def renamed(manifest, change, dataset="new", splits=("test",)):
    """Another data set: some tracks, with the streams that `change` leaves, renamed by it."""
    tracks = tuple(
        dataclasses.replace(t, items={n: k for s, k in t.items.items() if (n := change(s))})
        for t in manifest
        if t.split in splits
    )
    return dataclasses.replace(manifest, dataset=dataset, tracks=tracks)


def unlabelled(name):
    return "" if name.startswith("labels/") else name


def lines(prediction):
    return list(csv.DictReader(io.StringIO(prediction.table())))


@pytest.mark.parametrize("experiment", [JCA, TCN], ids=["jca", "tcn"])
def test_the_validation_tracks_are_predicted_as_in_training(stored, folder, experiment):
    runs = runs_of(stored, folder, experiment)
    found = predict_tracks(runs, *stored, ["val"])
    assert [each.track for each in found] == ["val0", "val1", "val2"]
    kept = torch.stack([run.predictions for run in runs]).double().numpy()
    values = np.concatenate([each.values for each in found], axis=1)
    filled = np.concatenate([each.filled for each in found])
    assert np.flatnonzero(filled).tolist() == list(range(70, 80))
    assert (np.isnan(kept).all(axis=(0, 2)) == filled).all()
    # They were trained and predicted at once, and are predicted one by one here.
    np.testing.assert_allclose(values[:, ~filled], kept[:, ~filled], rtol=0, atol=1e-6)
    # The nearest predicted row, the earlier one where two are as near.
    np.testing.assert_array_equal(values[:, 70:75], values[:, [69] * 5])
    np.testing.assert_array_equal(values[:, 75:80], values[:, [80] * 5])


def test_a_single_runs_own_numbers_come_back_bit_for_bit(stored, folder):
    (run,) = runs_of(stored, folder, OTHER)
    found = predict_tracks([run], *stored, ["val"])
    values = np.concatenate([each.values for each in found], axis=1)[0]
    kept = run.predictions.numpy()
    there = ~np.isnan(kept).any(1)
    np.testing.assert_array_equal(values[there].astype(np.float32), kept[there])


def test_the_table_has_means_and_spreads_over_the_runs(stored, folder):
    runs = runs_of(stored, folder)
    (track, *_) = predict_tracks(runs, *stored, ["val"])
    rows = lines(track)
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 60
    for i, kind in enumerate(("valence", "arousal")):
        mean = np.array([float(row[kind]) for row in rows])
        spread = np.array([float(row[f"{kind}_spread"]) for row in rows])
        np.testing.assert_allclose(mean, track.values[:, :, i].mean(0), atol=1e-7)
        np.testing.assert_allclose(spread, np.std(track.values[:, :, i], axis=0, ddof=1), atol=1e-7)
    assert [row["time"] for row in rows[:3]] == ["0.000000", "0.100000", "0.200000"]
    assert {row["filled"] for row in rows} == {"0"}


def test_one_seed_has_no_spread(stored, folder):
    (track, *_) = predict_tracks(runs_of(stored, folder)[:1], *stored, ["val"])
    assert track.spread is None
    assert {row["valence_spread"] + row["arousal_spread"] for row in lines(track)} == {""}
    assert "valence_std" not in track.trace("x")["predictions"]["x"]


def test_without_labels_and_without_training_rows(stored, folder):
    store, manifest = stored
    new = renamed(manifest, unlabelled)
    runs = runs_of(stored, folder)
    found = predict_tracks(runs, store, new)
    assert [(each.track, each.split) for each in found] == [("test0", "test"), ("test1", "test")]
    same = predict_tracks(runs, store, manifest, ["test"])
    np.testing.assert_array_equal(found[0].values, same[0].values)
    assert same[0].labelled.all()
    assert not found[0].labelled.any()
    assert set(found[0].trace("x")["labels"]["valence"]) == {None}


def test_a_track_without_any_value_is_zero(stored, folder):
    _, empty = predict_tracks(runs_of(stored, folder), *stored, ["test"])
    assert empty.filled.all()
    assert not empty.values.any()
    assert {(row["valence"], row["filled"]) for row in lines(empty)} == {("0.0", "1")}


def test_rows_without_a_clock_are_numbered(stored, folder):
    track, _ = predict_tracks(runs_of(stored, folder), *stored, ["test"])
    assert [row["time"] for row in lines(track)] == [str(number) for number in range(50)]
    assert track.trace("x")["times"][-1] == 49
    assert not track.trace("x")["clock"]


def test_all_splits_by_default(stored, folder):
    found = predict_tracks(runs_of(stored, folder)[:1], *stored)
    assert {each.split for each in found} == {"train", "val", "test"}
    assert len(found) == 11


def test_mapped_rows_give_the_same(stored, folder):
    runs = runs_of(stored, folder)[:1]
    for one, other in zip(
        predict_tracks(runs, *stored), predict_tracks(runs, *stored, memory=1e-9), strict=True
    ):
        np.testing.assert_array_equal(one.values, other.values)


def test_another_recipe_is_refused_with_both_digests(stored, folder):
    store, manifest = stored
    other = "f" * 64
    new = renamed(
        manifest, lambda name: f"visual/x@{other}" if name.startswith("visual/") else name
    )
    own = store["visual/x"].digest[:12]
    with pytest.raises(
        ConfigError, match=rf"expected stream visual/x@{own}.*visual/x@ffffffffffff"
    ):
        predict_tracks(runs_of(stored, folder), store, new)


def test_a_stream_that_is_missing_is_named(stored, folder):
    store, manifest = stored
    new = renamed(manifest, lambda name: "" if name.startswith("visual/") else name)
    with pytest.raises(NotInStoreError, match=r"new@abc: expected stream visual/x@.* found no"):
        predict_tracks(runs_of(stored, folder), store, new)
    with pytest.raises(NotInStoreError, match="no track in split 'val'"):
        predict_tracks(runs_of(stored, folder), store, renamed(manifest, unlabelled), ["val"])


def test_labels_of_several_recipes_are_not_shown(stored, folder):
    store, manifest = stored
    new = renamed(manifest, lambda name: name)
    first = new.tracks[0]
    doubled = dataclasses.replace(first, items={**first.items, f"labels/va@{'0' * 64}": "x"})
    new = dataclasses.replace(new, tracks=(doubled, *new.tracks[1:]))
    found = predict_tracks(runs_of(stored, folder)[:1], store, new)
    assert not any(each.labelled.any() for each in found)


def test_a_number_that_is_not_finite_is_named(stored, folder, tmp_path):
    rows = planted(tracks=2, seed=3, split="test")
    rows.sources["audio/x"].x[83, 0] = 1e6
    with pytest.warns(RuntimeWarning, match="overflow"):
        broken = write_store(tmp_path / "store", [rows])
    with pytest.raises(DataError, match=r"'audio/x' holds a number .* row 23 of track 'test1'"):
        predict_tracks(runs_of(stored, folder), *broken)


def test_the_other_seeds_stand_beside_a_run(stored, folder):
    runs = runs_of(stored, folder)
    assert [run.path for run in runs_beside([runs[1]])] == [run.path for run in runs]
    assert [run.path for run in runs_beside([runs[2], runs[0]], alone=True)] == [
        runs[0].path,
        runs[2].path,
    ]
    (other,) = runs_beside(runs_of(stored, folder, OTHER))
    assert other.record["seed"] == 7


def test_what_is_no_finished_run_does_not_join(stored, folder, tmp_path):
    import shutil

    runs = runs_of(stored, folder)
    shutil.copytree(runs[0].path, tmp_path / "mine")
    shutil.copytree(runs[1].path, tmp_path / ".tmp-broken-off")
    (tmp_path / "notes").mkdir()
    (found,) = runs_beside([read_run(tmp_path / "mine")])
    assert found.path == tmp_path / "mine"


def test_runs_of_several_experiments_are_refused(stored, folder):
    runs = [runs_of(stored, folder)[0], *runs_of(stored, folder, OTHER)]
    with pytest.raises(
        ConfigError, match=r"other experiment\.training\.epochs, experiment\.width; "
    ):
        runs_beside(runs)


def test_what_is_no_run_at_all(tmp_path, stored, folder, monkeypatch):
    with pytest.raises(ConfigError, match="expected the folder of a finished run"):
        read_run(tmp_path)
    monkeypatch.setattr(Finished, "experiment", lambda _: {}["training"])
    with pytest.raises(ConfigError, match=r"of another version \('training'\)"):
        read_run(runs_of(stored, folder)[0].path)


def test_weights_of_another_form_are_refused(stored, folder, monkeypatch):
    runs = runs_of(stored, folder)[:1]
    wider = dataclasses.replace(JCA, hidden=9)
    monkeypatch.setattr(Finished, "experiment", lambda _: wider)
    with pytest.raises(
        ConfigError, match=r"its weights do not fit .*: expected \(9,\), found \(8,\)"
    ):
        predict_tracks(runs, *stored)
