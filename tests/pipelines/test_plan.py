"""The plan of stage two's jobs: what they are told by, and how they are dealt."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from concord.cache import ConfigError
from concord.pipelines.config import load_config, parse_config
from concord.pipelines.plan import Plan

ROOT = Path(__file__).parents[2]
VISUAL = "visual/resnet18"
LONGEST_ARGUMENT = 131_072
"""Bytes that Linux takes in one argument."""


def configured(results="results", experiments=None, **fuse):
    experiments = experiments or [{"head": "concat", "streams": [VISUAL], "width": 8}]
    return {
        "data": {"profile": "tiny", "path": f"{results}/data"},
        "results": str(results),
        "streams": {VISUAL: {"weights": "seeded"}},
        "fuse": {**fuse, "experiments": experiments},
    }


def many(count):
    return [{"head": "concat", "streams": [VISUAL], "width": list(range(1, count + 1))}]


def dry_run(folder, config, *more):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n"]
    command += ["--directory", str(folder), "--configfile", str(path), "--cores", "2", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    table = re.search(r"^job +count\n[- ]+\n(.*?)^total", text, re.MULTILINE | re.DOTALL)
    lines = table[1].splitlines() if table else []
    return {rule: int(count) for rule, count in (line.split() for line in lines)}, text


def test_settings_are_the_configurations_own(tmp_path):
    values = configured(tmp_path, protocol="sucv", window={"length": 16, "hop": 4})
    plan = Plan.of(values)
    plan.write_settings()
    file = Path(plan.fuse_settings.path)
    assert file.parent == tmp_path / "settings"
    config = parse_config(values)
    found = load_config(file)
    assert (found.fuse, found.streams) == (config.fuse, config.streams)
    assert list(file.parent.iterdir()) == [file]


def test_settings_are_written_once_under_the_name_of_their_content(tmp_path):
    first = Plan.of(configured(tmp_path))
    first.write_settings()
    before = Path(first.fuse_settings.path).stat()
    Plan.of(configured(tmp_path)).write_settings()
    after = Path(first.fuse_settings.path).stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    other = Plan.of(configured(tmp_path, traces=1))
    other.write_settings()
    # The one that a workflow may be running by is as it was.
    assert json.loads(Path(first.fuse_settings.path).read_text())["fuse"]["traces"] == 6
    assert json.loads(Path(other.fuse_settings.path).read_text())["fuse"]["traces"] == 1


@pytest.mark.parametrize(
    ("changed", "trains"),
    [
        ({"protocol": "livia"}, False),
        ({"smoothing": "box:5"}, False),
        ({"resamples": 300}, False),
        ({"traces": 1}, False),
        ({"training": {"lr": 0.1}}, True),
        ({"window": {"length": 8}}, True),
        ({"memory": 1.0}, True),
    ],
)
def test_what_scores_does_not_train(changed, trains):
    first = Plan.of(configured(batches=2))
    second = Plan.of(configured(batches=2, **changed))
    assert first.fuse_settings.path != second.fuse_settings.path
    assert (first.batch_settings.path != second.batch_settings.path) is trains


def test_batches_are_jobs_of_their_own():
    assert Plan.of(configured()).batches == []
    assert Plan.of(configured(batches=1)).batches == []
    plan = Plan.of(configured(batches=3))
    assert plan.batches == [f"results/batches/{i}of3.json" for i in range(3)]
    # How runs are dealt changes nothing that a job is told by.
    assert plan.fuse_settings.path == Plan.of(configured()).fuse_settings.path


@pytest.mark.parametrize("batches", [1, 3])
def test_jobs_of_a_dry_run(tmp_path, batches):
    found, text = dry_run(tmp_path, configured(batches=batches), "-p")
    assert found.get("fuse_batch", 0) == (batches if batches > 1 else 0)
    assert found["fuse"] == found["report"] == 1
    for name in ("results.json", "results.csv", "results.md"):
        assert f"results/{name}" in text
    assert not (tmp_path / "results").exists()


def test_a_thousand_experiments_are_no_argument(tmp_path):
    config = configured(experiments=many(1000), batches=2)
    plan = Plan.of(config)
    assert len(plan.fuse_settings.text) > LONGEST_ARGUMENT
    found, text = dry_run(tmp_path, config, "-p")
    assert (found["fuse"], found["fuse_batch"]) == (1, 2)
    commands = [line for line in text.splitlines() if "concord fuse train" in line]
    assert len(commands) == 3
    assert max(map(len, commands)) < 1000
    assert all("--config results/settings/" in line for line in commands)


def test_a_thousand_experiments_reach_the_command(tmp_path):
    config = configured(tmp_path, experiments=many(1000))
    plan = Plan.of(config)
    plan.write_settings()
    command = [sys.executable, "-m", "concord.pipelines", "fuse", "train"]
    command += ["--config", plan.fuse_settings.path, "--store", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert "no store here" in done.stderr
    assert done.returncode == 5


def test_json_files_are_read_as_json(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(configured()))
    assert load_config(path) == parse_config(configured())
    path.write_text("{not: json}")
    with pytest.raises(ConfigError, match=r"mine\.json: not JSON"):
        load_config(path)
    path = tmp_path / "mine.yaml"
    path.write_text("{results: elsewhere}")
    assert load_config(path).results == "elsewhere"
