"""Collecting small shards that larger ones hold, and what happens meanwhile."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from concord.cache import NotInStoreError, StoreError
from concord.cache.pins import pin

from .collecting import aged, going, plan, publish, table

pytestmark = pytest.mark.usefixtures("streams")


class TestCopies:
    """Shards all items of which lie in larger shards."""

    @pytest.fixture
    def merged(self, streams, item):
        """Four items in shards of two, and all of them in one."""
        items = [item(f"k{k}", f"t{k}", seed=k) for k in range(4)]
        small = [publish(streams[0], *items[:2]), publish(streams[0], *items[2:])]
        return small, publish(streams[0], *items)

    def test_they_go_when_the_larger_shard_is_old_too(self, store, streams, merged):
        small, large = merged
        for path in small:
            aged(path, 9)
        collection = plan(store, *streams)
        assert not collection.removals
        assert {each.path for each in collection.waiting} == set(small)
        aged(large, 2)
        collection = plan(store, *streams)
        assert {each.path for each in collection.removals} == set(small)
        assert {each.covers for each in collection.removals} == {(large,)}
        assert len(collection.delete().removed) == 2
        (shard,) = store["visual/x"].shards
        assert shard.path == str(large)
        for stored in store["visual/x"].items.values():
            stored.check()

    def test_one_more_item_or_another_checksum_keeps_them(self, store, streams, item):
        publish(streams[0], *(item(f"k{k}", seed=k) for k in range(4)))
        more = publish(streams[0], item("k0"), item("k5"))
        same = publish(streams[0], item("k1", seed=1))
        other = publish(streams[0], item("k2", seed=7))
        aged(store.path, 9)
        assert going(plan(store, *streams)) == [("copied", same.name)]
        assert {more.name, other.name} == {
            shard.name for shard in store["visual/x"].shards[1:] if shard.name != same.name
        }

    def test_items_may_lie_in_several_larger_shards(self, store, streams, item):
        items = [item(f"k{k}", f"t{k}", seed=k) for k in range(9)]
        for part in (items[:4], items[4:8]):
            publish(streams[0], *part)
        small = publish(streams[0], items[3], items[4])
        aged(store.path, 9)
        (removal,) = plan(store, *streams).removals
        assert (removal.path, len(removal.covers)) == (small, 2)
        assert plan(store, *streams).delete().removed == (removal,)

    @pytest.mark.parametrize("file", ["x/c/0/0", "valid/c/0", "flags/c/0", "times/c/0"])
    def test_they_stay_while_the_larger_copy_is_damaged(self, store, streams, merged, file):
        small, large = merged
        aged(store.path, 9)
        content = bytearray((large / file).read_bytes())
        content[1] ^= 4
        (large / file).write_bytes(content)
        aged(store.path, 9)
        done = plan(store, *streams).delete()
        assert [str(large) in why for _, why in done.kept]
        assert small[0] in {removal.path for removal, _ in done.kept}
        if file != "x/c/0/0":
            assert not done.removed

    def test_they_stay_when_the_larger_one_is_gone_at_the_last_moment(self, store, streams, merged):
        _, large = merged
        aged(store.path, 9)
        collection = plan(store, *streams)
        shutil.rmtree(large)
        done = collection.delete()
        assert not done.removed
        assert len(done.kept) == 2
        assert len(store["visual/x"].items) == 4

    def test_equal_checksums_of_other_bytes_are_found_out(self, store, streams, merged):
        """A small shard's index that has the checksum of what the larger one holds, rewritten."""
        small, large = merged
        as_version_1(small[0])
        as_version_1(small[1], change=b"\1")
        aged(store.path, 9)
        done = plan(store, *streams).delete()
        assert [removal.path for removal in done.removed] == [small[0]]
        ((removal, why),) = done.kept
        assert removal.path == small[1]
        assert "copy of track 't2' differs" in why
        assert large.exists()

    def test_of_two_equal_shards_one_stays(self, store, streams, item):
        items = [item(f"k{k}", seed=k) for k in range(2)]
        publish(streams[0], *items)
        publish(streams[0], *items[::-1])
        aged(store.path, 9)
        assert len(plan(store, *streams).delete().removed) == 1
        assert len(store["visual/x"].items) == 2


def as_version_1(path, change=b""):
    """Rewrite a shard as version 1 had it: no checksum of items; or with other flags, sealed."""
    import hashlib

    if change:
        from google_crc32c import value

        content = change + (path / "flags/c/0").read_bytes()[1:-4]
        (path / "flags/c/0").write_bytes(content + value(content).to_bytes(4, "little"))
    record = json.loads((path / "index.json").read_text())
    kept = ("key", "track", "first", "rows")
    items = [{name: entry[name] for name in kept} | {"sha256": ""} for entry in record["items"]]
    (path / "index.json").write_text(json.dumps({"version": 1, "items": items}))
    files = {}
    for each in sorted(path.rglob("*")):
        if each.is_file() and each.name != "seal.json":
            content = each.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            files[each.relative_to(path).as_posix()] = {"size": len(content), "sha256": digest}
    (path / "seal.json").write_text(json.dumps({"version": 1, "files": files}))
    return path


class TestMeanwhile:
    """What happens between the decision and the deletion."""

    @pytest.fixture
    def collection(self, store, streams, item):
        """A decision to delete a stream and a shard."""
        publish(streams[0], item("k0"))
        publish(streams[0], item("k1"))
        publish(streams[1], item("k0"))
        store.save_manifest(table("demo@one", {"t": {streams[0]: "k0"}}))
        aged(store.path, 9)
        found = plan(store, streams[0], streams[2])
        assert sorted(each.kind for each in found.removals) == ["shard", "stream"]
        return found

    def kept(self, collection):
        done = collection.delete()
        assert len(done.removed) + len(done.kept) == 2
        return [removal.kind for removal, _ in done.kept]

    def test_what_is_pinned_stays(self, store, collection):
        pin(store, "audio/y")
        assert self.kept(collection) == ["stream"]
        assert len(store["audio/y"].items) == 1

    def test_what_is_listed_stays(self, store, streams, collection):
        store.save_manifest(table("demo@two", {"t": {streams[0]: "k1"}}))
        assert self.kept(collection) == ["shard"]
        assert len(store["visual/x"].items) == 2

    def test_what_is_written_to_stays(self, store, streams, item, collection):
        publish(streams[1], item("k1"))
        assert self.kept(collection) == ["stream"]
        assert len(store["audio/y"].items) == 2

    def test_a_pin_during_the_deletion_counts(self, store, collection):
        told = []

        def progress(done, total, text):
            told.append((done, total))
            if text.endswith(Path(collection.removals[1].path).name):
                pin(store, "visual/x")

        assert [each.kind for each in collection.removals] == ["stream", "shard"]
        done = collection.delete(progress)
        assert [removal.kind for removal in done.removed] == ["stream"]
        assert told == [(0, 2), (1, 2), (2, 2)]

    def test_what_somebody_else_has_deleted_is_nothing(self, store, streams, collection):
        assert len(plan(store, streams[0], streams[2]).delete().removed) == 2
        done = collection.delete()
        assert done.removed == ()

    def test_maps_that_are_open_stay_right(self, store, streams, item):
        items = [item(f"k{k}", rows=700, dim=64, seed=k) for k in range(2)]
        publish(streams[1], *items)
        aged(store.path, 9)
        opened = store["audio/y"].items
        views = [opened[each.key].rows[:100] for each in items]
        assert not views[0].flags.owndata
        (removal,) = plan(store, streams[0], streams[2]).delete().removed
        assert not removal.path.exists()
        for view, each in zip(views, items, strict=True):
            assert np.array_equal(view, each.rows[:100])
            # Chunks that were not touched before are checked and read from the open map.
            assert np.array_equal(opened[each.key].rows[:], each.rows)
        with pytest.raises(StoreError, match="file is gone"):
            _ = opened["k0"].valid
        with pytest.raises(NotInStoreError, match="no stream"):
            store["audio/y"]

    def test_what_may_not_be_deleted_is_told(self, collection):
        if os.geteuid() == 0:
            pytest.skip("root may delete anything")
        parent = collection.removals[0].path.parent
        parent.chmod(0o500)
        try:
            with pytest.raises(StoreError, match="cannot be deleted"):
                collection.delete()
        finally:
            parent.chmod(0o700)
