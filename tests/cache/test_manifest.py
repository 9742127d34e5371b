"""Manifests: what is saved comes back, and other files are refused."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from concord.cache import FeatureStore, Manifest, ManifestTrack, StoreError
from concord.cache.manifest import parse_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12)
TRACKS = st.builds(
    ManifestTrack,
    track=TEXT,
    source=TEXT,
    split=st.sampled_from(["train", "val", "test"]),
    family=TEXT,
    rows=st.integers(0, 10**9),
    rate=st.none() | st.floats(0.1, 240),
    items=st.dictionaries(TEXT, st.text("0123456789abcdef", min_size=64, max_size=64), max_size=3),
)


def track(name, split="train", **items):
    return ManifestTrack(
        track=name, source=name, split=split, family=name, rows=3, rate=25.0, items=items
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(TRACKS, max_size=4, unique_by=lambda track: track.track))
def test_round_trip(tracks):
    manifest = Manifest("demo", "3fa9c1", tuple(tracks))
    with tempfile.TemporaryDirectory() as folder:
        path = manifest.save(Path(folder))
        assert path.name == "demo@3fa9c1.json"
        assert parse_manifest(path.read_bytes(), str(path)) == manifest
        first = path.read_bytes()
        assert parse_manifest(path.read_bytes(), str(path)).save(Path(folder)).read_bytes() == first


def test_splits_and_iteration():
    tracks = (track("a"), track("b", "val"), track("c"))
    manifest = Manifest("demo", "0", tracks)
    assert tuple(manifest) == tracks
    assert [t.track for t in manifest.split("train")] == ["a", "c"]
    assert [t.track for t in manifest.split("val")] == ["b"]
    assert manifest.split("test") == ()


@pytest.mark.parametrize("name", ["", "../demo", "a/b", "de mo", ".demo", "x" * 65, "demo@1", "é"])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    for manifest in (Manifest(name, "1", ()), Manifest("demo", name, ())):
        with pytest.raises(StoreError, match="may hold letters"):
            manifest.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_version(tmp_path):
    path = Manifest("demo", "1", (track("a"),)).save(tmp_path)
    record = json.loads(path.read_bytes()) | {"version": 3}
    path.write_text(json.dumps(record))
    with pytest.raises(StoreError, match=r"demo@1\.json: version 3 is newer .* version 2; update"):
        parse_manifest(path.read_bytes(), str(path))


def test_an_older_version_is_read(tmp_path):
    manifest = Manifest("demo", "1", (track("a"),))
    record = json.loads(manifest.save(tmp_path).read_bytes()) | {"version": 1}
    del record["sha256"]
    assert parse_manifest(json.dumps(record).encode(), "old") == manifest


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 4097])
def test_what_could_not_be_read_again_is_not_written(tmp_path, name):
    with pytest.raises(StoreError, match="demo@1: track"):
        Manifest("demo", "1", (track(name),)).save(tmp_path)
    with pytest.raises(StoreError, match="'a' is there twice"):
        Manifest("demo", "1", (track("a"), track("a"))).save(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xff", b"{}", b'{"version": 1}', b'{"version": 1, "tracks": [{}]}'],
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "demo@1.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"demo@1\.json: (not|expected)"):
        parse_manifest(path.read_bytes(), str(path))


def test_rows_under_an_older_recipe_stay_within_reach(tmp_path):
    def manifest(items):
        tracks = [
            ManifestTrack(
                track=name, source=name, split="train", family=name, rows=3, rate=None, items=own
            )
            for name, own in items.items()
        ]
        return Manifest("mine", "abc", tuple(tracks))

    store = FeatureStore.create(tmp_path / "store")
    store.save_manifest(manifest({"1": {"v@old": "a"}, "2": {"v@old": "b", "l@x": "c"}}))
    # The same edition under another recipe; track 1 is in quarantine there.
    store.save_manifest(manifest({"1": {}, "2": {"v@new": "d", "l@x": "e"}}))
    found = {track.track: track.items for track in store.manifest("mine")}
    assert found == {"1": {"v@old": "a"}, "2": {"v@old": "b", "v@new": "d", "l@x": "e"}}
    # What the new manifest knows is replaced, quarantine included.
    store.save_manifest(manifest({"1": {"v@new": "f"}, "2": {}}))
    found = {track.track: track.items for track in store.manifest("mine")}
    assert found["2"] == {"v@old": "b", "l@x": "e"}
