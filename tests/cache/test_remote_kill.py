"""Commands that are killed, cut off, or race: a remote is always whole, and so is the local store.

The real command runs in a process of its own, through a gate that slows it and can be cut.
"""

from __future__ import annotations

import os
import random
import shutil
import time

import pytest
from concord.cache import FeatureStore, ShardFormat
from concord.cache.verify import verify

from .remotes import ALL, check, command, done, fill
from .servers import Gate, objects

pytestmark = pytest.mark.slow
KILLS = CUTS = RACES = int(os.environ.get("CONCORD_TEST_KILLS", "0"))
"""How often; by default 50 kills, 20 cuts and 20 races."""
SIZE = {"rows": 3000, "dim": 64}
"""0.4 MB an item."""


@pytest.fixture
def gate(moto):
    with Gate(moto) as gate:
        gate.delay = 0.004
        yield gate


@pytest.fixture
def source(tmp_path):
    # A file a shard, so that most of a command's time is spent on rows.
    return fill(tmp_path / "source", per_shard=3, how=ShardFormat("hdf5"), **SIZE)


def at_random(chance, gate, most, process):
    """Wait until a random number of bytes has passed the gate, or a command has ended."""
    target = gate.moved + chance.randrange(most)
    while gate.moved < target and process.poll() is None:
        time.sleep(0.001)


def killed_at_random(chance, gate, most, process):
    """Kill a command at a random moment; say whether it had not ended by itself."""
    at_random(chance, gate, most, process)
    process.kill()
    process.communicate()
    return process.returncode == -9


def traffic(gate, process):
    """Give the bytes that a whole command moves."""
    before = gate.moved
    done(process)
    return gate.moved - before


def through(gate):
    return {"AWS_ENDPOINT_URL": gate.address}


def test_a_killed_push_never_shows_what_is_not_whole(source, s3, moto, gate):
    kills = KILLS or 50
    chance, killed, partial, fresh, before = random.Random(kills), 0, 0, 0, set()
    arguments = ("push", "{}", "--without-licence", "--store", source.path, "--json")

    def start(url):
        return command(*(a if a != "{}" else url for a in arguments), environment=through(gate))

    most = traffic(gate, start(f"{s3}-whole"))
    remote = f"{s3}-0"
    while killed < kills:
        killed += killed_at_random(chance, gate, most, start(remote))
        found = check(remote, **SIZE)
        assert before <= found
        before = found
        partial += not found and bool(objects(moto, remote))
        if found == set(ALL):
            fresh += 1
            remote, before = f"{s3}-{fresh}", set()
    done(start(remote))
    assert check(remote, **SIZE) == set(ALL)
    print(f"\n{killed} kills, {partial} of them with objects there that nothing lists")
    assert partial


def test_a_killed_pull_leaves_whole_items_only(source, s3, gate, tmp_path):
    kills = KILLS or 50
    done(command("push", s3, "--without-licence", "--store", source.path, "--json"))
    chance, killed, partial, fresh = random.Random(kills), 0, 0, 0

    def start(path):
        return command("pull", s3, "--store", path, "--json", environment=through(gate))

    most = traffic(gate, start(tmp_path / "whole"))
    path = tmp_path / "0"
    left = set()
    while killed < kills:
        killed += killed_at_random(chance, gate, most, start(path))
        found = check(path, **SIZE)
        if path.exists():
            left, before = set(path.rglob(".tmp-*")), left
            partial += bool(left - before)
            assert FeatureStore(path).streams() == () or verify(FeatureStore(path)) == []
        if found == set(ALL):
            shutil.rmtree(path)
            fresh += 1
            path = tmp_path / str(fresh)
    done(start(path))
    assert check(path, **SIZE) == set(ALL)
    print(f"\n{killed} kills, {partial} of them with half a shard under a temporary name")
    assert partial


def test_a_server_that_is_cut_off_is_asked_again(source, s3, gate, tmp_path):
    cuts = CUTS or 20
    chance, cut, rounds = random.Random(cuts), 0, 0
    whole = ("push", f"{s3}-whole", "--without-licence", "--store", source.path)
    most = traffic(gate, command(*whole, environment=through(gate)))
    while cut < cuts:
        rounds += 1
        remote, path = f"{s3}-{rounds}", tmp_path / f"pulled{rounds}"
        for arguments in (
            ("push", remote, "--without-licence", "--store", source.path, "--json"),
            ("pull", remote, "--store", path, "--json"),
        ):
            process = command(*arguments, environment=through(gate))
            for _ in range(2):
                at_random(chance, gate, most // 2, process)
                if process.poll() is None:
                    gate.cut(0.2)
                    cut += 1
            done(process)
        assert check(remote, **SIZE) == check(path, **SIZE) == set(ALL)
    print(f"\n{cut} cuts in {rounds} rounds of push and pull")


@pytest.mark.parametrize("s3", ["moto", "swift"], indirect=True)
def test_two_pushers_at_once_both_succeed(s3, tmp_path):
    how = ShardFormat("hdf5")
    stores = [fill(tmp_path / f"s{k}", ALL[k : 9 + k], per_shard=3, how=how) for k in range(2)]
    for race in range(RACES or 20):
        remote = f"{s3}-{race}"
        pushing = [
            command("push", remote, "--without-licence", "--store", store.path, "--json")
            for store in stores
        ]
        for process in pushing:
            done(process)
        assert check(remote) == set(ALL[:10])
        path = tmp_path / f"pulled{race}"
        done(command("pull", remote, "--store", path, "--json"))
        assert check(path) == set(ALL[:10])
        shutil.rmtree(path)
