from __future__ import annotations

import numpy as np
import pytest
from concord.cache import FeatureStore, NewItem


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
