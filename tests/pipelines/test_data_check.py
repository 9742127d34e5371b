"""`concord data check`: what it counts, what it finds odd, what it refuses, and what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from concord.cache import FeatureStore
from concord.extract.affwild2 import scan
from concord.extract.backbones import build_backbone
from concord.extract.engine import extract
from concord.extract.index import Index
from concord.extract.leaks import leaks
from concord.extract.training_record import KEY, TrainingRecord
from concord.pipelines.config import parse_config
from concord.pipelines.demo_media import encode_mp4
from concord.pipelines.plan import Plan
from safetensors.torch import save_file

from .commands import concord

ROOT = Path(__file__).parents[2]
LABELS = "6th ABAW Annotations/VA_Estimation_Challenge"
TEMPLATE = "CVPR_6th_ABAW_VA_test_set_sample.txt"
UNFIT = 11


def check(*arguments):
    done = concord("data", "check", *arguments, "--json")
    found = json.loads(done.stdout) if done.stdout else {}
    names = {each["text"]: (each["level"], each["names"]) for each in found.get("findings", ())}
    return done, found, names


def labels(path, rows, missing=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["-5,-5"] * missing + [f"0.{k % 10},0.25" for k in range(rows - missing)]
    path.write_text("\n".join(["valence,arousal", *lines]) + "\n")


def film(path, frames, rate=10, *, sound=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(frames)
    pictures = random.integers(0, 255, (frames, 32, 32, 3), np.uint8)
    line = random.uniform(-0.1, 0.1, round(frames / rate * 16_000)).astype(np.float32)
    path.write_bytes(encode_mp4(pictures, Fraction(rate), line if sound else line[:0], 0.0))


def crops(folder, numbers):
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"{number:05d}.jpg").touch()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Seven sources with one oddity each, and a template."""
    root = tmp_path_factory.mktemp("Aff Wild2")
    labels(root / LABELS / "Train_Set" / "1.txt", 20, missing=3)
    labels(root / LABELS / "Train_Set" / "10-60-1280x720.txt", 20)
    labels(root / LABELS / "Train_Set" / "10-60-1280x720_right.txt", 20)
    labels(root / LABELS / "Train_Set" / "video45_3.txt", 40)
    labels(root / LABELS / "Validation_Set" / "2.txt", 20)
    labels(root / LABELS / "Validation_Set" / "video45_2.txt", 12)
    (root / LABELS / "Validation_Set" / "3.txt").write_text("valence,arousal\n0.5,high\n")
    rows = "".join(f"video4/{k:05d}.jpg,\n" for k in range(1, 31))
    (root / TEMPLATE).write_text("image_location,valence,arousal\n" + rows)
    (root / "Valence_Arousal_Estimation_Challenge_test_set_release.txt").write_text("video4\n99\n")
    for name in ("1", "10-60-1280x720", "video45_3"):
        film(root / "batch1" / f"{name}.mp4", 20)
    film(root / "batch2" / "2.mp4", 20, sound=False)
    film(root / "batch2" / "video4.mp4", 30)
    (root / "batch2" / "video45_2.mp4").touch()
    crops(root / "cropped_aligned" / "1", range(3, 23))
    crops(root / "cropped_aligned" / "2", range(1, 11))
    crops(root / "cropped_aligned_new_50_vids" / "in" / "video4", range(1, 31))
    (root / "cropped_aligned" / "1" / "notes.csv").touch()
    return root


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_what_is_there_missing_and_odd(data):
    before = contents(data)
    done, found, told = check("--data", data)
    assert done.returncode == 0, done.stderr
    assert contents(data) == before
    assert found["release"] == "ABAW6"
    assert found["splits"]["train"] == {
        "tracks": 4,
        "sources": 3,
        "rows": 100,
        "labelled": 97,
        "faceless": 2,
        "without_faces": 3,
        "without_media": 0,
    }
    assert found["splits"]["test"]["rows"] == 30
    assert found["splits"]["test"]["labelled"] == 0
    assert found["splits"]["all"]["tracks"] == 8
    assert {level for level, _ in told.values()} == {"warning"}
    about = {text: names for text, (_, names) in told.items()}
    assert about["one recording has tracks in train and val"] == ["video45"]
    assert about["media file is empty"] == ["video45_2"]
    assert about["sources without a media file: neither video nor sound"] == ["3"]
    assert about["sources without sound: sound streams have no value there"] == ["2"]
    assert about["test tracks whose rows nothing states"] == ["99"]
    assert about["over 20% of the rows have no face"] == ["2"]
    assert about["face images are numbered beyond the rows; they are left out"] == ["1"]
    assert about["face folders hold files that are no numbered images"] == ["1"]
    by_start = {text[:24]: names for text, names in about.items()}
    assert by_start["two persons of one sourc"] == ["10-60-1280x720"]
    assert by_start["rows go on for more than"] == ["video45_3"]
    assert by_start["4 training and 3 validat"] == []
    assert by_start["its rows are not known: "] == ["3"]
    assert any("3.txt, line 2: expected two numbers, found '0.5,high'" in text for text in about)


def test_the_edition_is_that_of_the_manifest(data, tmp_path):
    store = FeatureStore.create(tmp_path / "store")
    receipt = extract(scan(data), {"labels/va": None}, store)
    assert check("--data", data, "--no-media")[1]["edition"] == Index([receipt], store).edition


def test_people_see_tables(data):
    done = concord("data", "check", "--data", data)
    assert done.returncode == 0
    for word in ("release ABAW6", "faceless", "video45_2", "warning"):
        assert word in done.stdout


def configured(data, **more):
    streams = {"visual/resnet18": {"weights": "seeded", "reads": "faces"}, "audio/resnet18": {}}
    return json.dumps(
        {"data": {"adapter": "affwild2", "path": str(data)}, "streams": streams} | more
    )


def test_what_the_configured_streams_will_lack(data):
    done, _, told = check("--config", configured(data, failure_budget=0.9))
    assert done.returncode == 0, done.stderr
    faces = told["visual/resnet18: tracks without faces, which will be in quarantine"][1]
    assert faces == ["10-60-1280x720", "10-60-1280x720_right", "video45_2", "video45_3"]
    sound = told["audio/resnet18: tracks without sound, which will be in quarantine"][1]
    assert sound == ["video45_2"]
    done, _, told = check("--config", configured(data, failure_budget=0.25))
    assert done.returncode == UNFIT
    assert "findings prevent a run" in done.stderr
    (text,) = (text for text, (level, _) in told.items() if level == "error")
    assert text.startswith("4 of 7 sources will be in quarantine, more than failure_budget 0.25")


def test_a_planted_test_track_prevents_a_run(tmp_path):
    labels(tmp_path / LABELS / "Train_Set" / "1.txt", 5)
    labels(tmp_path / LABELS / "Train_Set" / "234.txt", 5)
    labels(tmp_path / LABELS / "Train_Set" / "102.txt", 5)
    labels(tmp_path / LABELS / "Validation_Set" / "2.txt", 5)
    (tmp_path / "va_test_set.txt").write_text("102\n102-30-640x360\n")
    done, _, told = check("--data", tmp_path)
    assert done.returncode == UNFIT
    leaked = told["labelled tracks that are test tracks by the test list"]
    assert leaked == ("error", ["102", "234"])
    # The workflow refuses it while it is read, and an extraction before it begins.
    with pytest.raises(Exception, match=r"2 labelled tracks .*: 102 \(train\), 234 \(train\)"):
        _ = Plan(parse_config(json.loads(configured(tmp_path)))).dataset
    done = concord("extract", "run", "--data", tmp_path, "--store", tmp_path / "s")
    assert done.returncode == 4
    assert "102 (train), 234 (train)" in done.stderr


def test_tracks_that_will_change_sides_are_told(tmp_path):
    folder = tmp_path / "annotations" / "VA_Set"
    for name in ("1", "171", "313"):
        labels(folder / "Training_Set" / f"{name}.txt", 5)
    labels(folder / "Validation_Set" / "2.txt", 5)
    done, found, told = check("--data", tmp_path)
    assert (done.returncode, found["release"]) == (0, "ABAW1")
    (names,) = (names for text, (_, names) in told.items() if "since ABAW3" in text)
    assert names == ["171", "313"]


@pytest.mark.parametrize("arguments", [[], ["--data", "x", "--config", "{}"]])
def test_one_of_data_and_config(arguments):
    done = concord("data", "check", *arguments)
    assert done.returncode == 2
    assert "either --config or --data" in done.stderr


def test_a_missing_split_or_folder(tmp_path):
    done, _, _ = check("--data", tmp_path / "nowhere")
    assert done.returncode == 4
    labels(tmp_path / LABELS / "Train_Set" / "1.txt", 5)
    done, _, told = check("--data", tmp_path)
    assert done.returncode == UNFIT
    assert told["no track in split val"] == ("error", [])


def record(training, validation):
    return TrainingRecord(
        stream="visual/resnet18",
        backbone="resnet18",
        init="0" * 64,
        dataset="elsewhere",
        edition="",
        labels="1" * 64,
        training=training,
        validation=validation,
        stream_settings={},
        settings={},
    )


def test_a_backbone_that_has_seen_what_is_scored(data, tmp_path):
    seen = record(("1", "2", "video4_left"), ("video4", "10-60-1280x720"))
    found = leaks(scan(data), seen)
    told = [(leak.track, leak.split, leak.seen, leak.by) for leak in found]
    assert told == [("2", "val", "trained", "2"), ("video4", "test", "chosen", "video4")]
    path = tmp_path / "tuned.safetensors"
    save_file(build_backbone("resnet18", "seeded").state_dict(), path, {KEY: seen.text()})
    streams = {"visual/resnet18": {"weights": str(path)}}
    config = {"data": {"adapter": "affwild2", "path": str(data)}, "streams": streams}
    done, _, told = check("--config", json.dumps(config | {"failure_budget": 0.9}))
    assert done.returncode == 0, done.stderr
    what = f"visual/resnet18: its backbone, {path}, was"
    assert told[f"{what} trained on tracks to be scored on"][1] == ["2 (val)"]
    assert told[f"{what} chosen by tracks to be scored on"][1] == ["video4 (test)"]


def test_the_other_person_of_a_film_was_seen(tmp_path):
    for split, name in (("Train_Set", "1"), ("Train_Set", "5_left"), ("Validation_Set", "5_right")):
        labels(tmp_path / LABELS / split / f"{name}.txt", 5)
    (leak,) = leaks(scan(tmp_path), record(("5_left",), ()))
    assert (leak.track, leak.by) == ("5_right", "5_left")


def corpus(root):
    """A folder of plain films, and labels at 5 rows a second."""
    lines = ["track,media,split,labels,rate,delay_s,minimum,maximum"]
    for k in range(4):
        film(root / "films" / f"f{k}.mp4", 40)
        rows = "".join(f"{10 * k + j % 10};{50 - j}\n" for j in range(20))
        (root / f"l{k}.csv").write_text("valence;arousal\n" + rows)
        split = "train" if k < 3 else "val"
        lines.append(f"t{k},films/f{k}.mp4,{split},l{k}.csv,5,0.4,0,50")
    (root / "tracks.csv").write_text("\n".join(lines) + "\n")


def test_a_table_is_checked_and_planned(tmp_path):
    corpus(tmp_path)
    for given in (tmp_path, tmp_path / "tracks.csv"):
        done, found, told = check("--data", given)
        assert done.returncode == 0, done.stderr
        assert told == {}
        assert found["splits"]["train"]["labelled"] == 3 * 18
        assert found["splits"]["val"]["rows"] == 20
    (tmp_path / "films" / "f0.mp4").unlink()
    plan = Plan(parse_config({"data": {"adapter": "table", "path": str(tmp_path)}, "parts": 1}))
    listed = plan.inputs("labels-va", 1)
    assert [Path(name).name for name in listed] == ["l0.csv", "l1.csv", "l2.csv", "l3.csv"]
    before = plan.stamp("labels-va", 1)
    path = tmp_path / "tracks.csv"
    path.write_text(path.read_text().replace(",0.4,", ",0.2,"))
    # Another delay is another job, though no file that it reads has changed.
    assert Plan(plan.config).stamp("labels-va", 1) != before
    done, _, told = check("--data", tmp_path)
    assert told["media file cannot be opened: No such file or directory"][1] == ["films/f0"]


@pytest.mark.slow
def test_plain_films_and_a_table_end_in_scores(tmp_path):
    corpus(tmp_path / "data")
    streams = ["visual/resnet18", "audio/resnet18"]
    config = {
        "data": {"adapter": "table", "path": "data/tracks.csv", "name": "films"},
        "results": "results",
        "streams": {
            "visual/resnet18": {"weights": "seeded", "resize": 32, "crop": 32},
            "audio/resnet18": {"weights": "seeded"},
        },
        "parts": 1,
        "fuse": {
            "window": {"length": 8, "hop": 4},
            "training": {"epochs": 2, "seeds": [0]},
            "experiments": [{"head": "concat", "streams": streams, "width": 8}],
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(tmp_path), "--configfile", str(tmp_path / "config.yaml")]
    done = subprocess.run(
        [*command, "--cores", "2"], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    store = FeatureStore(tmp_path / "results" / "store")
    manifest = store.manifest("films")
    assert {track.track: (track.rows, track.rate) for track in manifest} == {
        f"t{k}": (20, 5.0) for k in range(4)
    }
    item = store["labels/va"].of(manifest.name)["t1"]
    assert item.valid.tolist() == [True] * 18 + [False] * 2
    assert item.rows[0] == pytest.approx([2 * 12 / 50 - 1, 2 * 48 / 50 - 1])
    assert json.loads((tmp_path / "results" / "results.json").read_text())["experiments"]
