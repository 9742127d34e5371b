"""`concord fuse submit` and `concord data check-submission`, as they are typed."""

import json

import numpy as np
import pytest
from concord.cache import FeatureStore
from concord.fuse.conventions import box_filter
from concord.fuse.grid import Grid
from concord.fuse.prediction import predict_tracks, read_run, runs_beside
from concord.fuse.settings import ExperimentSettings, FuseSettings, TrainingSettings
from concord.fuse.settings import WindowSettings as Window

from ..fuse.conftest import planted, write_store
from .commands import concord

EXPERIMENT = ExperimentSettings(
    head="concat",
    streams=("audio/x", "visual/x"),
    width=4,
    hidden=8,
    window=Window(length=8, hop=4),
    training=TrainingSettings(epochs=2, seeds=(0, 1)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of two seeds, and a template of the two test tracks, the second first."""
    folder = tmp_path_factory.mktemp("submit")
    parts = [planted(seed=1), planted(tracks=3, seed=2, split="val")]
    store, manifest = write_store(
        folder / "store", [*parts, planted(tracks=2, seed=3, split="test")]
    )
    grid = Grid(store, manifest, FuseSettings(experiments=(EXPERIMENT,)), folder / "runs")
    grid.train(lambda *_: None, lambda _: None)
    lines = ["image_location,valence,arousal"]
    for track in reversed(manifest.split("test")):
        lines += [f"{track.track}/{number:05d}.jpg," for number in range(1, track.rows + 1)]
    (folder / "template.txt").write_text("\n".join(lines) + "\n")
    return folder


def run_of(folder):
    return min(folder.glob("runs/*/run.json")).parent


def submit(folder, out, *more):
    template = folder / "template.txt"
    where = ["--data", "made", "--template", template, "--out", out, "--device", "cpu"]
    return concord("fuse", "submit", run_of(folder), *where, *more)


def check(folder, out, *more):
    return concord("data", "check-submission", out, "--template", folder / "template.txt", *more)


def test_the_mean_of_all_seeds_in_the_template_s_order(folder, tmp_path):
    out = tmp_path / "submission.txt"
    done = submit(folder, out, "--smoothing", "box:3,5")
    assert done.returncode == 0, done.stderr
    assert "2 tracks, 0 filled, mean of 2 seeds" in done.stdout
    checked = check(folder, out)
    assert (checked.returncode, "sound" in checked.stdout) == (0, True), checked.stdout

    store = FeatureStore(folder / "store")
    runs = runs_beside([read_run(run_of(folder))])
    tracks = predict_tracks(runs, store, store.manifest("made"), ["test"])
    wanted = np.concatenate(
        [
            np.stack([box_filter(t.mean[:, i], size, "edge") for i, size in enumerate((3, 5))], 1)
            for t in reversed(tracks)
        ]
    ).clip(-1, 1)
    lines = out.read_text().splitlines()[1:]
    found = np.array([[float(x) for x in line.split(",")[1:]] for line in lines])
    assert np.abs(found - wanted).max() < 1e-6


def test_a_folder_with_a_file_per_track(folder, tmp_path):
    done = submit(folder, tmp_path / "each", "--style", "folder", "--this-seed-only")
    assert done.returncode == 0, done.stderr
    assert "mean of 1 seed" in done.stdout
    assert {path.name for path in (tmp_path / "each").iterdir()} == {"test0.txt", "test1.txt"}
    assert check(folder, tmp_path / "each").returncode == 0


def test_a_fault_is_told_with_its_line(folder, tmp_path):
    out = tmp_path / "submission.txt"
    assert submit(folder, out).returncode == 0
    lines = out.read_text().splitlines()
    lines[6] = lines[6].rpartition(",")[0] + ",-5"
    out.write_text("\n".join(lines) + "\n")
    done = check(folder, out)
    assert done.returncode == 4
    assert done.stdout.startswith("submission.txt:7: arousal is -5")
    (fault,) = json.loads(check(folder, out, "--json").stdout)
    assert (fault["file"], fault["line"]) == ("submission.txt", 7)


def test_a_template_that_asks_for_an_unknown_track_ends_it(folder, tmp_path):
    (tmp_path / "template.txt").write_text(
        "image_location,valence,arousal\ntest0/00001.jpg,\nother/00001.jpg,\n"
    )
    where = ["--data", "made", "--template", tmp_path / "template.txt", "--out", tmp_path / "out"]
    done = concord("fuse", "submit", run_of(folder), *where, "--device", "cpu")
    assert done.returncode == 4
    assert "track 'test0': expected predictions of 1 rows" in done.stderr
    assert not (tmp_path / "out").exists()
