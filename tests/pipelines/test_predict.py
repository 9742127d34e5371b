"""`concord fuse predict`: from a finished run to a folder of tables and one page."""

import csv
import dataclasses
import json
import re
import shutil
from urllib.parse import unquote

import numpy as np
import pytest
from concord.cache import DataError, FeatureStore
from concord.fuse.grid import Grid
from concord.fuse.prediction import TrackPrediction, predict_tracks, read_run
from concord.fuse.settings import ExperimentSettings, FuseSettings, TrainingSettings
from concord.fuse.settings import WindowSettings as Window
from concord.pipelines import predictions
from concord.pipelines.predictions import file_name, render_predictions, write_predictions

from ..fuse.conftest import planted, write_store
from .commands import concord

EXPERIMENT = ExperimentSettings(
    head="jca",
    streams=("audio/x", "visual/x"),
    width=4,
    hidden=8,
    k=2,
    window=Window(length=8, hop=4),
    training=TrainingSettings(epochs=2, seeds=(0, 1)),
)
HOSTILE = "../../<script>alert(1)</script>%2F\"'&"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder as a workflow leaves it: `store` and `runs`."""
    folder = tmp_path_factory.mktemp("predict")
    parts = [
        planted(seed=1),
        planted(tracks=3, seed=2, split="val"),
        planted(tracks=2, seed=3, split="test"),
    ]
    store, manifest = write_store(folder / "store", parts)
    grid = Grid(store, manifest, FuseSettings(experiments=(EXPERIMENT,)), folder / "runs")
    grid.train(lambda *_: None, lambda _: None)
    items = [
        {name: key for name, key in t.items.items() if not name.startswith("labels/")}
        for t in manifest.split("test")
    ]
    tracks = [
        dataclasses.replace(t, items=i) for t, i in zip(manifest.split("test"), items, strict=True)
    ]
    store.save_manifest(dataclasses.replace(manifest, dataset="new", tracks=tuple(tracks)))
    return folder


def runs(folder):
    return sorted(path.parent for path in (folder / "runs").glob("*/run.json"))


def predict(*arguments):
    return concord("fuse", "predict", *arguments)


def test_a_run_predicts_a_data_set_without_labels(results):
    (first, second) = runs(results)
    done = predict(first, "--data", "new", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    page = results / "predictions" / "new@abc" / first.name / "index.html"
    assert done.stdout.strip() == str(page)
    assert {path.name for path in page.parent.iterdir()} == {
        "index.html",
        "test0.csv",
        "test1.csv",
    }
    store = FeatureStore(results / "store")
    both = sorted(map(read_run, (first, second)), key=lambda run: run.record["seed"])
    expected = predict_tracks(both, store, store.manifest("new"))
    for track in expected:
        assert (page.parent / f"{track.track}.csv").read_text() == track.table()
    text = page.read_text()
    assert "2 seeds: 0, 1" in text
    assert "60 rows, 0 labelled" in text
    assert set(re.findall(r"https?://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}


def test_seed_split_and_folder_are_chosen(results, tmp_path):
    (first, _) = runs(results)
    out = tmp_path / "mine"
    how = ("--data", "made", "--split", "val", "--out", out, "--this-seed-only", "--threads", "1")
    done = predict(first, *how)
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in out.glob("*.csv")} == {"val0", "val1", "val2"}
    lines = list(csv.DictReader((out / "val0.csv").open()))
    assert {line["valence_spread"] for line in lines} == {""}
    kept = read_run(first).predictions[:60]
    found = [[float(line[kind]) for kind in ("valence", "arousal")] for line in lines]
    np.testing.assert_allclose(found, kept, atol=1e-6)
    assert "60 rows, 60 labelled" in (out / "index.html").read_text()


def test_a_store_that_is_elsewhere_is_asked_for(results, tmp_path):
    (first, _) = runs(results)
    shutil.copytree(first, tmp_path / "lone")
    done = predict(tmp_path / "lone", "--data", "new")
    assert done.returncode == 2
    assert "name one with --store" in done.stderr
    done = predict(
        tmp_path / "lone", "--data", "new", "--store", results / "store", "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "1 seed: " in (tmp_path / "index.html").read_text()


def test_another_recipe_is_told(results, tmp_path):
    (first, _) = runs(results)
    shutil.copytree(results, tmp_path / "copy")
    path = tmp_path / "copy" / "store" / "manifests" / "new@abc.json"
    store = FeatureStore(tmp_path / "copy" / "store")
    other = store.create_stream("audio/x", {"made": "otherwise"})
    manifest = store.manifest("new")
    tracks = [
        dataclasses.replace(
            t,
            items={
                other.full_name if name.startswith("audio/") else name: key
                for name, key in t.items.items()
            },
        )
        for t in manifest
    ]
    path.unlink()
    store.save_manifest(dataclasses.replace(manifest, tracks=tuple(tracks)))
    done = predict(tmp_path / "copy" / "runs" / first.name, "--data", "new")
    assert done.returncode == 2
    trained = json.loads((first / "run.json").read_text())["digest"]
    assert trained == first.name
    for digest in (other.digest[:12], read_run(first).identity()["streams"][0][8:20]):
        assert f"audio/x@{digest}" in done.stderr


@pytest.mark.parametrize(
    ("track", "name"),
    [
        ("video3", "video3.csv"),
        ("102-30-640x360_left", "102-30-640x360_left.csv"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd.csv"),
        ("..", "%2E..csv"),
        ("/root", "%2Froot.csv"),
        ("a\\b", "a%5Cb.csv"),
        ("a%2Fb", "a%252Fb.csv"),
        (".tmp-x", "%2Etmp-x.csv"),
        ("index.html", "index.html.csv"),
        ("a b ü", "a b ü.csv"),
    ],
)
def test_names_of_tables_stay_in_their_folder(track, name, tmp_path):
    assert file_name(track) == name
    assert (tmp_path / name).resolve().parent == tmp_path
    assert unquote(name.removesuffix(".csv")) == track


def test_a_name_that_no_file_can_have():
    assert len(file_name("ü" * 125).encode()) == 254
    with pytest.raises(DataError, match="at most 251 bytes, found 252"):
        file_name("ü" * 126)


def made(track, rows=5):
    seconds = np.full(rows, np.nan)
    none = np.zeros(rows, bool)
    values = np.zeros((2, rows, 2))
    return TrackPrediction(track, "test", values, none, seconds, np.zeros((rows, 2)), none)


def test_hostile_names_are_escaped_and_stay_inside(results, tmp_path):
    out = tmp_path / "a" / "b" / "c"
    page = write_predictions(out, "new abc", [read_run(runs(results)[0])], [made(HOSTILE)])
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {out}
    text = page.read_text()
    assert text.count("<script") == 1
    assert "<script>alert" not in text
    (link,) = re.findall(r'href="([^"#]*csv)"', text)
    assert (out / unquote(link)).exists()
    assert "row</em>" in text


def test_the_page_draws_some_tracks_and_lists_all(results, monkeypatch):
    monkeypatch.setattr(predictions, "DRAWN", 2)
    tracks = {file_name(name): made(name) for name in ("a", "b", "c", "d")}
    text = render_predictions("new abc", [read_run(runs(results)[0])], tracks)
    assert re.findall(r'data-track="(\w)"', text) == ["a", "b"]
    assert "first 2 tracks; 2 more have a table below" in text
    assert re.findall(r'href="([^"#]*csv)"', text) == list(tracks)
