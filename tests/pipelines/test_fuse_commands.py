"""`concord fuse train`, `evaluate`, `compare`, `table`: over a small store, in this process."""

import csv
import json

import pytest
from click.testing import CliRunner
from concord.cache import ConfigError
from concord.pipelines import device
from concord.pipelines.cli import cli

from ..fuse.conftest import planted, write_store

STREAMS = ["audio/x", "visual/x"]
NAMES = ["concat / audio, width 3", "concat / audio, width 4", "jca / audio+visual"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A results folder with a store in it, and the configuration of three experiments."""
    folder = tmp_path_factory.mktemp("commands")
    parts = [planted(seed=1), planted(tracks=3, seed=2, split="val")]
    write_store(folder / "store", parts)
    config = {
        "data": {"name": "made"},
        "results": str(folder),
        "streams": {name: {"backbone": "my.own:Network"} for name in STREAMS},
        "fuse": {
            "window": {"length": 8, "hop": 4},
            "training": {"epochs": 2, "seeds": [0, 1]},
            "resamples": 100,
            "experiments": [
                {"head": "concat", "streams": STREAMS[:1], "width": [3, 4], "hidden": 8},
                {"head": "jca", "streams": STREAMS, "width": 4, "hidden": 8, "k": 2},
            ],
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(autouse=True, scope="module")
def torch_as_it_is():
    """Leave this process's torch alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "set_up_torch", lambda _: None)
        patch.setattr(device, "keep_memory", lambda: None)
        yield


def concord(folder, command, *arguments):
    words = ["fuse", command, *map(str, arguments), "--config", str(folder / "config.json")]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def trained(folder):
    files = {name: folder / f"results.{name}" for name in ("json", "csv", "md")}
    arguments = ("--results", files["json"], "--csv", files["csv"], "--markdown", files["md"])
    shown = concord(folder, "train", "--device", "cpu", *arguments)
    return folder, files, shown


def test_training_writes_results_and_tables(trained):
    _, files, shown = trained
    found = json.loads(files["json"].read_text())
    assert [e["name"] for e in found["experiments"]] == NAMES
    rows = list(csv.DictReader(files["csv"].open()))
    assert [row["width"] for row in rows] == ["3", "4", "4"]
    for row, experiment in zip(rows, found["experiments"], strict=True):
        assert float(row["score_mean"]) == experiment["scores"]["score"]["mean"]
        assert float(row["score_low"]) == experiment["intervals"]["score"][0]
    lines = files["md"].read_text().splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("| head | variant | streams |")
    assert "protocol official, smoothing none: mean ± spread" in shown


def test_results_files_become_one_table(trained):
    _, files, _ = trained
    done = CliRunner().invoke(cli, ["fuse", "table", str(files["json"]), "--csv"])
    assert done.stdout == files["csv"].read_text()
    done = CliRunner().invoke(cli, ["fuse", "table", str(files["json"])])
    assert done.stdout == files["md"].read_text()


def test_another_protocol_scores_what_is_finished(trained, tmp_path):
    folder, files, _ = trained
    path = tmp_path / "smoothed.json"
    arguments = ("--smoothing", "box:5", "--results", path, "--csv", tmp_path / "smoothed.csv")
    shown = concord(folder, "evaluate", *arguments, "--tracks")
    assert "protocol official, smoothing box:5" in shown
    assert "seed 1, track by track" in shown
    smoothed, plain = (json.loads(p.read_text()) for p in (path, files["json"]))
    assert smoothed["protocol"]["smoothing"] == "box:5"
    assert smoothed["experiments"][0]["scores"] != plain["experiments"][0]["scores"]
    told = json.loads(concord(folder, "evaluate", "--protocol", "sucv", "--json"))
    assert told["protocol"]["name"] == "sucv"
    assert told["tracks"] == []
    with pytest.raises(ConfigError, match="unknown protocol 'sucw'; did you mean 'sucv'"):
        concord(folder, "evaluate", "--protocol", "sucw")


def test_experiments_are_compared(trained):
    folder, _, _ = trained
    found = json.loads(concord(folder, "compare", NAMES[0], NAMES[2], "--json"))
    assert found["families"] == 3
    assert found["difference"]["score"] == pytest.approx(
        found["first"]["score"] - found["second"]["score"]
    )
    shown = concord(folder, "compare", NAMES[0], NAMES[2], "--smoothing", "box:3")
    assert "smoothing box:3" in shown
    with pytest.raises(ConfigError, match="unknown experiment 'jca'"):
        concord(folder, "compare", NAMES[0], "jca")


def test_batches_leave_receipts_and_scores_come_last(folder, tmp_path):
    runs = ("--runs", tmp_path / "runs", "--device", "cpu")
    receipts = [tmp_path / f"{i}.json" for i in range(2)]
    for number, receipt in enumerate(receipts):
        shown = concord(folder, "train", *runs, "--batch", f"{number}/2", "--receipt", receipt)
        assert shown == ""
    told = [json.loads(receipt.read_text()) for receipt in receipts]
    assert [one["batch"] for one in told] == ["0/2", "1/2"]
    assert [len(one["runs"]) for one in told] == [4, 2]
    kept = {path.parent.name for path in (tmp_path / "runs").glob("*/run.json")}
    assert kept == {name for one in told for name in one["runs"]}
    concord(folder, "train", *runs, "--results", tmp_path / "results.json")
    found = json.loads((tmp_path / "results.json").read_text())
    assert {run["digest"] for e in found["experiments"] for run in e["runs"]} == kept


@pytest.mark.parametrize("option", ["--results", "--csv", "--markdown"])
def test_a_batch_has_no_scores_of_all(folder, tmp_path, option):
    with pytest.raises(ConfigError, match=r"--batch 0/2 trains a part .*run again without --batch"):
        concord(folder, "train", "--batch", "0/2", option, tmp_path / "x")


@pytest.mark.parametrize("batch", ["2/2", "x", "1", "-1/2", "0/0"])
def test_a_batch_is_one_of_n(folder, batch):
    with pytest.raises(ConfigError, match="--batch: expected i/n with i from 0 to n - 1"):
        concord(folder, "train", f"--batch={batch}")


def test_scores_of_what_was_never_trained(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"no finished run of seeds 0, 1; run `concord fuse tra"):
        concord(folder, "evaluate", "--runs", tmp_path / "none")
