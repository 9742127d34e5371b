"""The publishing rhythm: 16 items, 30 seconds, 96 MiB, and whatever ends the block."""

from __future__ import annotations

import numpy as np
import pytest
from concord.cache import NewItem, StreamWriter
from concord.cache.writer import PUBLISH_BYTES


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def stream(store):
    return store.create_stream("visual/x", {"v": 1})


def held(store):
    """Keys per shard, as a reader who opens the store now sees them."""
    return sorted(sorted(shard.entries) for shard in store["visual/x"].shards)


def test_sixteen_items_are_published(store, stream, item):
    with StreamWriter(store, stream, {}, Clock()) as writer:
        for k in range(40):
            writer.add(item(f"k{k:02}"))
            assert sum(map(len, held(store))) == (k + 1) // 16 * 16
    assert [len(keys) for keys in held(store)] == [16, 16, 8]


def test_half_a_minute_is_published(store, stream, item):
    clock = Clock()
    with StreamWriter(store, stream, {}, clock) as writer:
        clock.now += 29.9
        writer.add(item("k0"))
        assert held(store) == []
        clock.now += 0.1
        writer.add(item("k1"))
        assert held(store) == [["k0", "k1"]]
        clock.now += 29.9
        writer.add(item("k2"))
        assert held(store) == [["k0", "k1"]]
        clock.now += 31
        writer.add(item("k3"))
        assert held(store) == [["k0", "k1"], ["k2", "k3"]]


def test_large_items_are_published(store, stream):
    rows = np.zeros((PUBLISH_BYTES // 8192 + 1, 4096), np.float16)
    big = NewItem(
        key="k",
        track="t",
        rows=rows,
        valid=np.ones(len(rows), np.bool_),
        times=np.zeros(len(rows)),
    )
    with StreamWriter(store, stream, {}, Clock()) as writer:
        writer.add(big)
        assert held(store) == [["k"]]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_is_finished_survives_an_exception(store, stream, item, kind):
    def broken_off():
        with StreamWriter(store, stream, {}) as writer:
            writer.add(item("k0"))
            writer.add(item("k1"))
            raise kind

    with pytest.raises(kind):
        broken_off()
    assert held(store) == [["k0", "k1"]]


def test_nothing_to_publish_is_nothing(store, stream):
    with StreamWriter(store, stream, {}) as writer:
        writer.publish()
    assert not store.shard_folder(stream).exists()


def test_recipe_and_name_go_into_the_provenance(store, stream, item):
    with StreamWriter(store, stream, {"device": "cpu"}) as writer:
        writer.add(item("k0"))
    (shard,) = store["visual/x"].shards
    assert shard.provenance == {"device": "cpu", "recipe": {"v": 1}, "stream": "visual/x"}
