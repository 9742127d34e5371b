"""`concord extract run --dask`: what the plain command does, and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from concord.cache import FeatureStore
from concord.pipelines.demo_media import encode_mp4, publish_file

SOURCES, ROWS = 30, 40
LABELS = "VA_Set/Train_Set"
SETTINGS = {"weights": "seeded", "resize": 48, "crop": 48, "dtype": "float32"}
CONFIG = {
    "data": {"adapter": "affwild2", "path": "data", "name": "set"},
    "streams": {"visual/resnet18": SETTINGS},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of short films."""
    folder = tmp_path_factory.mktemp("dask")
    for k in range(SOURCES):
        noise = np.random.default_rng(k).integers(0, 256, (ROWS, 64, 64, 3), np.uint8)
        film = encode_mp4(noise, Fraction(10), np.zeros(4 * 44_100, np.float32), 0.0)
        publish_file(folder / "data/batch1" / f"v{k}.mp4", film)
        rows = "".join(f"{k / SOURCES},{row / ROWS}\n" for row in range(ROWS))
        publish_file(folder / "data" / LABELS / f"v{k}.txt", f"valence,arousal\n{rows}".encode())
    return folder


def command(name, *options):
    words = [sys.executable, "-m", "concord.pipelines", "extract", "run"]
    words += ["--config", json.dumps(CONFIG), "--device", "cpu", "--store", name]
    return [*words, "--receipt", f"{name}.json", *options]


def begin(folder, name, *options, mark=""):
    """Start the command in a group of its own; all that it starts carries a mark."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CONCORD_TEST_MARK": mark}
    return subprocess.Popen(
        command(name, *options),
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def items(path):
    return {
        (stream.full_name, key): np.asarray(item.rows).tobytes()
        for stream in FeatureStore(path).streams()
        for key, item in stream.items.items()
    }


@pytest.fixture(scope="module")
def plain(folder):
    process = begin(folder, "plain", "--threads=1")
    assert process.wait(timeout=600) == 0, process.stderr.read()
    process.stderr.close()
    return (folder / "plain.json").read_bytes(), items(folder / "plain")


def marked(mark):
    """Processes that live and carry a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            known = entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes()
            if known and "\nState:\tZ" not in (entry / "status").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def check_gone(mark):
    end = time.monotonic() + 30
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left, [Path(f"/proc/{number}/cmdline").read_bytes() for number in left]


def wait_for_shard(process, folder, name):
    """Wait until the first features are published."""
    end = time.monotonic() + 300
    while not list((folder / name).glob("streams/visual/*/shards/*/seal.json")):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def interrupted(folder, name, how):
    """Start the command, and send a signal to it (or its group) when the first shard is there."""
    mark = uuid.uuid4().hex
    process = begin(folder, name, "--dask", "local:2", "--threads=2", mark=mark)
    wait_for_shard(process, folder, name)
    assert len(marked(mark)) > 3
    how(process.pid)
    _, told = process.communicate(timeout=120)
    check_gone(mark)
    return process.returncode, told


def check_whole(folder, name, plain):
    """What is there is right; the same command completes it."""
    receipt, expected = plain
    assert items(folder / name).items() <= expected.items()
    mark = uuid.uuid4().hex
    process = begin(folder, name, "--dask", "local:2", "--threads=2", mark=mark)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    check_gone(mark)
    assert (folder / f"{name}.json").read_bytes() == receipt
    assert items(folder / name) == expected


@pytest.mark.slow
def test_ctrl_c_ends_all_and_the_same_command_goes_on(folder, plain):
    code, told = interrupted(folder, "stopped", lambda pid: os.killpg(pid, signal.SIGINT))
    assert code == 130
    assert "stopped; everything finished so far is kept" in told
    assert "Traceback" not in told
    check_whole(folder, "stopped", plain)


@pytest.mark.slow
def test_workers_end_with_a_command_that_is_killed(folder, plain):
    code, _ = interrupted(folder, "killed", lambda pid: os.kill(pid, signal.SIGKILL))
    assert code == -signal.SIGKILL
    check_whole(folder, "killed", plain)


@pytest.mark.slow
def test_an_existing_cluster(folder, plain):
    """A scheduler and two workers that offer a GPU, started as a person would."""
    dask = [sys.executable, "-m", "dask"]
    address, scheduler = "tcp://127.0.0.1:8798", ["scheduler", "--host=127.0.0.1", "--port=8798"]
    worker = ["worker", address, "--nthreads=1", "--resources=GPU=1", "--memory-limit=0"]
    orders = [[*scheduler, "--no-dashboard"], *[[*worker, "--no-dashboard"]] * 2]
    running = [subprocess.Popen([*dask, *order], cwd=folder / "data") for order in orders]
    try:
        process = begin(folder, "existing", "--dask", address)
        _, told = process.communicate(timeout=600)
        assert process.returncode == 0, told
        again = begin(folder, "existing", "--dask", address, "--device=auto")
        _, told = again.communicate(timeout=600)
        assert again.returncode == 0, told
    finally:
        for each in reversed(running):
            each.terminate()
            each.wait(timeout=60)
    assert (folder / "existing.json").read_bytes() == plain[0]
    assert items(folder / "existing") == plain[1]


@pytest.mark.parametrize("address", ["local:0", "elsewhere"])
def test_no_such_cluster(folder, address):
    process = begin(folder, "none", "--dask", address)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert f"cluster '{address}'" in told
    assert "Traceback" not in told
