"""The profiles for clusters, on a real SLURM of one node, and as plain processes."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from .slurm import one_node_cluster
from .test_workflow import ROOT, TINY, contents, jobs

PROFILES = files("concord.pipelines") / "profiles"
PLUGINS = {"slurm": "slurm", "cluster-generic": "cluster_generic"}
QUICK = {"slurm": ["--slurm-init-seconds-before-status-checks=2"], "cluster-generic": []}
VISUAL = "visual/resnet18"
PART = "logs/extract/visual-resnet18/1.log"
ALL = {"all": 1, "demo": 1, "extract": 6, "index": 1, "fuse": 1, "report": 1}
# Widths differ in the head's structure, so one training follows the other.
SMALL = {
    **TINY,
    "streams": {VISUAL: TINY["streams"][VISUAL]},
    "fuse": {
        "window": {"length": 16, "hop": 8},
        "training": {"epochs": 60, "patience": 60, "seeds": [0, 1]},
        "experiments": [{"head": "concat", "streams": [VISUAL], "width": [8, 9]}],
        "memory": 2,
    },
}


def command(folder, profile, config, *more):
    """The command of a user who names a profile of the package."""
    pytest.importorskip(f"snakemake_executor_plugin_{PLUGINS[profile]}")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    workflow = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    workflow += ["--profile", str(PROFILES / profile), "--configfile", str(path), "--nocolor"]
    return [*workflow, *QUICK[profile], *more]


def run(folder, profile, config, *more, env=None):
    line = command(folder, profile, config, *more)
    done = subprocess.run(
        line, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    done.text = done.stdout + done.stderr
    return done


def finished(folder):
    results = folder / "results"
    return [json.loads((results / f"{name}.json").read_text()) for name in ("results", "coverage")]


@pytest.mark.parametrize("profile", PLUGINS)
def test_a_profile_plans_and_lints(tmp_path, profile):
    planned = run(tmp_path, profile, TINY, "--dry-run")
    assert planned.returncode == 0, planned.text
    assert jobs(planned) == ALL
    assert not (tmp_path / "results").exists()
    lint = run(tmp_path, profile, TINY, "--lint")
    assert lint.returncode == 0, lint.text


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with one_node_cluster(tmp_path_factory.mktemp("slurm")) as env:
        yield {**env, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run on this machine alone, without a profile."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "config.yaml").write_text(yaml.safe_dump(SMALL))
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    line += ["--cores=2", "--configfile=config.yaml"]
    subprocess.run(line, cwd=folder, check=True, timeout=600)
    return folder


@pytest.fixture
def copy(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "copy")
    return tmp_path / "copy"


def known(env, folder, columns):
    """What SLURM knows of each job of a workflow: its rule and wildcards, and some columns."""
    line = ["squeue", "--states=all", "--noheader", f"--format=%Z|%k|{columns}"]
    out = subprocess.run(line, env=env, capture_output=True, text=True, check=True).stdout
    return [row.split("|")[1:] for row in out.splitlines() if row.startswith(f"{folder}|")]


@contextlib.contextmanager
def started(folder, *command, env=None):
    """A workflow that runs on its own; what it says is in a file."""
    with (
        (folder / "said.txt").open("w") as said,
        subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said) as process,
    ):
        yield process


def ended(folder, process):
    """Wait for a workflow that must end well; what it has said."""
    code = process.wait(timeout=600)
    text = (folder / "said.txt").read_text()
    assert code == 0, text
    return text


def wait_for(found, process):
    """Wait until a function gives something, while a workflow runs."""
    while not (what := found()):
        assert process.poll() is None, "the workflow ended too early"
        time.sleep(0.2)
    return what


def cancel(env, folder, rule):
    """Cancel the running job of a rule."""
    rows = known(env, folder, "%A|%T")
    number = next(row[1] for row in rows if rule in row[0] and row[2] == "RUNNING")
    subprocess.run(["scancel", number], env=env, check=True)


@pytest.mark.slow
def test_cancelled_jobs_are_continued_and_nothing_is_lost(undisturbed, cluster, tmp_path):
    results = tmp_path / "results"
    with started(tmp_path, *command(tmp_path, "slurm", SMALL), env=cluster) as process:
        wait_for((results / PART).exists, process)
        cancel(cluster, tmp_path, "rule_extract_wildcards_visual-resnet18_1")
        wait_for(lambda: list(results.glob("runs/*/run.json")), process)
        cancel(cluster, tmp_path, "rule_fuse")
        store = contents(results / "store")
        runs = {path.parent: contents(path.parent) for path in results.glob("runs/*/run.json")}
        text = ended(tmp_path, process)
    assert text.count("SLURM status is: 'CANCELLED'") == 2
    assert 0 < len(runs) < 4
    assert {folder: contents(folder) for folder in runs} == runs
    after = contents(results / "store")
    assert {path: after[path] for path in store} == store
    assert finished(tmp_path) == finished(undisturbed)
    asked = {}
    for comment, *limits in known(cluster, tmp_path, "%m|%l|%C"):
        asked.setdefault(comment.split("_")[1], []).append(tuple(limits))
    # A job that is tried again gets more memory and time.
    for rule, first, again, count in (
        ("extract", ("8000M", "4:00:00", "1"), ("16000M", "8:00:00", "1"), 5),
        ("fuse", ("10048M", "4:00:00", "1"), ("20096M", "8:00:00", "1"), 2),
    ):
        assert sorted(asked.pop(rule)) == sorted([first] * (count - 1) + [again])
    light = [("4000M", "30:00", "1")]
    assert asked == {"demo": light, "index": light, "report": light}


@pytest.mark.slow
def test_the_message_of_a_failing_job_is_on_the_screen(copy, cluster):
    config = {**SMALL, "failure_budget": 0.1}
    done = run(copy, "slurm", config, "--retries=0", env=cluster)
    assert done.returncode != 0
    assert "1 of 4 sources are in quarantine, failure_budget 0.1 allows 0" in done.text
    assert "Error in rule index" in done.text


@pytest.mark.slow
def test_what_slurm_refuses_is_on_the_screen(copy, cluster):
    config = {**SMALL, "failure_budget": 0.3}
    more = ["--set-resources", "index:mem_mb=999000", "--retries=0"]
    done = run(copy, "slurm", config, *more, env=cluster)
    assert done.returncode != 0
    assert "SLURM sbatch failed" in done.text
    assert "Requested node configuration is not available" in done.text


GPU = "gres:gpu:1"


def extraction_gpus(env, folder):
    """GPUs that SLURM was asked for by each job of extraction, as SLURM tells them."""
    found = {}
    for comment, number in known(env, folder, "%A"):
        line = ["scontrol", "show", "job", number]
        told = subprocess.run(line, env=env, capture_output=True, text=True, check=True).stdout
        asked = re.findall(r"^ *(TresPer\w+)=(\S*gpu\S*)$", told, re.MULTILINE)
        assert "Partition=gpu " in told
        found[comment.partition("wildcards_")[2]] = dict(asked)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "resources", "media", "labels"),
    [
        ("cuda:7", [], {"TresPerJob": GPU}, {}),
        ("cpu", ["extract:gres=gpu:1"], {"TresPerNode": GPU}, {"TresPerNode": GPU}),
    ],
)
def test_a_gpu_is_asked_for(copy, cluster, device, resources, media, labels):
    """By the device of the configuration, or in the words of a site."""
    more = ["--forcerun", "extract", "--until", "extract", "--retries=0"]
    more += ["--set-resources", "extract:slurm_partition=gpu", *resources]
    done = run(copy, "slurm", {**SMALL, "device": device}, *more, env=cluster)
    assert extraction_gpus(cluster, copy) == {
        f"{stream}_{part}": asked
        for stream, asked in (("labels-va", labels), ("visual-resnet18", media))
        for part in (1, 2)
    }
    # There is no such device: the plan alone asks for the GPU, and the command says what is wrong.
    assert (done.returncode == 0) == (device == "cpu")
    assert ("device 'cuda:7': expected auto, cpu or cuda:N" in done.text) == (device != "cpu")


@pytest.mark.slow
def test_the_plain_profile_runs_and_fails_on_slurm_too(copy, cluster):
    config = SMALL
    before = finished(copy)
    done = run(copy, "cluster-generic", config, "--forcerun", "index", env=cluster)
    assert done.returncode == 0, done.text
    assert done.text.count("with external jobid") == 3
    assert finished(copy) == before
    failing = run(
        copy, "cluster-generic", {**config, "failure_budget": 0.1}, "--retries=0", env=cluster
    )
    assert failing.returncode != 0
    assert "failure_budget 0.1 allows 0" in failing.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "cancelled", "word"),
    [
        ("sleep 60", False, "running"),
        ("sleep 60", True, "failed"),
        ("exit 0", False, "success"),
        ("exit 3", False, "failed"),
    ],
)
def test_the_status_of_a_job_in_one_word(cluster, tmp_path, script, cancelled, word):
    submit = ["sbatch", "--parsable", f"--chdir={tmp_path}", f"--wrap={script}"]
    number = subprocess.run(submit, env=cluster, capture_output=True, text=True, check=True).stdout
    until = time.monotonic() + 60
    if cancelled:
        subprocess.run(["scancel", number.strip()], env=cluster, check=True)
    while (said := status(cluster, number.strip())) != word and time.monotonic() < until:
        time.sleep(0.2)
    assert said == word
    subprocess.run(["scancel", number.strip()], env=cluster, check=True)


def status(env, number):
    script = str(PROFILES / "cluster-generic" / "status.sh")
    done = subprocess.run([script, number], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_a_forgotten_job_is_done_again_and_a_lost_controller_waited_for(cluster, tmp_path):
    assert status(cluster, "987654") == "failed"
    lost = (tmp_path / "slurm.conf").write_text(
        re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", Path(cluster["SLURM_CONF"]).read_text())
    )
    assert lost
    assert status({**cluster, "SLURM_CONF": str(tmp_path / "slurm.conf")}, "1") == "running"


SUBMIT = """#!/bin/sh
# Start the job in a process group of its own; its exit code will be in a file.
setsid sh -c 'sh "$0" > "$1/$$.log" 2>&1; echo $? > "$1/$$.code"' "$1" "{folder}" > /dev/null 2>&1 &
echo $!
"""
STATUS = """#!/bin/sh
code=$(cat "{folder}/$1.code" 2> /dev/null)
case "$code" in
  0) echo success ;;
  "") if kill -0 "$1" 2> /dev/null; then echo running; else echo failed; fi ;;
  *) echo failed ;;
esac
"""


def group_of(log):
    """Process group that has a file open."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(link.resolve() == log for link in (entry / "fd").iterdir()):
                return os.getpgid(int(entry.name))
    raise AssertionError(f"nobody writes {log}")


@pytest.mark.slow
def test_every_job_a_process_of_its_own_without_a_cluster(undisturbed, tmp_path):
    """The plain profile with other commands, and one of the jobs killed."""
    for name, text in (("submit.sh", SUBMIT), ("status.sh", STATUS)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    more = [f"--cluster-generic-submit-cmd={tmp_path}/submit.sh"]
    more += [f"--cluster-generic-status-cmd={tmp_path}/status.sh"]
    line = command(tmp_path, "cluster-generic", SMALL, *more)
    with started(tmp_path, *line) as process:
        begun = tmp_path / "results" / PART
        wait_for(begun.exists, process)
        os.killpg(group_of(begun), signal.SIGKILL)
        text = ended(tmp_path, process)
    assert "Trying to restart job" in text
    assert text.count("with external jobid") == 9
    assert finished(tmp_path) == finished(undisturbed)
