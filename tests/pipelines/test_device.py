"""Devices: the processor where there is no GPU, one process per GPU where there is one."""

import os
import subprocess
import sys

import pytest
import torch
from concord.cache import ConfigError
from concord.pipelines import device as module
from concord.pipelines.device import held_device


def test_auto_is_the_processor_without_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with held_device("auto") as name:
        assert name == "cpu"


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "cuda:x", "cuda:-1"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(ConfigError, match="expected auto, cpu or cuda:N"), held_device(name):
        pass


HOLDER = """
import sys, tempfile, time
from concord.pipelines import device
tempfile.tempdir = sys.argv[1]
print(device._lock([0, 1])[1], flush=True)
time.sleep(60)
"""


def test_a_lock_belongs_to_one_process_and_dies_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "0\n"
        # GPU 0 is taken, so the first free one is 1.
        handle, number = module._lock([0, 1])
        assert number == 1
        os.close(handle)
        holder.kill()
    handle, number = module._lock([0, 1])
    assert number == 0
    os.close(handle)


@pytest.mark.cuda
def test_a_gpu_is_held():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    with held_device("auto") as name:
        assert name.startswith("cuda:")
        assert torch.zeros(1, device=name).device.type == "cuda"


FAULTS = """
import contextlib, resource, sys, torch
from concord.pipelines.device import prepared_device
with prepared_device("cpu", 1) if sys.argv[1] == "prepared" else contextlib.nullcontext():
    for k in range(100):
        if k == 10:
            begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(1 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone can be told so")
def test_a_worker_keeps_its_memory_though_dask_starts_it_otherwise():
    # As dask's nanny sets it; without it, a hundred tensors of 4 MiB take their pages once.
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    faults = {}
    for how in ("prepared", "plain"):
        command = [sys.executable, "-c", FAULTS, how]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        faults[how] = int(done.stdout)
    assert faults["prepared"] < 2_000
    assert faults["plain"] > 10 * faults["prepared"]
