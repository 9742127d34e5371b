"""Verifying: what is lost, odd or newer is named, and nothing sound is."""

from __future__ import annotations

import json
import os
import shutil

import fsspec
import pytest
from concord.cache import (
    FeatureStore,
    NotInStoreError,
    StoreError,
    digest,
    file_digest,
)
from concord.cache.reading import read_shards
from concord.cache.verify import verify

from .damage import (
    CASES,
    FAULTS,
    IDS,
    KINDS,
    NAME,
    ROWS_FILE,
    add,
    flip,
    new_items,
    put,
    read_item,
)
from .verifying import found_in, named, whole

pytestmark = pytest.mark.usefixtures("patience")


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_sound_store_has_no_findings(stores, kind):
    seen = []
    store = FeatureStore(stores[kind].path)
    assert verify(store, lambda *step: seen.append(step)) == []
    assert [step[:2] for step in seen] == [(1, 2), (2, 2)]
    names = sorted(shard.name for shard in stores[kind].shards.values())
    assert [step[2] for step in seen] == [f"{NAME}@{store[NAME].digest[:16]}/{n}" for n in names]
    assert verify(FeatureStore(stores[kind].path, mapped=False)) == []


# --- a file that is missing, empty or truncated


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("name", "file"), CASES)
def test_a_file_that_lost_bytes(written, name, file, fault):
    here = written(name)
    path = here.shard / file
    put(path, FAULTS[fault](path.read_bytes()))
    findings = found_in(here)
    (found,) = [finding for finding in findings if finding.path == str(here.shard)]
    assert (found.kind, found.stream) == ("shard", FeatureStore(here.path)[NAME].full_name)
    assert str(path) in found.problem
    if file in ("seal.json", "index.json"):
        assert named(findings) == whole(here.items["a"])
    for mapped in (True, False):
        stream = FeatureStore(here.path, mapped=mapped)[NAME]
        for item in here.items["a"]:
            errors = read_item(stream, item, ["rows", "window", "scattered"])
            assert len(errors) == 3
            for message in errors.values():
                assert str(path) in message
                assert repr(item.track) in message
                assert f"rows 0 to {len(item.rows)}" in message
        assert not any(read_item(stream, item) for item in here.items["b"])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_file_that_is_lost_while_a_reader_is_open(written, kind, mapped, fault):
    here = written(*kind)
    opened = FeatureStore(here.path, mapped=mapped)[NAME]
    touched = FeatureStore(here.path, mapped=mapped)[NAME]
    assert len(opened.items) == 6
    assert not any(read_item(touched, item) for item in here.items["a"])
    path = here.shard / ROWS_FILE[kind[0]]
    put(path, FAULTS[fault](path.read_bytes()))
    for item in here.items["a"]:
        errors = read_item(opened, item)
        assert errors
        for message in errors.values():
            assert str(path) in message
            assert repr(item.track) in message
            assert "rows" in message
        # A file that is open stays readable after it was replaced, but no zeros come of it.
        read_item(touched, item)


# --- everything else


def test_what_is_listed_and_stored_nowhere(written):
    here = written()
    shutil.rmtree(here.shard)
    (found,) = found_in(here)
    assert (found.kind, found.path) == ("missing", str(here.manifest))
    assert found.tracks == tuple(item.track for item in here.items["a"])
    assert named([found]) == whole(here.items["a"])
    shutil.rmtree(here.recipe.parent)
    (found,) = found_in(here)
    assert named([found]) == whole(here.all_items)


def test_a_stream_without_a_recipe(written):
    here = written()
    here.recipe.unlink()
    (found,) = found_in(here)
    assert (found.kind, found.path) == ("missing", str(here.recipe))
    assert found.items == ()


@pytest.mark.parametrize("name", ["stray", "x/c/0/1", "deep/er/stray"])
def test_unexpected_files(written, name):
    here = written()
    stray = here.shard / name
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"?")
    (found,) = found_in(here)
    # A folder that the format does not have is named by itself.
    named = here.shard / "deep" if name.startswith("deep") else stray
    assert (found.kind, found.path, found.items) == ("unexpected", str(named), ())


def test_links_are_damage(written, tmp_path):
    here = written()
    (here.shard / "stray").symlink_to(tmp_path)
    (found,) = found_in(here)
    assert (found.kind, found.items) == ("shard", ())
    assert "link" in found.problem
    (here.shard / "stray").unlink()
    shutil.move(here.shard / "x/c/0/0", tmp_path / "elsewhere")
    (here.shard / "x/c/0/0").symlink_to(tmp_path / "elsewhere")
    (found,) = found_in(here)
    assert named([found]) == whole(here.items["a"])


def reseal(shard, change):
    """Rewrite a shard's records, seal included, as a stranger or a later version might."""
    index, seal = (json.loads((shard / name).read_bytes()) for name in ("index.json", "seal.json"))
    change(index, seal)
    (shard / "index.json").write_text(json.dumps(index))
    path = shard / "index.json"
    seal["files"]["index.json"] = {"size": path.stat().st_size, "sha256": file_digest(path)}
    seal["sha256"] = digest(seal["files"])
    (shard / "seal.json").write_text(json.dumps(seal))


def test_a_newer_version_is_not_called_damaged(written):
    here = written()
    reseal(here.shard, lambda *records: [record.update(version=3) for record in records])
    found = {finding.path: finding for finding in found_in(here)}[str(here.shard)]
    assert found.kind == "unreadable"
    assert "update concord" in found.problem


@pytest.mark.parametrize("file", ["seal.json", "index.json"])
def test_a_flipped_version_is_damage(written, file):
    here = written()
    content = (here.shard / file).read_bytes()
    put(here.shard / file, content.replace(b'"version": 2', b'"version": 3'))
    assert {finding.path: finding.kind for finding in found_in(here)}[str(here.shard)] == "shard"


def test_an_older_version(written):
    here = written()

    def make_old(index, seal):
        items = [{k: item[k] for k in ("key", "track", "first", "rows")} for item in index["items"]]
        index.clear()
        index.update(version=1, items=[{**item, "sha256": "0" * 64} for item in items])
        seal["version"] = 1

    reseal(here.shard, make_old)
    assert found_in(here) == []
    flip(here.shard / "x/c/0/0", 0)
    (found,) = found_in(here)
    first = here.items["a"][0]
    assert named([found]) == {first.key: (first.track, ((0, 256),))}


@pytest.mark.parametrize("name", ["../../outside", "/etc/hostname"])
def test_a_seal_that_names_files_outside(written, name):
    here = written()
    record = {"size": 5, "sha256": "0" * 64}
    reseal(here.shard, lambda *records: records[1]["files"].update({name: record}))
    found = {finding.path: finding for finding in found_in(here)}[str(here.shard)]
    assert found.kind == "shard"
    assert "not the files of this format" in found.problem


def test_an_index_that_promises_too_much(written):
    """Memory is not taken for rows that cannot be there."""
    here = written("zarr", compressed=True)

    def grow(index, seal):
        index["items"] = index["items"][:1]
        index["items"][0]["rows"] = index["rows"] = 1 << 40

    reseal(here.shard, grow)
    put(here.shard / "x/c/0/0", b"")
    (found,) = [finding for finding in found_in(here) if finding.path == str(here.shard)]
    assert "bytes of rows from" in found.problem


def test_unfinished_shards_are_nobodys_loss(written):
    here = written()
    shutil.copytree(here.shard, here.shard.with_name(".tmp-1-x"))
    (here.shard.with_name(".tmp-1-x") / "seal.json").unlink()
    assert found_in(here) == []


def test_one_stream_only(written):
    here = written()
    store = FeatureStore(here.path)
    other = store.create_stream("audio/y", {"v": 2})
    damaged = add(other, new_items("b", other.digest))
    flip(damaged / "x/c/0/0", 0)
    flip(here.shard / "x/c/0/0", 0)
    both = {str(damaged), str(here.shard)}
    assert {finding.path for finding in verify(store)} == both
    assert {finding.path for finding in verify(store, streams=[NAME])} == {str(here.shard)}
    for name in ("audio/y", f"audio/y@{other.digest[:5]}", other.full_name):
        assert {finding.path for finding in verify(store, streams=[name])} == {str(damaged)}
    assert {finding.path for finding in verify(store, streams=[NAME, "audio/y"])} == both
    with pytest.raises(NotInStoreError, match="no stream 'audio/z'; streams here: audio/y@"):
        verify(store, streams=["audio/z"])


def test_what_two_streams_hold_is_missed_in_each(written):
    """The same keys in another stream do not make up for those of this one."""
    here = written()
    store = FeatureStore(here.path)
    add(store.create_stream("audio/y", {"v": 2}), here.items["a"])
    shutil.rmtree(here.shard)
    (found,) = verify(store)
    assert found.stream == store[NAME].full_name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("file", ["seal.json", "x/c/0/0"])
def test_what_may_not_be_read_is_not_called_damaged(written, file):
    here = written()
    (here.shard / file).chmod(0)
    found = {finding.path: finding for finding in found_in(here)}[str(here.shard)]
    assert found.kind == "unreadable"
    assert "Permission denied" in found.problem


def test_a_store_at_a_url(written):
    here = written()
    flip(here.shard / "x/c/0/0", 0)
    memory = fsspec.filesystem("memory")
    memory.put(str(here.path), "/verified", recursive=True)
    try:
        (found,) = verify(FeatureStore("memory://verified"))
    finally:
        memory.rm("/verified", recursive=True)
    first = here.items["a"][0]
    assert named([found]) == {first.key: (first.track, ((0, 256),))}
    assert found.path.startswith("memory://verified/streams/")


def test_tracks_of_a_damaged_index_have_the_names_that_manifests_know(written):
    here = written()
    path = here.shard / "index.json"
    flip(path, path.read_bytes().index("träck 2".encode()), bit=1)
    assert "vräck 2" in path.read_text()
    (found,) = found_in(here)
    assert named([found]) == whole(here.items["a"])


def test_a_shard_that_another_process_moves_meanwhile(written, monkeypatch):
    here = written()
    here.manifest.unlink()

    def read_late(places):
        here.shard.rename(here.path / "elsewhere")
        return read_shards(places)

    monkeypatch.setattr("concord.cache.verify.read_shards", read_late)
    assert found_in(here) == []


def test_findings_are_plain_values(written):
    here = written()
    flip(here.shard / "x/c/0/0", 0)
    (found,) = found_in(here)
    first = here.items["a"][0]
    assert json.loads(json.dumps(found.record())) == {
        "kind": "shard",
        "path": str(here.shard),
        "problem": f"{here.shard}/x/c/0/0: damaged: SHA-256 differs from the seal's",
        "stream": FeatureStore(here.path)[NAME].full_name,
        "items": [{"key": first.key, "track": first.track, "rows": [[0, 256]]}],
    }


def test_several_chunks_of_several_arrays(written):
    here = written()
    x = here.shard / "x/c/0/0"
    stride = 256 * 7 * 2 + 4
    flip(x, 0)
    flip(x, 2 * stride)
    (found,) = found_in(here)
    tracks = [item.track for item in here.items["a"]]
    rows = [((0, 256),), None, ((211, 257),), ((0, 190),)]
    assert [(item.track, item.rows) for item in found.items] == [
        (track, stretches) for track, stretches in zip(tracks, rows, strict=True) if stretches
    ]
    flip(x, stride)
    (found,) = found_in(here)
    assert named([found]) == whole(here.items["a"])
    flip(x, 2 * stride)
    (found,) = found_in(here)
    assert [item.rows for item in found.items] == [((0, 300),), ((0, 1),), ((0, 211),)]
    flip(here.shard / "valid/c/0", 0)
    (found,) = found_in(here)
    assert named([found]) == whole(here.items["a"])


def test_a_store_that_is_no_folder_of_links(written, tmp_path):
    here = written()
    elsewhere = tmp_path / "elsewhere"
    shutil.move(here.shard, elsewhere)
    here.shard.symlink_to(elsewhere)
    with pytest.raises(StoreError, match="found a link"):
        found_in(here)
