"""Killing jobs, and Snakemake itself, at random moments: the same command ends the same way."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
RUN = [*SNAKEMAKE, "--cores", "2"]
KILLS = 10


def job_processes(parent):
    """Every `concord` process below a process."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                above = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except (OSError, ValueError):
                continue
            children.setdefault(above, []).append((int(entry.name), command))
    found, waiting = [], [parent]
    while waiting:
        for number, command in children.get(waiting.pop(), []):
            waiting.append(number)
            if (
                re.search(r"bin/concord|concord\.pipelines|multiprocessing.spawn", command)
                and "bash" not in command
            ):
                found.append(number)
    return found


def outcome(folder):
    results = json.loads((folder / "results/demo/results.json").read_text())
    coverage = json.loads((folder / "results/demo/coverage.json").read_text())
    return results, coverage


def run(folder, command=RUN):
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    begun = time.monotonic()
    run(folder)
    return folder, outcome(folder), time.monotonic() - begun


def stored(folder):
    """Items in published shards, with the time of publishing."""
    found = {}
    for index in folder.glob("results/demo/store/streams/*/*/shards/[0-9a-f]*/index.json"):
        for item in json.loads(index.read_text())["items"]:
            found[index.parts[-5:-3], item["key"]] = index.stat().st_mtime
    return found


def kill_a_job(folder, chance, delay):
    """Run the workflow, kill one of its jobs after a while; False if it had ended before."""
    process = subprocess.Popen(
        RUN, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(delay)
    while process.poll() is None and not (running := job_processes(process.pid)):
        time.sleep(0.05)
    killed = process.poll() is None
    if killed:
        os.kill(chance.choice(running), signal.SIGKILL)
    process.wait(timeout=600)
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(KILLS))
def test_a_killed_job_is_continued(undisturbed, tmp_path, attempt):
    _, expected, seconds = undisturbed
    chance = random.Random(attempt)
    delay = chance.uniform(0.05, 0.95) * seconds
    while not kill_a_job(tmp_path, chance, delay):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        delay /= 2
    kept = stored(tmp_path)
    run(tmp_path)
    assert outcome(tmp_path) == expected
    # What had been published is not computed again: its shard is the same file.
    assert {key: stored(tmp_path)[key] for key in kept} == kept
    print(f"attempt {attempt}: killed after {delay:.0f} s of {seconds:.0f}; kept {len(kept)} items")
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_snakemake_itself_killed(undisturbed, tmp_path, attempt):
    _, expected, seconds = undisturbed
    process = subprocess.Popen(
        RUN,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(random.Random(100 + attempt).uniform(0.1, 0.9) * seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(tmp_path, [*SNAKEMAKE, "--unlock"])
    run(tmp_path, [*RUN, "--rerun-incomplete"])
    assert outcome(tmp_path) == expected
    shutil.rmtree(tmp_path)
