from __future__ import annotations

import numpy as np
import pytest
from concord.cache import FeatureStore, NewItem, ShardFormat, probe

from . import collecting, damage, servers


def new_item(key, track="t", rows=5, dim=3, dtype="float16", seed=0):
    """An item whose every value follows from its arguments."""
    random = np.random.default_rng(seed)
    return NewItem(
        key=key,
        track=track,
        rows=random.standard_normal((rows, dim)).astype(dtype),
        valid=random.random(rows) < 0.8,
        times=np.arange(rows) / 25 + seed,
        flags=(random.random(rows) < 0.2).astype(np.uint8),
    )


@pytest.fixture(scope="session")
def item():
    return new_item


@pytest.fixture
def store(tmp_path):
    return FeatureStore.create(tmp_path / "store")


@pytest.fixture
def streams(store):
    """Streams of the names that collecting is tested with."""
    return [store.create_stream(name, {"v": 1}) for name in collecting.NAMES]


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    """A store of each kind, not to be changed."""
    folder = tmp_path_factory.mktemp("stores")
    kinds = enumerate(damage.KINDS)
    return {kind: damage.write(folder / f"{k}", ShardFormat(*kind)) for k, kind in kinds}


@pytest.fixture
def written(stores, tmp_path):
    """Give a test's own copy of a store."""
    return lambda name="zarr", compressed=False: stores[name, compressed].copy(tmp_path / "own")


@pytest.fixture
def patience(monkeypatch):
    """Wait ten seconds, not minutes, for a library that hangs over a damaged file."""
    monkeypatch.setattr(probe, "LONGEST_SECONDS", 10.0)


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    """The address of an S3 server in memory."""
    with servers.moto(tmp_path_factory.mktemp("moto")) as address:
        yield address


@pytest.fixture(scope="session")
def swift(tmp_path_factory):
    """The address of an S3 server whose writes on condition are none."""
    with servers.swift(tmp_path_factory.mktemp("swift")) as address:
        yield address


@pytest.fixture
def s3(request, monkeypatch):
    """Give a new remote's URL, at the server that a test names (moto by default), and its client.

    The environment tells this process and its children where the server is, as a user would.
    """
    address = request.getfixturevalue(getattr(request, "param", "moto"))
    return servers.new_bucket(address, monkeypatch)
