"""A repair that is killed at any step loses nothing and can be run again."""

from __future__ import annotations

import subprocess
import sys

import pytest
from concord.cache import FeatureStore

from .damage import (
    FORMATS,
    NAME,
    flip,
    put,
    read_item,
)
from .repairing import NUMBERS, check, damage_first_chunk, moved_out, repaired, tree

pytestmark = pytest.mark.usefixtures("patience")


# Imports once, then forks one child per line; it kills itself before the given step.
REPAIRER = """
import os, signal, sys
import h5py, zarr.codecs
from concord.cache import FeatureStore
from concord.cache.repair import repair
from concord.cache.verify import verify

STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "shutil.rmtree"}

def repair_until(path, last):
    store = FeatureStore(path)
    findings = verify(store)
    done = 0
    def count(event, arguments):
        nonlocal done
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in STEPS:
            done += 1
            if done == last:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    repair(store, findings)

for line in sys.stdin:
    last, path = line.rstrip("\\n").split(" ", 1)
    child = os.fork()
    if not child:
        try:
            repair_until(path, int(last))
            os._exit(0)
        finally:
            os._exit(1)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Repairer:
    def __init__(self):
        command = [sys.executable, "-c", REPAIRER]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def repair(self, path, last):
        """Repair up to a step; True if there were fewer."""
        self._process.stdin.write(f"{last} {path}\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        assert status in (0, 9)
        return status == 0

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def repairer():
    repairer = Repairer()
    yield repairer
    repairer.close()


STRIDES = [8, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("stride", STRIDES)
def test_killed_while_saving_sound_items(stores, repairer, tmp_path, name, stride):
    """What is sound can be read at every moment."""
    for last in range(1, 1000, stride):
        here = stores[name, False].copy(tmp_path / str(last))
        damage_first_chunk(here, name)
        before = tree(here.shard)
        ended = repairer.repair(here.path, last)
        stream = FeatureStore(here.path)[NAME]
        first, *others = here.all_items
        assert read_item(stream, first, NUMBERS)
        for item in others:
            assert read_item(stream, item, NUMBERS) == {}
        kept = here.shard if here.shard.exists() else moved_out(here)
        assert tree(kept) == before
        repaired(here)
        check(here, {first.key})
        if ended:
            break
    assert last > 10


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("stride", STRIDES)
def test_killed_while_replacing_a_shard(stores, repairer, tmp_path, name, stride):
    """Between two renames the items are absent, and what is damaged is not lost."""
    absent = 0
    for last in range(1, 1000, stride):
        here = stores[name, False].copy(tmp_path / str(last))
        flip(here.shard / "provenance.json", 20)
        before = tree(here.shard)
        ended = repairer.repair(here.path, last)
        kept = [path for path in (here.shard, moved_out(here)) if path.exists()]
        assert before in map(tree, kept)
        stream = FeatureStore(here.path)[NAME]
        gone = {item.key for item in here.all_items if item.key not in stream.items}
        assert gone in (set(), here.keys("a"))
        absent += bool(gone)
        for item in here.all_items:
            if item.key not in gone:
                assert read_item(stream, item, NUMBERS) == {}
        repaired(here)
        check(here, gone)
        if ended:
            break
    assert last > 10
    assert stride > 1 or absent


@pytest.mark.parametrize("stride", STRIDES)
def test_killed_while_writing_a_recipe(stores, repairer, tmp_path, stride):
    for last in range(1, 1000, stride):
        here = stores["zarr", False].copy(tmp_path / str(last))
        content = here.recipe.read_bytes()
        put(here.recipe, b"{}")
        ended = repairer.repair(here.path, last)
        assert here.recipe.read_bytes() in (b"{}", content)
        repaired(here)
        check(here, set())
        assert here.recipe.read_bytes() == content
        if ended:
            break


CUT_SHORT = """
import resource, sys
from concord.cache import FeatureStore
from concord.cache.repair import repair
from concord.cache.verify import verify

resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
store = FeatureStore(sys.argv[1])
try:
    repair(store, verify(store))
except OSError:
    print("failed")
"""


def test_a_write_that_fails_changes_nothing(written):
    here = written()
    damage_first_chunk(here, "zarr")
    before = tree(here.path)
    command = [sys.executable, "-c", CUT_SHORT, str(here.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "failed\n"
    assert tree(here.path) == before
