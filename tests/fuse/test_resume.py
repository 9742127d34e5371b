"""A run that is killed and continued gives the very weights of one that was not."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from concord.fuse.checkpoint import Checkpoint
from concord.fuse.run import Run
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings
from concord.fuse.training import Steps, train

from .conftest import STREAMS, planted, write_store

PROGRAM = """
import sys
from pathlib import Path
import torch
from concord.cache import FeatureStore
from concord.fuse.grid import Grid
from concord.fuse.settings import *
from concord.fuse.training import Steps

torch.set_num_threads(1)
store, runs, marks, head, seeds = sys.argv[1:]
store = FeatureStore(store)
manifest = store.manifests()[0]
training = TrainingSettings(
    epochs=6, patience=3, batch=4, lr=5e-3, schedule="cosine", warmup=1,
    seeds=tuple(range(int(seeds))),
)
experiment = ExperimentSettings(
    head=head, streams=("visual/x", "audio/x"), width=8, hidden=16, dropout=0.2, k=4,
    window=WindowSettings(length=16, hop=8), training=training,
)
take = Steps.take

def marked(self, state):
    with open(marks, "a") as file:
        file.write(f"{state.step}\\n")
    take(self, state)

Steps.take = marked
settings = FuseSettings(experiments=(experiment,))
grid = Grid(store, manifest, settings, Path(runs), checkpoint_seconds=0)
grid.train(lambda *told: None, lambda text: None)
print("finished", flush=True)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "store"
    write_store(folder, [planted(seed=1), planted(tracks=3, seed=2, split="val")])
    return folder


def start(store, runs, marks, head, seeds):
    command = [sys.executable, "-c", PROGRAM, store, runs, marks, head, str(seeds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([str(part) for part in command], env=environment)


def steps_of(marks):
    return len(marks.read_text().splitlines()) if marks.exists() else 0


def contents(runs):
    return {
        (path.parent.name, path.name): path.read_bytes()
        for path in runs.glob("*/*")
        if not path.parent.name.startswith(".") and path.name != "run.json"
    }


def killed_and_continued(store, folder, head, seeds, kills, total, seed):
    """Kill at random steps until the work is done; gives the steps at which it was killed."""
    runs, marks = folder / "runs", folder / "marks"
    random_ = random.Random(seed)
    at = sorted(random_.sample(range(1, total), kills))
    done = []
    while True:
        process = start(store, runs, marks, head, seeds)
        while process.poll() is None:
            if at and steps_of(marks) >= at[0] + len(done):
                process.send_signal(signal.SIGKILL)
                process.wait()
                done.append(at.pop(0))
            time.sleep(0.002)
        if process.returncode == 0:
            return contents(runs), done
        assert process.returncode == -signal.SIGKILL


def undisturbed(store, folder, head, seeds):
    process = start(store, folder / "whole", folder / "whole-marks", head, seeds)
    assert process.wait() == 0
    return contents(folder / "whole"), steps_of(folder / "whole-marks")


@pytest.mark.parametrize(
    ("head", "seeds", "kills"),
    [
        ("jca", 1, 2),
        pytest.param("jca", 1, 10, marks=pytest.mark.slow),
        pytest.param("rjcma", 3, 10, marks=pytest.mark.slow),
        pytest.param("concat", 4, 10, marks=pytest.mark.slow),
    ],
)
def test_killed_runs_end_bit_for_bit_the_same(store, tmp_path, head, seeds, kills):
    expected, total = undisturbed(store, tmp_path, head, seeds)
    found, done = killed_and_continued(store, tmp_path, head, seeds, kills, total, seed=kills)
    print(f"{head}, {seeds} seeds: killed at steps {done} of {total}")
    assert len(done) == kills
    assert len(expected) == 4 * seeds
    assert found.keys() == expected.keys()
    assert found == expected
    assert not list((tmp_path / "runs" / ".training").glob("[!.]*.safetensors"))


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("head", ["concat", "rjcma:code"])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("stop", [1, 11, 12, 13, 30])
def test_any_step_can_be_the_last_before_a_checkpoint(
    problem, tmp_path, monkeypatch, head, seeds, stop
):
    """In process, at chosen steps: within an epoch, at its end, and where members have stopped."""
    if head != "concat" and seeds > 1:
        pytest.skip("it is trained one by one")

    def runs():
        training = TrainingSettings(epochs=5, patience=1, batch=4, lr=5e-2)
        settings = ExperimentSettings(
            head=head,
            streams=STREAMS,
            width=8,
            hidden=16,
            dropout=0.2,
            window=WindowSettings(length=16, hop=8),
            training=training,
        )
        return [Run(settings, seed) for seed in range(seeds)]

    expected = {run.seed: run for run in train(problem, runs())}
    take, count = Steps.take, 0

    def broken(self, state):
        nonlocal count
        if count == stop:
            raise StopHereError
        count += 1
        take(self, state)

    monkeypatch.setattr(Steps, "take", broken)
    found = {}
    path = tmp_path / "x.safetensors"
    with contextlib.suppress(StopHereError):
        for run in train(problem, runs(), Checkpoint(path, ["a"], 0)):
            found[run.seed] = run
    monkeypatch.setattr(Steps, "take", take)
    left = train(problem, runs(), Checkpoint(path, ["a"], 0))
    found |= {run.seed: run for run in left}
    assert found.keys() == expected.keys()
    for seed, run in found.items():
        assert run.curve == expected[seed].curve
        for which in ("best", "last"):
            theirs = getattr(expected[seed], which)
            assert all(torch.equal(x, theirs[name]) for name, x in getattr(run, which).items())
        assert torch.equal(run.predictions, expected[seed].predictions)


def test_a_checkpoint_is_found_by_what_it_holds(tmp_path):
    from safetensors.torch import save_file

    for name, members in (("one", ["a"]), ("three", ["a", "b", "c"])):
        told = {"members": json.dumps(members)}
        save_file({"x": torch.zeros(1)}, tmp_path / f"{name}.safetensors", told)

    def holding(missing, group):
        found = Checkpoint.holding(tmp_path, missing, group, 1.0)
        return found and found.members

    assert holding(["b"], ["a", "b", "c", "d"]) == ("a", "b", "c")
    assert holding(["a"], ["a", "b"]) == ("a",)
    assert holding(["d"], ["a", "b", "c", "d"]) is None
    assert holding(["b"], ["b", "c"]) is None
    assert Checkpoint.holding(tmp_path / "none", ["a"], ["a"], 1.0) is None


def test_what_is_no_checkpoint_is_passed_over(tmp_path):
    (tmp_path / ".tmp-123-a.safetensors").write_bytes(b"half")
    (tmp_path / "b.safetensors").write_bytes(b"no checkpoint")
    assert Checkpoint.holding(tmp_path, ["a"], ["a"], 1.0) is None


def test_old_leftovers_of_killed_writes_are_deleted(tmp_path):
    names = (".tmp-1-a.safetensors", ".tmp-2-b.safetensors", "c.safetensors")
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    for name in names[1:]:
        os.utime(tmp_path / name, (0, 0))
    Checkpoint.tidy(tmp_path)
    Checkpoint.tidy(tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[0], names[2]]
