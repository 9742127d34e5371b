"""Collecting: what goes, and what stays whatever else is true."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from concord.cache import FeatureStore, StoreError
from concord.cache.collect import Roots, plan_collection
from concord.cache.pins import pin, unpin

from .collecting import DAY, aged, going, plan, publish, table, tree

pytestmark = pytest.mark.usefixtures("streams")


class TestRules:
    @pytest.mark.parametrize("roots", [Roots(), Roots(streams={f"visual/other@{'0' * 64}"})])
    def test_roots_that_name_nothing_are_refused(self, store, streams, item, roots):
        publish(streams[0], item("k"))
        pin(store, "visual/x")
        aged(store.path, 9)
        with pytest.raises(StoreError, match=r"no run or configuration names anything"):
            plan_collection(store, roots)
        meant = Roots(streams=roots.streams, nothing=True)
        assert {each.name for each in plan_collection(store, meant).removals} == {
            stream.full_name for stream in streams[1:]
        }

    @pytest.mark.parametrize(
        "names",
        [{"streams": {"visual/x"}}, {"streams": {"visual/x@3fa9c1"}}, {"manifests": {"demo"}}],
    )
    def test_a_shortened_root_is_refused(self, names):
        with pytest.raises(StoreError, match="full name"):
            Roots(**names)

    @pytest.mark.parametrize("grace", [-1.0, float("nan"), float("inf")])
    def test_a_grace_is_some_seconds(self, store, streams, grace):
        with pytest.raises(StoreError, match="grace"):
            plan(store, streams[0], grace_seconds=grace)

    def test_streams_that_nothing_names_go(self, store, streams, item):
        for stream in streams:
            publish(stream, item("k"))
        aged(store.path, 2)
        pin(store, "labels/va")
        collection = plan(store, streams[0])
        (removal,) = collection.removals
        path = Path(streams[1].place.path)
        assert (removal.kind, removal.path, removal.name) == ("stream", path, streams[1].full_name)
        sizes = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        assert (removal.bytes, collection.bytes) == (sizes, sizes)
        assert tree(path)
        done = collection.delete()
        assert (done.removed, done.kept, done.bytes) == ((removal,), (), sizes)
        assert [s.name for s in FeatureStore(store.path).streams()] == ["labels/va", "visual/x"]
        assert not list(store.path.rglob(".tmp-*"))

    def test_a_pinned_manifest_keeps_its_items_in_all_streams(self, store, streams, item):
        for stream in streams[:2]:
            for k in range(3):
                publish(stream, item(f"k{k}"))
        store.save_manifest(table("demo@one", {"t": dict.fromkeys(streams[:2], "k1")}))
        aged(store.path, 2)
        pin(store, "demo")
        done = plan(store, manifests={"demo@one"}).delete()
        assert [each.kind for each in done.removed] == ["stream", *4 * ["shard"]]
        assert {s.name: list(s.items) for s in store.streams()} == {
            "visual/x": ["k1"],
            "audio/y": ["k1"],
        }

    def test_a_pinned_stream_keeps_all_items(self, store, streams, item):
        for k in range(3):
            publish(streams[0], item(f"k{k}"))
        store.save_manifest(table("demo@one", {"t": {streams[0]: "k1"}}))
        aged(store.path, 2)
        pin(store, "visual/x")
        assert not plan(store, *streams).removals
        unpin(store, "visual/x")
        assert len(plan(store, *streams).removals) == 2

    def test_a_shard_with_one_wanted_item_stays_whole(self, store, streams, item):
        wanted = publish(streams[0], *(item(f"k{k}") for k in range(3)))
        other = publish(streams[0], item("k3"))
        store.save_manifest(table("demo@one", {"t": {streams[0]: "k1"}}))
        aged(store.path, 2)
        assert going(plan(store, *streams)) == [("shard", other.name)]
        assert wanted.name != other.name

    def test_an_extraction_that_no_manifest_lists_stays(self, store, streams, item):
        publish(streams[0], item("k"))
        store.save_manifest(table("demo@one", {"t": {streams[1]: "k"}}))
        aged(store.path, 99)
        assert not plan(store, *streams).removals

    def test_an_extraction_that_goes_on_keeps_what_it_wrote_long_ago(self, store, streams, item):
        store.save_manifest(table("demo@one", {"t": {streams[0]: "k0"}}))
        first = [publish(streams[0], item(f"k{k}")) for k in range(3)]
        aged(store.path, 3)
        last = publish(streams[0], item("k3"))
        collection = plan(store, *streams)
        assert not collection.removals
        unlisted = {path.name for path in [*first[1:], last]}
        assert {each.path.name for each in collection.waiting} == unlisted
        aged(last, 2)
        assert {name for _, name in going(plan(store, *streams))} == unlisted

    def test_the_newest_edition_stays_and_what_is_pinned_or_named(self, store, streams):
        for age, name in enumerate(("a@one", "a@two", "a@six", "a@ten", "b@one", "c@one", "c@two")):
            aged(store.save_manifest(table(name, {})), 30 - age)
        pin(store, "a@one")
        collection = plan(store, *streams, manifests={"a@two"})
        assert going(collection) == [("manifest", "a@six.json"), ("manifest", "c@one.json")]
        collection.delete()
        left = ["a@one", "a@ten", "a@two", "b@one", "c@two"]
        assert [manifest.name for manifest in store.manifests()] == left

    def test_what_is_young_stays_whatever_it_is(self, store, streams, item):
        (store.path / "damaged" / "visual-x@1").mkdir(parents=True)
        (store.path / "streams" / ".tmp-1").mkdir()
        (store.path / "manifests").mkdir()
        (store.path / "manifests" / ".tmp-2").write_text("half")
        store.save_manifest(table("demo@one", {"t": {streams[0]: "k1"}}))
        publish(streams[0], item("k0"))
        publish(streams[0], item("k1"))
        publish(streams[0], item("k0"), item("k1"))
        publish(streams[1], item("k1"))
        aged(store.save_manifest(table("demo@two", {"t": {streams[0]: "k1"}})), 0.001)
        at = time.time()
        kinds = ["copied", "damaged", "leftover", "leftover", "manifest", "shard", "stream"]
        for seconds, old in ((DAY - 99, False), (DAY + 9, True), (-99 * DAY, False)):
            collection = plan(store, streams[0], streams[2], now=at + seconds)
            assert bool(collection.removals) is old
            assert bool(collection.waiting) is not old
            found = collection.removals + collection.waiting
            assert sorted(each.kind for each in found) == kinds

    def test_a_young_manifest_keeps_what_it_lists(self, store, streams, item):
        publish(streams[0], item("k0"))
        publish(streams[0], item("k1"))
        aged(store.path, 9)
        store.save_manifest(table("demo@one", {"t": {streams[0]: "k0"}}))
        store.save_manifest(table("demo@two", {"t": {streams[0]: "k1"}}))
        aged(store.path / "manifests" / "demo@one.json", 0.5)
        collection = plan(store, *streams)
        assert not collection.removals
        assert [each.path.name for each in collection.waiting] == ["demo@one.json"]
        aged(store.path / "manifests" / "demo@one.json", 1.5)
        assert [kind for kind, _ in going(plan(store, *streams))] == ["manifest", "shard"]

    def test_leftovers_and_damaged_folders_go(self, store, streams, item):
        publish(streams[0], item("k"))
        paths = [
            ".tmp-a/x/c/0/0",
            "manifests/.tmp-b",
            "inputs/ab/.tmp-c",
            "streams/visual/.tmp-d/shards/s/x",
            f"streams/audio/{Path(streams[1].place.path).name}/shards/.tmp-e/.tmp-f",
            "damaged/visual-x@3fa9c1/shard/x/c/0/0",
            "damaged/manifests/demo@one.json",
        ]
        for path in paths:
            (store.path / path).parent.mkdir(parents=True, exist_ok=True)
            (store.path / path).write_bytes(bytes(100))
        aged(store.path, 2)
        (store.path / "damaged" / "manifests").touch()
        before = tree(store.path / "streams" / "visual" / Path(streams[0].place.path).name)
        collection = plan(store, *streams)
        assert collection.bytes == 600
        assert going(collection) == [
            ("damaged", "visual-x@3fa9c1"),
            *[("leftover", f".tmp-{letter}") for letter in "abcde"],
        ]
        collection.delete()
        assert not list(store.path.rglob(".tmp-*"))
        assert [path.name for path in (store.path / "damaged").iterdir()] == ["manifests"]
        assert tree(Path(streams[0].place.path)) == before

    def test_a_leftover_of_which_one_file_is_young_stays(self, store, streams):
        writing = store.path / "streams" / ".tmp-a"
        (writing / "x" / "c" / "0").mkdir(parents=True)
        (writing / "x" / "c" / "0" / "0").write_bytes(b"")
        aged(store.path, 9)
        assert len(plan(store, *streams).removals) == 1
        (writing / "x" / "c" / "0" / "0").write_bytes(b"1")
        assert not plan(store, *streams).removals

    def test_no_link_is_followed(self, store, streams, tmp_path):
        outside = tmp_path / "outside"
        (outside / ".tmp-theirs").mkdir(parents=True)
        (outside / "file").write_text("theirs")
        (store.path / "streams" / ".tmp-link").symlink_to(outside)
        (store.path / "streams" / ".tmp-folder").mkdir()
        (store.path / "streams" / ".tmp-folder" / "link").symlink_to(outside)
        before = tree(outside)
        later = time.time() + 9 * DAY
        assert len(plan(store, *streams, now=later).delete().removed) == 2
        assert tree(outside) == before
        (store.path / "streams" / "text").symlink_to(outside)
        with pytest.raises(StoreError, match="link"):
            plan(store, *streams, now=later)
        assert tree(outside) == before

    def test_an_unreadable_manifest_or_recipe_stops_all(self, store, streams, item):
        publish(streams[0], item("k"))
        path = store.save_manifest(table("demo@one", {"t": {streams[0]: "k"}}))
        path.write_bytes(path.read_bytes().replace(b'"k"', b'"l"'))
        aged(store.path, 9)
        with pytest.raises(StoreError, match=r"demo@one\.json"):
            plan(store, streams[1])
        path.rename(path.with_name("other@two.json"))
        with pytest.raises(StoreError, match=r"other@two\.json"):
            plan(store, streams[1])
        path.with_name("other@two.json").unlink()
        (Path(streams[0].place.path) / "recipe.json").write_text("{}")
        with pytest.raises(StoreError, match=r"recipe\.json"):
            plan(store, streams[1])

    def test_a_manifest_under_another_name_stops_all(self, store, streams):
        path = store.save_manifest(table("demo@one", {}))
        path.rename(path.with_name("demo@two.json"))
        with pytest.raises(StoreError, match="demo@one"):
            plan(store, *streams)

    def test_damaged_shards_are_left_to_verify(self, store, streams, item):
        path = publish(streams[0], item("k"))
        (path / "seal.json").unlink()
        aged(store.path, 9)
        assert not plan(store, *streams).removals

    def test_a_store_at_a_url_is_refused(self, store):
        import fsspec

        fsspec.filesystem("memory").put(str(store.path), "/collected", recursive=True)
        with pytest.raises(StoreError, match="can only be read"):
            plan_collection(FeatureStore("memory://collected"), Roots(nothing=True))
