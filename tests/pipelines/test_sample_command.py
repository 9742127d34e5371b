"""`concord cache verify REMOTE --sample N` and `info`, on a remote and media of the tiny demo."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from concord.cache import FeatureStore
from concord.cache.copying import new_item_of
from concord.pipelines.cli import main
from concord.pipelines.demo import make_demo

from .conftest import as_json

STREAMS = {
    "audio/resnet18": {"weights": "seeded", "stride": 39},
    "visual/resnet18": {
        "weights": "seeded",
        "reads": "faces",
        "resize": 32,
        "crop": 32,
        "stride": 39,
    },
}


def configuration(data, **streams):
    data = {"adapter": "demo", "profile": "tiny", "path": str(data)}
    return json.dumps({"data": data, "streams": {**STREAMS, **streams}})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tiny demo's media, and what was extracted from them; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny")
    make_demo(folder / "data", "tiny")
    settings = configuration(folder / "data")
    main(
        ["extract", "run", "--config", settings, "--store", str(folder / "store"), "--budget", "1"]
    )
    return folder


@pytest.fixture
def run(cache_command, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache_command("remote", "add", "lab", made / "store")
    return cache_command


def verify(run, settings, *more, remote="lab"):
    return run("verify", remote, "--sample", 50, "--config", settings, "--device", "cpu", *more)


def outcomes(result, code=0):
    found = as_json(result, code)
    return found, {
        (each["stream"].partition("@")[0], each["track"]): each for each in found["items"]
    }


def test_info_of_a_remote_says_what_computing_again_needs(made, run):
    found = as_json(run("info", "lab", "visual/resnet18", "--json"))
    assert found["sensitivity"] == "vectors"
    assert found["needs"]["recipe"]["weights"] == found["recipe"]["weights"]
    assert {"backbone", "reader", "code"} <= found["needs"]["recipe"].keys()
    (computed,) = found["needs"]["computed"]
    assert computed["versions"]["torch"]
    assert computed["device"] == "cpu"
    (coverage,) = found["coverage"].values()
    # Of the file of noise there is no picture, but there are crops.
    assert coverage == {"train": "2 of 3 tracks", "val": "1 of 1 tracks"}
    every = as_json(run("info", made / "store", "--json"))
    assert [each["name"] for each in every] == ["audio/resnet18", "labels/va", "visual/resnet18"]
    assert next(each for each in every if each["name"] == "labels/va")["sensitivity"] == "media"
    assert "weights" in run("info", "lab")[1]


def test_all_is_as_its_recipe_gives_it(made, run):
    found, items = outcomes(verify(run, configuration(made / "data"), "--json"))
    assert found["equal"] == len(items) > 6
    assert {each["outcome"] for each in items.values()} == {"equal"}
    assert all(each["distance"] <= each["tolerance"] for each in items.values())
    assert {name for name, _ in items} == {"audio/resnet18", "labels/va", "visual/resnet18"}


def forge(store, name, track):
    """Replace a track's rows by others under the same key: sealed, checked, and wrong."""
    stream = FeatureStore(store)[name]
    key = next(m.items[stream.full_name] for m in stream.store.manifests()[0] if m.track == track)
    items = [new_item_of(item) for item in stream.items.values()]
    rows = next(item.rows for item in items if item.key == key).copy()
    rows[5] = np.roll(rows[5], 1)
    items = [replace(item, rows=rows) if item.key == key else item for item in items]
    for shard in stream.shards:
        shutil.rmtree(shard.path)
    with FeatureStore(store)[name].writer() as writer:
        for item in items:
            writer.add(item)


def test_what_was_forged_is_found(made, run, tmp_path):
    shutil.copytree(made / "store", tmp_path / "forged")
    forge(tmp_path / "forged", "visual/resnet18", "21")
    assert run("verify", "forged")[0] == 0
    more = ("--stream", "visual/resnet18")
    result = verify(run, configuration(made / "data"), *more, "--json", remote="forged")
    found, items = outcomes(result, code=7)
    assert found["differs"] == 1
    wrong = items["visual/resnet18", "21"]
    assert wrong["outcome"] == "differs"
    assert wrong["distance"] > wrong["tolerance"] == 1e-3
    code, out, err = verify(run, configuration(made / "data"), *more, remote="forged")
    assert code == 7
    assert "1 of" in err
    assert "differs" in out


def test_what_cannot_be_computed_is_said_with_its_reason(made, run, tmp_path):
    data = shutil.copytree(made / "data", tmp_path / "data")
    (film,) = data.rglob("21.mp4")
    film.write_bytes(film.read_bytes() + b"\0")
    (film,) = data.rglob("video3.mp4")
    film.unlink()
    other = {"visual/resnet18": {**STREAMS["visual/resnet18"], "weights": "seeded:7"}}
    found, items = outcomes(verify(run, configuration(data, **other), "--json"))
    why = {name: each["why"] for name, each in items.items() if each["outcome"] != "equal"}
    assert found["not recomputed"] == len(why)
    assert found["differs"] == 0
    assert "other inputs here" in why["audio/resnet18", "21"]
    assert "inputs.media" in why["audio/resnet18", "21"]
    assert "video3.mp4: expected a file" in why["audio/resnet18", "video3"]
    assert "another recipe here: weights is" in why["visual/resnet18", "21"]
    assert items["audio/resnet18", "7-8-112x112"]["outcome"] == "equal"


def test_a_sample_of_which_nothing_can_be_computed_is_no_success(made, run, tmp_path):
    settings = json.dumps({"data": {"adapter": "demo", "profile": "tiny", "path": str(tmp_path)}})
    code, out, err = verify(run, settings, "--stream", "audio/resnet18")
    assert code == 4
    assert "none of" in err
    assert "not recomputed" in out
    code, _, err = run("verify", "lab", "--sample", 3)
    assert code == 2
    assert "--config" in err
