"""A SLURM cluster of one node: real daemons with files and ports of their own."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd")
HINT = "apt-get install slurm-wlm munge"
# CPUs, memory and GPUs are claims of the configuration; nothing here enforces them.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
KillWait=5
MinJobAge=3600
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=compute Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=ALL MaxTime=INFINITE State=UP
"""


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _configure(folder):
    """Write the files of a cluster that lives in this folder."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(1024))
    controller, node = _free_ports(2)
    host = socket.gethostname().split(".")[0]
    user = subprocess.check_output(["id", "-un"], text=True).strip()
    text = CONFIG.format(folder=folder, host=host, user=user, controller=controller, node=node)
    (folder / "slurm.conf").write_text(text)
    for number in range(2):
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/gpu[0-1]\n")


def _wrap_srun(folder):
    """Snakemake's plugin takes SLURM_CONF away from the `srun` inside a job; give it back."""
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    return os.pathsep.join([str(srun.parent), os.environ["PATH"]])


def _commands(folder):
    """Daemon to its command; all stay in the foreground, as children of the test."""
    files = ("socket", "key-file", "pid-file", "log-file", "seed-file")
    names = ("munge.socket", "munge.key", "munged.pid", "munged.log", "munge.seed")
    own = [f"--{file}={folder / name}" for file, name in zip(files, names, strict=True)]
    return {"munged": ["--foreground", "--force", *own], "slurmctld": ["-D"], "slurmd": ["-D"]}


def _ready(env):
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"], env=env, capture_output=True, text=True, check=False
    )
    return done.returncode == 0 and set(done.stdout.split()) == {"idle"}


def _wait(running, folder, env):
    """Wait for an idle node; skip the tests, with the daemons' last words, where there is none."""
    until = time.monotonic() + 60
    while time.monotonic() < until and all(each.poll() is None for each in running.values()):
        if _ready(env):
            return
        time.sleep(0.5)
    last = {name: (folder / f"{name}.out").read_text().splitlines()[-1:] for name in running}
    pytest.skip(f"SLURM does not start here: {last}")


def _cancel_all(env):
    """Cancel every job, and wait until the last of their processes has gone."""
    subprocess.run(["scancel", "--me"], env=env, capture_output=True, check=False)
    for _ in range(40):
        line = ["squeue", "--noheader"]
        if not subprocess.run(line, env=env, capture_output=True, text=True, check=False).stdout:
            return
        time.sleep(0.5)


@contextlib.contextmanager
def one_node_cluster(folder: Path):
    """Start a cluster of this machine alone, and stop it at the end.

    Yields:
        The environment in which `sbatch`, `squeue` and `scancel` speak to it.
    """
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    programs = {name: shutil.which(name, path=path) for name in DAEMONS}
    missing = [name for name, program in programs.items() if program is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} on this machine: {HINT}")
    _configure(folder)
    env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": _wrap_srun(folder)}
    running = {}
    try:
        for name, arguments in _commands(folder).items():
            with (folder / f"{name}.out").open("w") as out:
                # Even if the tests are killed, their daemons do not outlive them.
                command = ["setpriv", "--pdeathsig=TERM", programs[name], *arguments]
                running[name] = subprocess.Popen(command, env=env, stdout=out, stderr=out)
            while name == "munged" and not (folder / "munge.socket").exists():
                if running[name].poll() is not None:
                    pytest.skip(f"munged does not start: {(folder / 'munged.out').read_text()}")
                time.sleep(0.1)
        _wait(running, folder, env)
        yield env
    finally:
        _cancel_all(env)
        for process in reversed(running.values()):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
