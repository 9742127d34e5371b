"""A second user with an empty machine and a remote runs the experiments through the Snakefile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from concord.cache import FeatureStore
from concord.fuse.scores import Scores
from concord.pipelines.grids import opened_grid

from ..cache.servers import moto, new_bucket
from .sharing import STREAM, bytes_below, make_owner, name_remote, push, values, write_labels
from .test_workflow import ROOT, TINY, jobs, snakemake

MEDIA = {".mp4", ".avi", ".wav", ".jpg", ".png"}


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("owner")
    store, coverage = make_owner(folder)
    push(store, folder / "team")
    (folder / "coverage.json").write_text(json.dumps(coverage))
    return folder


def scored_by(store, config, coverage, runs):
    """Train and score over the owner's own store, in this process."""
    grid = opened_grid(json.dumps(config), store, None, coverage, runs)
    grid.train(lambda *_: None, lambda _: None)
    return json.loads(json.dumps(Scores(grid).results()))


def media_below(folder):
    return [path for path in Path(folder).rglob("*") if path.suffix.lower() in MEDIA]


def read(path):
    return json.loads(Path(path).read_text())


def test_a_second_user_computes_nothing(owner, tmp_path):
    name_remote(tmp_path, team=owner / "team")
    done = snakemake(tmp_path, values())
    assert done.returncode == 0, done.text
    assert jobs(done) == {"all": 1, "fetch": 1, "index": 1, "fuse": 1, "report": 1}
    assert "extract" not in [line.split()[-1] for line in done.text.splitlines() if line]
    assert f"{STREAM}: 6 tracks from team" in done.text
    results = tmp_path / "results"
    assert media_below(tmp_path) == []
    assert read(results / "coverage.json") == read(owner / "coverage.json")
    scores = scored_by(owner / "store", values(), owner / "coverage.json", tmp_path / "runs")
    assert read(results / "results.json") == scores
    # Once it is here, neither the network nor the remote is asked for.
    before = bytes_below(results)
    name_remote(tmp_path, team=tmp_path / "gone")
    done = snakemake(tmp_path, values())
    assert "Nothing to be done" in done.text
    assert bytes_below(results) == before


@pytest.mark.slow
def test_a_second_user_has_the_labels_and_nothing_else(owner, tmp_path):
    push(FeatureStore(owner / "store"), tmp_path / "rows", streams=(STREAM,))
    name_remote(tmp_path, team="rows")
    write_labels(tmp_path / "labels")
    done = snakemake(tmp_path, values(labels="labels"))
    assert done.returncode == 0, done.text
    assert "to be computed here: labels-va" in done.text
    results = tmp_path / "results"
    assert {path.parent.name for path in results.glob("receipts/*/*.json")} == {"labels-va"}
    assert read(results / "coverage.json") == read(owner / "coverage.json")
    assert "Nothing to be done" in snakemake(tmp_path, values(labels="labels")).text
    (file,) = tmp_path.glob("labels/*/*/c.txt")
    file.write_text(file.read_text().replace("0.", "0.0", 1))
    done = snakemake(tmp_path, values(labels="labels"), "--forcerun", "fetch")
    assert done.returncode != 0
    assert "label files are not, byte for byte" in done.text


@pytest.mark.slow
def test_a_remote_that_does_not_answer(tmp_path):
    """The run stops, and says so; or it computes, as without a remote."""
    config = {**TINY, "stores": ["local", "team"]}
    name_remote(tmp_path, team="http://127.0.0.1:9/store")
    done = snakemake(tmp_path, config)
    assert done.returncode != 0
    assert "team: http://127.0.0.1:9/store/catalogue.json: 6 tries failed" in done.text
    assert "let them be computed here: `unreachable: compute`" in done.text
    assert not (tmp_path / "results" / "data").exists()
    done = snakemake(tmp_path, {**config, "unreachable": "compute"})
    assert done.returncode == 0, done.text
    assert "6 tries failed" in done.text
    assert jobs(done)["fetch"] == 1
    made = {path.parent.name for path in tmp_path.glob("results/receipts/*/*.json")}
    assert made == {"labels-va", "visual-resnet18", "audio-resnet18"}
    coverage = read(tmp_path / "results" / "coverage.json")
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.move(tmp_path / "results" / "data", alone / "results" / "data")
    assert snakemake(alone, TINY).returncode == 0
    assert coverage == read(alone / "results" / "coverage.json")
    assert read(tmp_path / "results" / "results.json") == read(alone / "results" / "results.json")


@pytest.mark.slow
def test_rows_that_were_removed_are_fetched_again(owner, tmp_path):
    name_remote(tmp_path, team=owner / "team")
    assert snakemake(tmp_path, values()).returncode == 0
    store = tmp_path / "results" / "store"
    shutil.rmtree(next(store.glob("streams/audio/*/shards")))
    done = snakemake(tmp_path, values())
    assert done.returncode == 0, done.text
    assert jobs(done)["fetch"] == 1
    assert "extract" not in jobs(done)
    assert f"{STREAM}: 6 tracks from team" in done.text
    assert "Nothing to be done" in snakemake(tmp_path, values()).text


@pytest.mark.slow
def test_a_second_user_runs_the_demo_from_a_bucket(demo, tmp_path, monkeypatch):
    config = yaml.safe_load((ROOT / "pipelines/configs/demo.yaml").read_text())
    store = FeatureStore(demo / config["results"] / "store")
    with moto(tmp_path) as address:
        url = new_bucket(address, monkeypatch)
        push(store, url)
        second = tmp_path / "second"
        second.mkdir()
        name_remote(second, team=url)
        done = snakemake(second, {**config, "stores": ["local", "team"], "cache_limit": "1 GB"})
    assert done.returncode == 0, done.text
    assert jobs(done) == {"all": 1, "fetch": 1, "index": 1, "fuse": 1, "report": 1}
    assert media_below(second) == []
    results = second / config["results"]
    mine, theirs = read(results / "coverage.json"), read(demo / "coverage.json")
    assert {k: v for k, v in mine.items() if k != "quarantine"} == {
        k: v for k, v in theirs.items() if k != "quarantine"
    }
    assert [entry["source"] for entry in mine["quarantine"]] == [
        entry["source"] for entry in theirs["quarantine"]
    ]
    scores = scored_by(store.path, config, demo / "coverage.json", tmp_path / "runs")
    assert read(results / "results.json") == scores
