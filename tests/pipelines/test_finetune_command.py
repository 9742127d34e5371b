"""`concord extract finetune`: killed at any moment, it goes on as if nothing had been."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from concord.cache import ConfigError
from concord.extract.finetune_settings import FinetuneSettings
from concord.extract.training_record import training_record
from concord.pipelines.cli import cli
from safetensors.torch import load_file

from ..extract.tuning import make

TESTS = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "concord.pipelines", "extract", "finetune"]
STREAM = "visual/small"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set, and a configuration whose backbone is a class of one's own."""
    folder = tmp_path_factory.mktemp("finetune")
    make(folder / "data")
    stream = {"backbone": "tuning:Small", "weights": "seeded:1", "reads": "faces"}
    data = {"adapter": "affwild2", "path": str(folder / "data"), "name": "made"}
    (folder / "my.json").write_text(json.dumps({"data": data, "streams": {STREAM: stream}}))
    return folder


def words(folder, out, *more):
    fixed = ["--stream", STREAM, "--config", str(folder / "my.json"), "--out", str(out)]
    quick = ["--epochs", "4", "--patience", "9", "--batch", "8", "--device", "cpu"]
    return [*fixed, *quick, "--threads", "1", *more]


def start(folder, out, *more):
    own = {**os.environ, "PYTHONPATH": str(TESTS / "extract"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *words(folder, out, *more)],
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    told, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return told, errors


@pytest.fixture(scope="module")
def undisturbed(folder):
    out = folder / "undisturbed.safetensors"
    told, errors = finished(start(folder, out))
    assert "CCC on 1 validation tracks: valence" in told
    assert "finetune visual/small: 36/36" in errors
    return out


def wait_for_writes(path, count, process):
    """Wait until a file has been written anew so many times."""
    seen: set[int] = set()
    until = time.monotonic() + 150
    while len(seen) < count and time.monotonic() < until and process.poll() is None:
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()
    assert len(seen) == count


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_training_goes_on_bit_for_bit(folder, undisturbed, how):
    out = folder / f"stopped{int(how)}.safetensors"
    checkpoint = folder / f"stopped{int(how)}.checkpoint.safetensors"
    rng = random.Random()
    process = start(folder, out, "--checkpoint-seconds", "0")
    wait_for_writes(checkpoint, rng.randint(1, 20), process)
    time.sleep(rng.uniform(0, 0.05))
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130)
    assert checkpoint.exists()
    assert not out.exists()
    _, errors = finished(start(folder, out))
    assert "goes on in epoch" in errors
    assert out.read_bytes() == undisturbed.read_bytes()
    curves = [
        [{**json.loads(line), "seconds": 0} for line in path.with_suffix(".jsonl").open()]
        for path in (out, undisturbed)
    ]
    assert curves[0] == curves[1]
    assert not checkpoint.exists()


@pytest.mark.slow
def test_a_checkpoint_of_another_training_is_refused(folder, undisturbed):
    out = folder / "other.safetensors"
    process = start(folder, out, "--checkpoint-seconds", "0")
    wait_for_writes(folder / "other.checkpoint.safetensors", 1, process)
    process.kill()
    process.communicate()
    process = start(folder, out, "--seed", "3")
    assert (
        "is the checkpoint of another training, which differs in settings"
        in (process.communicate(timeout=100)[1])
    )
    assert process.returncode == ConfigError.exit_code


def test_the_record_names_settings_and_tracks(undisturbed):
    record = training_record(undisturbed)
    assert record is not None
    assert record.dataset == "made"
    assert record.settings["epochs"] == 4
    assert record.stream_settings["reads"] == "faces"
    assert record.seen == frozenset("abcd")
    assert set(load_file(undisturbed)) > {"fc.weight", "fc.bias", "low.0.weight"}


def test_every_setting_is_an_option_and_help_is_light():
    shown = CliRunner().invoke(cli, ["extract", "finetune", "--help"]).stdout
    for field in dataclasses.fields(FinetuneSettings):
        assert f"--{field.name.replace('_', '-')}" in shown
    code = (
        "import sys; from concord.pipelines.cli import cli; "
        "cli.main(['extract', 'finetune', '--help'], standalone_mode=False); "
        "assert not {'torch', 'av', 'numpy'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--stream", "text/bert"], "expected visual/… or audio/…"),
        (["--stream", "visual/r3d18"], "stream 'visual/r3d18' is not configured"),
        (["--set", "reeds=faces"], "unknown key; did you mean 'reads'"),
        (["--init", "kinetics400"], "torchvision has no such weights"),
        (
            ["--init", "gone.pt", "--set", "backbone=resnet18", "--stream", "visual/resnet18"],
            "conf",
        ),
        (["--jitter", "3"], "jitter: expected at most 1"),
    ],
)
def test_what_cannot_be_is_refused(folder, tmp_path, more, message):
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(
            cli,
            ["extract", "finetune", *words(folder, tmp_path / "x.safetensors", *more)],
            catch_exceptions=False,
        )
    assert not list(tmp_path.iterdir())
