"""Stores that a stranger forged, seals and digests too: refused by name, or read exactly.

They are read in a forked process of limited memory, which tells what was refused or went wrong.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import multiprocessing
import os
import re
import resource
import subprocess
from pathlib import Path

import numpy as np
import pytest
from concord.cache import ConcordError, FeatureStore, ShardFormat, probe
from concord.cache.export import export
from concord.cache.pins import pin, pins
from concord.cache.repair import repair
from concord.cache.verify import verify

from .damage import NAME, read_item, write
from .hostile import CASES

ADDRESSES, MOST_GROWTH, PATIENCE = 4 << 30, 128 << 20, 30
BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def growth(mark=0):
    """Give the most memory held since it was asked without a mark, less the mark."""
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
    if not mark:
        Path("/proc/self/clear_refs").write_text("5")
    return (int(peak) << 10) - mark


def outside(folder):
    tops = [path for path in folder.iterdir() if path.name not in ("store", "out")]
    paths = [path for top in tops for path in (top, *top.rglob("*"))]
    return {(path, path.lstat().st_mode, path.lstat().st_mtime_ns) for path in paths}


def exported(stream, out):
    for name in ("file.npz", "folder"):
        export(stream, out / name)
    assert all(path.parent in (out, out / "folder") for path in out.rglob("*"))
    assert not any("/.." in name or name[0] == "/" for name in np.load(out / "file.npz").files)


def ways(here, *, mapped):
    """Give every way to read a store; each gives messages of what is refused, or raises them."""
    store = functools.cache(lambda: FeatureStore(here.path, mapped=mapped))
    opened, found = functools.cache(lambda: store()[NAME]), []
    yield lambda: store().streams() and None
    yield lambda: store().manifests() and None
    yield lambda: pins(store()) and None
    yield lambda: opened().recipe and None
    yield lambda: [damage.problem for damage in opened().damages]
    for item in here.all_items[::4]:
        yield lambda item=item: opened().item(item.key).rows[0].any() and None
        yield lambda item=item: opened().item(item.key).check()
        yield lambda item=item: list(read_item(opened(), item).values())
    if mapped:
        yield lambda: exported(opened(), here.path.parent / "out")
    else:
        yield lambda: [found.append(f) or f.problem for f in verify(store())]
        yield lambda: repair(store(), found) and None


def trial(name, here):
    """Do one case; tell how much was refused, and what went wrong."""
    sandbox = here.path.parent
    os.chdir(sandbox)
    CASES[name][1](here)
    before, mark = outside(sandbox), growth()
    refused, faults = [], set()
    for step in itertools.chain(ways(here, mapped=True), ways(here, mapped=False)):
        try:
            refused += step() or []
        except ConcordError as error:
            refused.append(str(error))
        except Exception as error:  # noqa: BLE001 - any other is a fault, to be told
            faults.add(f"{type(error).__name__}: {error!s:.200}")
        if growth(mark) > MOST_GROWTH:
            faults.add(f"took {growth(mark) >> 20} MiB")
            break
    faults |= {f"names no place: {text}" for text in refused if str(sandbox) not in text}
    faults |= {f"control characters: {text!r}" for text in refused if BAD.search(text)}
    faults |= {"changed something outside the store"} if outside(sandbox) != before else set()
    return len(refused), sorted(faults)


def serve(asked):
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESSES, resource.RLIM_INFINITY))
    start, probe.LONGEST_SECONDS = probe._start, 10.0
    while question := asked.recv():
        probe._CHILD.stop() if "library" in question[0] else None
        asked.send(trial(*question))
        if probe._start is not start:
            probe._CHILD.stop()
            probe._start, probe.LONGEST_SECONDS = start, 10.0


@pytest.fixture(scope="module")
def ask():
    """Give a function that has a child do a case: one child for all, until it dies or hangs."""
    running = []

    def ask(*question):
        if not running:
            mine, its = multiprocessing.Pipe()
            child = multiprocessing.get_context("fork").Process(target=serve, args=(its,))
            child.start()
            its.close()
            running[:] = mine, child
        running[0].send(question)
        try:
            return running[0].recv() if running[0].poll(PATIENCE) else stop("hung")
        except EOFError:
            return stop("died")

    def stop(why):
        running.pop().kill()
        running.clear()
        return 0, [why]

    yield ask
    if running:
        running[0].send(None)
        running[1].join()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    def written(kind):
        how = ShardFormat(kind[:4], compressed=kind[4:] != "")
        made = write(tmp_path_factory.mktemp(kind) / "store", how)
        pin(FeatureStore(made.path), "demo", "for a paper")
        return made

    return functools.cache(written)


PARAMETERS = [pytest.param(n, marks=[pytest.mark.slow] * how[3]) for n, how in CASES.items()]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_hostile_store_is_refused_by_name(pristine, ask, tmp_path, name):
    kind, _, harmless, _ = CASES[name]
    (tmp_path / "canary").write_text("alive")
    here = pristine(kind).copy(tmp_path / "store")
    refused, faults = ask(name, dataclasses.replace(here, items=dict(here.items)))
    subprocess.run(["rm", "-rf", here.path], check=True)
    assert faults == []
    assert refused or harmless, "silently accepted"
