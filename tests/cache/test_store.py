"""The store: streams by name and recipe, items by track, and messages that say what to do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import concord.cache
import numpy as np
import pytest
from concord.cache import (
    FeatureStore,
    Manifest,
    ManifestTrack,
    NotInStoreError,
    ShardFormat,
    StoreError,
    StreamWriter,
    digest,
)
from concord.cache.new_shard import write_shard

RECIPE = {"backbone": "resnet18", "size": 64}


@dataclasses.dataclass(frozen=True)
class Recipe:
    backbone: str = "resnet18"
    size: int = 64


def fill(store, name, recipe, items):
    stream = store.create_stream(name, recipe)
    with StreamWriter(store, stream, {"device": "cpu"}) as writer:
        for item in items:
            writer.add(item)
    return store[stream.full_name]


def manifest(stream, dataset, edition, keys):
    tracks = [
        ManifestTrack(
            track=track,
            source=track,
            split="train",
            family=track,
            rows=5,
            rate=None,
            items={stream.full_name: key},
        )
        for track, key in keys.items()
    ]
    return Manifest(dataset, edition, tuple(tracks))


def test_create_makes_once_and_opens(tmp_path):
    FeatureStore.create(tmp_path / "deep" / "store")
    mark = tmp_path / "deep" / "store" / "store.json"
    before = mark.stat().st_mtime_ns
    store = FeatureStore.create(tmp_path / "deep" / "store")
    assert mark.stat().st_mtime_ns == before
    assert store.streams() == ()
    assert store.manifests() == ()
    assert FeatureStore(str(store.path)).path == store.path


def test_no_store_here(tmp_path):
    with pytest.raises(StoreError, match="no store here") as error:
        FeatureStore(tmp_path / "nowhere")
    assert error.value.exit_code == 5
    assert str(tmp_path / "nowhere") in str(error.value)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "concord store"}'])
def test_foreign_or_damaged_mark(tmp_path, content):
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(StoreError, match=r"store\.json|no store here"):
        FeatureStore.create(tmp_path)


def test_unknown_version_is_refused(store):
    mark = store.path / "store.json"
    mark.write_text(json.dumps({"format": "concord store", "version": 3, "shards": "zarr"}))
    with pytest.raises(StoreError, match=r"store\.json: version 3 is newer.*up to.*2.*update"):
        FeatureStore(store.path)


def test_a_store_of_version_1_is_read(store):
    (store.path / "store.json").write_text(json.dumps({"format": "concord store", "version": 1}))
    assert FeatureStore(store.path).format == ShardFormat("zarr")


def test_recipe_is_the_identity(store):
    stream = store.create_stream("visual/resnet18", Recipe())
    assert stream.digest == digest(RECIPE)
    assert stream.full_name == f"visual/resnet18@{digest(RECIPE)}"
    assert stream.recipe == RECIPE
    again = store.create_stream("visual/resnet18", dict(reversed(RECIPE.items())))
    assert again.full_name == stream.full_name
    assert len(store.streams()) == 1
    store.create_stream("visual/resnet18", Recipe(size=65))
    assert len(store.streams()) == 2


@pytest.mark.parametrize(
    "name", ["visual", "Visual/x", "visual/", "/x", "a/b/c", "../x", "a/../b", "visual/a@b", ""]
)
def test_stream_names(store, name):
    with pytest.raises(StoreError, match="expected modality/backbone"):
        store.create_stream(name, RECIPE)
    assert store.streams() == ()


def test_names_resolve_by_digest_start(store):
    streams = [store.create_stream("visual/i3d", {"size": k}) for k in range(3)]
    store.create_stream("audio/i3d", {"size": 0})
    for stream in streams:
        for digits in (8, 16, 64):
            found = store[f"visual/i3d@{stream.digest[:digits]}"]
            assert found.digest == stream.digest
    assert store["audio/i3d"].name == "audio/i3d"


def test_ambiguous_name_lists_the_digests(store):
    digests = [store.create_stream("visual/i3d", {"size": k}).digest for k in range(3)]
    with pytest.raises(NotInStoreError, match=r"several recipes.*start of its digest") as error:
        store["visual/i3d"]
    assert all(f"visual/i3d@{value[:8]}" in str(error.value) for value in digests)
    assert not str(error.value).startswith(("'", '"'))


def test_unknown_stream_lists_what_is_there(store):
    with pytest.raises(NotInStoreError, match="no stream 'visual/i3d'; streams here: none"):
        store["visual/i3d"]
    store.create_stream("audio/resnet18", RECIPE)
    with pytest.raises(NotInStoreError, match="streams here: audio/resnet18"):
        store["visual/i3d"]
    with pytest.raises(NotInStoreError, match="no stream 'audio/resnet18@0000"):
        store["audio/resnet18@00000000000"]


def test_items_by_track(store, item):
    items = [item("k0", "a"), item("k1", "b", 7, seed=1)]
    stream = fill(store, "visual/x", RECIPE, items)
    store.save_manifest(manifest(stream, "demo", "1", {"a": "k0", "b": "k1", "twin": "k0"}))
    for track, expected in (("a", items[0]), ("b", items[1]), ("twin", items[0])):
        found = store["visual/x"][track]
        assert np.array_equal(found.rows, expected.rows)
        assert np.array_equal(found.valid, expected.valid)
        assert np.array_equal(found.flags, expected.flags)
        assert np.array_equal(found.times, expected.times)
        assert found.provenance == {"device": "cpu", "recipe": RECIPE, "stream": "visual/x"}
    assert stream.dim == 3


def test_missing_track_and_missing_item(store, item):
    stream = fill(store, "visual/x", RECIPE, [item("k0", "a")])
    with pytest.raises(NotInStoreError, match="track 'a': no manifest of this store lists it"):
        stream["a"]
    store.save_manifest(manifest(stream, "demo", "1", {"a": "k0", "lost": "f" * 64}))
    stream = store["visual/x"]
    with pytest.raises(NotInStoreError, match="stream visual/x, track 'b': not listed in demo@1"):
        stream["b"]
    with pytest.raises(NotInStoreError, match=r"ffffffffffff is not stored; .*'lost' are listed"):
        stream["lost"]


def test_a_manifest_of_another_recipe_does_not_answer(store, item):
    old = fill(store, "visual/x", {"size": 1}, [item("k0", "a")])
    new = fill(store, "visual/x", {"size": 2}, [item("k1", "a", seed=1)])
    store.save_manifest(manifest(old, "demo", "1", {"a": "k0"}))
    with pytest.raises(NotInStoreError, match="track 'a'"):
        new["a"]
    assert np.array_equal(old["a"].rows, item("k0").rows)


def test_a_track_of_two_data_sets_is_ambiguous(store, item):
    items = [item("k0", "a"), item("k1", "a", seed=1)]
    stream = fill(store, "visual/x", RECIPE, items)
    store.save_manifest(manifest(stream, "one", "1", {"a": "k0"}))
    store.save_manifest(manifest(stream, "two", "1", {"a": "k1"}))
    with pytest.raises(NotInStoreError, match=r"several data sets.*one@1, two@1.*stream.of"):
        stream["a"]
    assert np.array_equal(stream.of("one")["a"].rows, items[0].rows)
    assert np.array_equal(stream.of("two@1")["a"].rows, items[1].rows)


def test_the_same_item_in_two_data_sets_is_not_ambiguous(store, item):
    stream = fill(store, "visual/x", RECIPE, [item("k0", "a")])
    for edition in "12":
        store.save_manifest(manifest(stream, "demo", edition, {"a": "k0"}))
    assert np.array_equal(stream["a"].rows, item("k0").rows)


def test_manifest_names(store, item):
    stream = fill(store, "visual/x", RECIPE, [item("k0", "a")])
    with pytest.raises(NotInStoreError, match="no manifest of 'demo'; there is: none"):
        store.manifest("demo")
    store.save_manifest(manifest(stream, "demo", "aa11", {}))
    store.save_manifest(manifest(stream, "demo", "bb22", {"a": "k0"}))
    with pytest.raises(NotInStoreError, match=r"several editions.*demo@aa11, demo@bb22"):
        store.manifest("demo")
    assert store.manifest("demo@bb").edition == "bb22"
    assert stream.of("demo@bb")["a"].rows.shape == (5, 3)
    with pytest.raises(NotInStoreError, match=r"no manifest of 'other'.*demo@aa11"):
        store.manifest("other")
    store.save_manifest(manifest(stream, "demo", "bb22", {"b": "k0"}))
    assert [track.track for track in store.manifest("demo@bb22")] == ["b"]


def test_what_is_unfinished_or_hidden_is_not_seen(store, item):
    stream = fill(store, "visual/x", RECIPE, [item("k0", "a")])
    folder = store.shard_folder(stream)
    (folder / ".tmp-123-abc").mkdir()
    (folder / ".tmp-123-abc" / "x").mkdir()
    (folder / ".DS_Store").write_bytes(b"x")
    assert list(store["visual/x"].items) == ["k0"]


def test_a_damaged_shard_is_named_and_not_skipped(store, item):
    stream = fill(store, "visual/x", RECIPE, [item("k0", "a")])
    (shard,) = store.shard_folder(stream).iterdir()
    (shard / "x/c/0/0").unlink()
    found = store["visual/x"]
    assert found.items == {}
    assert [damage.path for damage in found.damages] == [str(shard)]
    with pytest.raises(
        StoreError, match=rf"{shard.name}: rows 0 to 5 of track 'a' .*x/c/0/0: miss"
    ):
        found.item("k0")


def test_one_key_in_two_shards(store, item):
    stream = store.create_stream("visual/x", RECIPE)
    folder = store.shard_folder(stream)
    write_shard(folder, [item("k0", "a")], {})
    write_shard(folder, [item("k0", "a"), item("k1", "b", seed=1)], {})
    assert sorted(stream.items) == ["k0", "k1"]
    assert np.array_equal(stream.items["k0"].rows, item("k0").rows)


def test_a_stream_without_shards(store):
    stream = store.create_stream("visual/x", RECIPE)
    assert stream.items == {}
    with pytest.raises(NotInStoreError, match="holds no shard yet"):
        _ = stream.dim


def test_every_public_name_is_there():
    for name in concord.cache.__all__:
        found = getattr(concord.cache, name)
        assert found == {"REPEATED": 1, "INTERPOLATED": 2}.get(name) or found.__name__
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = concord.cache.Nothing


def test_opening_a_store_needs_neither_zarr_nor_torch(store):
    code = (
        "import sys; from concord.cache import FeatureStore; FeatureStore(sys.argv[1]).streams(); "
        "sys.exit(any(name in sys.modules for name in ('zarr', 'torch', 'av')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.path)], check=False)
    assert done.returncode == 0
