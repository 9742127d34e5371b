"""The workflow as users run it: real processes over a small generated data set."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from concord.cache import FeatureStore

ROOT = Path(__file__).parents[2]
STREAMS = ["visual/resnet18", "audio/resnet18"]
TINY = {
    "data": {"adapter": "demo", "profile": "tiny", "path": "results/data"},
    "results": "results",
    "streams": {
        "visual/resnet18": {"weights": "seeded", "resize": 64, "crop": 64},
        "audio/resnet18": {"weights": "seeded"},
    },
    "parts": 2,
    "fuse": {
        "window": {"length": 16, "hop": 8},
        "training": {"epochs": 2, "seeds": [0, 1]},
        "experiments": [{"head": "jca", "streams": STREAMS, "width": 8}],
    },
}


def snakemake(folder, config, *more):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(path), "--cores", "2", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    done.text = done.stdout + done.stderr
    return done


def jobs(done):
    """Rule to number of jobs, from the table that Snakemake prints before it runs them."""
    table = re.search(r"^job +count\n[- ]+\n(.*?)^total", done.text, re.MULTILINE | re.DOTALL)
    lines = table[1].splitlines() if table else []
    return {rule: int(count) for rule, count in (line.split() for line in lines)}


def contents(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def changed(before, after):
    return {path for path in after if after[path] != before.get(path)}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workflow")
    done = snakemake(folder, TINY)
    assert done.returncode == 0, done.text
    return folder, done


@pytest.fixture
def copy(ran, tmp_path):
    """A copy of the finished folder, Snakemake's own records included."""
    shutil.copytree(ran[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_from_media_to_a_report(ran):
    folder, done = ran
    assert jobs(done) == {"all": 1, "demo": 1, "extract": 6, "index": 1, "fuse": 1, "report": 1}
    results = folder / "results"
    coverage = json.loads((results / "coverage.json").read_text())
    bad = {entry["source"] for entry in coverage["quarantine"]}
    assert len(bad) == coverage["budget"]["quarantined"] == 1
    page = (results / "report" / "index.html").read_text()
    assert "jca / visual+audio" in page
    for entry in coverage["quarantine"]:
        assert entry["source"] in page
        assert entry["message"].split(":")[1].strip()[:20] in page
    for table in ("report/report.csv", "results.csv"):
        assert len((results / table).read_text().splitlines()) == 2
    assert (results / "results.md").read_text().count("\n") == 3


def test_the_store_holds_every_track(ran):
    store = FeatureStore(ran[0] / "results" / "store")
    manifest = store.manifest("demo")
    assert {track.split for track in manifest} == {"train", "val"}
    for name in STREAMS:
        stream = store[name]
        readable = [track for track in manifest if stream.full_name in track.items]
        assert len(readable) == 3
        for track in readable:
            item = stream.of(manifest.name)[track.track]
            assert item.rows.shape == (track.rows, 512)
            assert track.rate is not None
    assert all(store["labels/va"][track.track].rows.shape == (track.rows, 2) for track in manifest)


def test_again_does_nothing(ran):
    folder, _ = ran
    before = contents(folder / "results")
    begun = time.perf_counter()
    done = snakemake(folder, TINY)
    print(f"nothing to do: {time.perf_counter() - begun:.1f} s")
    assert done.returncode == 0
    assert "Nothing to be done" in done.text
    assert contents(folder / "results") == before


def test_another_head_trains_only(copy):
    before = contents(copy / "results")
    experiment = {"head": "concat", "streams": STREAMS, "width": 8}
    fuse = {**TINY["fuse"], "experiments": [*TINY["fuse"]["experiments"], experiment]}
    done = snakemake(copy, {**TINY, "fuse": fuse})
    assert done.returncode == 0, done.text
    assert jobs(done) == {"all": 1, "fuse": 1, "report": 1}
    touched = changed(before, contents(copy / "results"))
    tops = {path.parts[0] for path in touched}
    files = {f"results.{kind}" for kind in ("json", "csv", "md")}
    assert tops == {*files, "settings", "runs", "report", "logs"}
    # The run of jca with each seed is kept; only concat's two are new.
    assert len({path.parts[1] for path in touched if path.parts[0] == "runs"}) == 2


@pytest.mark.slow
def test_one_source_more_computes_that_source_only(copy):
    data = copy / "mine"
    shutil.move(copy / "results" / "data", data)
    config = {**TINY, "data": {"adapter": "affwild2", "name": "mine", "path": "mine"}}
    assert snakemake(copy, config).returncode == 0
    store = copy / "results" / "store"
    shards = set(store.glob("streams/*/*/shards/*"))
    old = next(iter(sorted(data.glob("batch*/*.mp4"), key=lambda p: -p.stat().st_size)))
    labels = next(data.glob(f"*/*/*/{old.stem}*.txt"))
    shutil.copy(old, old.with_name("added.mp4"))
    with (old.parent / "added.mp4").open("ab") as file:
        file.write(b"\0" * 8)
    shutil.copy(labels, labels.with_name("added.txt"))
    done = snakemake(copy, config)
    assert done.returncode == 0, done.text
    assert jobs(done) == {"all": 1, "extract": 3, "index": 1, "fuse": 1, "report": 1}
    new = set(store.glob("streams/*/*/shards/*")) - shards
    computed = {
        item["track"]
        for shard in new
        for item in json.loads((shard / "index.json").read_text())["items"]
    }
    assert computed == {"added"}
    # A label file of known bytes and rows has an item already.
    assert len(new) == 2


def test_too_many_bad_sources_end_the_run_with_their_reasons(copy):
    done = snakemake(copy, {**TINY, "failure_budget": 0.1})
    assert done.returncode != 0
    log = (copy / "results" / "logs" / "index.log").read_text()
    assert "1 of 4 sources are in quarantine, failure_budget 0.1 allows 0" in log
    receipts = sorted((copy / "results" / "receipts").glob("*/*.json"))
    command = [sys.executable, "-m", "concord.pipelines", "extract", "index", *map(str, receipts)]
    command += ["--store", str(copy / "results" / "store"), "--budget", "0.1"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 3


def test_a_misspelt_key_stops_before_any_work(tmp_path):
    done = snakemake(tmp_path, {**TINY, "failure_bugdet": 0.5})
    assert done.returncode != 0
    assert "failure_bugdet: unknown key; did you mean 'failure_budget'?" in done.text
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_group_shares_one_job_and_gives_the_same_numbers(copy):
    config = {**TINY, "groups": {"media": STREAMS}, "results": "grouped"}
    done = snakemake(copy, config)
    assert done.returncode == 0, done.text
    assert jobs(done)["extract"] == 4
    numbers = [
        json.loads((copy / name / "results.json").read_text()) for name in ("results", "grouped")
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.slow
def test_batches_train_and_one_job_scores(copy):
    """Widths differ in the head's structure: three experiments, three groups of runs."""
    experiments = [{"head": "concat", "streams": STREAMS, "width": [4, 5, 6]}]
    fuse = {**TINY["fuse"], "experiments": experiments, "batches": 2}
    done = snakemake(copy, {**TINY, "fuse": fuse})
    assert done.returncode == 0, done.text
    assert jobs(done) == {"all": 1, "fuse": 1, "fuse_batch": 2, "report": 1}
    results = copy / "results"
    receipts = [json.loads((results / "batches" / f"{i}of2.json").read_text()) for i in range(2)]
    parts = [set(receipt["runs"]) for receipt in receipts]
    assert [len(part) for part in parts] == [4, 2]
    scored = json.loads((results / "results.json").read_text())
    runs = {run["digest"] for e in scored["experiments"] for run in e["runs"]}
    assert runs == parts[0] | parts[1]
    assert "6/6 after" in (results / "logs" / "fuse.log").read_text().splitlines()[0]
    # Another protocol is a matter of scores; another batch count trains nothing.
    done = snakemake(copy, {**TINY, "fuse": {**fuse, "protocol": "sucv"}})
    assert jobs(done) == {"all": 1, "fuse": 1, "report": 1}
    before = contents(results / "runs")
    done = snakemake(copy, {**TINY, "fuse": {**fuse, "batches": 3}})
    assert jobs(done) == {"all": 1, "fuse": 1, "fuse_batch": 3, "report": 1}
    assert contents(results / "runs") == before
    assert json.loads((results / "results.json").read_text()) == scored


@pytest.mark.slow
def test_a_thousand_experiments(copy):
    rates = [number / 1e5 for number in range(1, 1001)]
    experiments = [{"head": "concat", "streams": STREAMS[:1], "width": 4, "hidden": 4}]
    experiments[0]["training"] = {"lr": rates, "epochs": 1, "seeds": [0]}
    done = snakemake(copy, {**TINY, "fuse": {**TINY["fuse"], "experiments": experiments}})
    assert done.returncode == 0, done.text
    table = (copy / "results" / "results.csv").read_text().splitlines()
    assert len(table) == 1001


@pytest.mark.slow
def test_a_source_replaced_by_an_older_file_is_seen(copy):
    data = copy / "mine"
    shutil.move(copy / "results" / "data", data)
    config = {**TINY, "data": {"adapter": "affwild2", "name": "mine", "path": "mine"}}
    assert snakemake(copy, config).returncode == 0
    before = json.loads((copy / "results" / "coverage.json").read_text())
    path = next(data.glob("batch*/video3.mp4"))
    with path.open("ab") as file:
        file.write(b"\0" * 8)
    os.utime(path, (10**9, 10**9))
    done = snakemake(copy, config)
    assert done.returncode == 0, done.text
    # Its part's jobs of both media streams; the label file is as it was.
    assert jobs(done)["extract"] == 2
    after = json.loads((copy / "results" / "coverage.json").read_text())
    assert after["edition"] == before["edition"]
    assert after["streams"]["labels/va"] == before["streams"]["labels/va"]
    for name in STREAMS:
        assert after["streams"][name]["items_sha256"] != before["streams"][name]["items_sha256"]


def test_the_reason_of_a_failure_is_on_the_screen(copy):
    done = snakemake(copy, {**TINY, "failure_budget": 0.1})
    assert "failure_budget 0.1 allows 0" in done.text
    assert "cannot be opened" in done.text


def test_values_on_the_command_line_change_the_demo(tmp_path):
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n"]
    command += ["--cores", "2", "--config", "parts=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    done.text = done.stdout + done.stderr
    assert jobs(done)["extract"] == 6


@pytest.mark.slow
def test_faces_are_another_recipe(copy):
    streams = {"visual/resnet18": {**TINY["streams"]["visual/resnet18"], "reads": "faces"}}
    fuse = {
        **TINY["fuse"],
        "experiments": [{"head": "concat", "streams": STREAMS[:1], "width": 8}],
    }
    done = snakemake(copy, {**TINY, "streams": streams, "fuse": fuse})
    assert done.returncode == 0, done.text
    store = FeatureStore(copy / "results" / "store")
    found = [stream for stream in store.streams() if stream.name == "visual/resnet18"]
    assert {stream.recipe["reads"] for stream in found} == {"video", "faces"}


def test_snakemake_reports_and_lints(ran):
    folder, _ = ran
    done = snakemake(folder, TINY, "--report", "report.zip")
    assert done.returncode == 0, done.text
    assert (folder / "report.zip").stat().st_size > 100_000
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--lint"]
    lint = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.slow
def test_receipts_are_the_same_when_built_twice(copy):
    receipts = copy / "results" / "receipts"
    before = {path: path.read_bytes() for path in receipts.rglob("*.json")}
    done = snakemake(copy, TINY, "--forcerun", "extract")
    assert done.returncode == 0, done.text
    assert {path: path.read_bytes() for path in receipts.rglob("*.json")} == before
