"""Repairing: what is sound is saved, what is damaged is moved out, and a kill costs nothing."""

from __future__ import annotations

import json

import fsspec
import pytest
from concord.cache import FeatureStore, NotInStoreError, StoreError
from concord.cache.finding import Finding
from concord.cache.repair import DAMAGED, repair
from concord.cache.shard import Shard
from concord.cache.verify import verify

from .damage import (
    CASES,
    FAULTS,
    IDS,
    KINDS,
    NAME,
    PROVENANCE,
    RECIPE,
    ROWS_FILE,
    add,
    flip,
    flips,
    put,
    read_item,
)
from .repairing import check, damage_first_chunk, moved_out, repaired, tree

pytestmark = pytest.mark.usefixtures("patience")


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_sound_items_are_saved(written, kind):
    here = written(*kind)
    damage_first_chunk(here, kind[0])
    before = tree(here.shard)
    store = FeatureStore(here.path)
    findings = verify(store)
    first, *others = here.items["a"]
    seen = []
    (done,) = repair(store, findings, lambda *step: seen.append(step))
    assert json.loads(json.dumps(done.record())) == {
        "path": str(here.shard),
        "done": "3 items saved, 1 lost: run the extraction again",
        "moved_to": str(moved_out(here)),
        "saved": [item.track for item in others],
        "lost": [first.track],
    }
    assert seen == [(1, 1, str(here.shard))]
    assert tree(moved_out(here)) == before
    assert not list(here.shard.parent.glob(".*"))
    check(here, {first.key})
    saved = FeatureStore(here.path)[NAME].item(others[0].key).shard
    assert (saved.index.format, saved.index.compression is not None) == kind
    assert saved.provenance == PROVENANCE
    assert repair(store, findings) == []


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
@pytest.mark.parametrize("all_lost", [False, True])
def test_lost_items_are_computed_anew(written, kind, all_lost):
    """In one process, and under the name that the damaged shard had."""
    here = written(*kind)
    path = here.shard / ROWS_FILE[kind[0]]
    if all_lost:
        put(path, b"")
    else:
        damage_first_chunk(here, kind[0])
    for mapped in (True, False):
        assert read_item(FeatureStore(here.path, mapped=mapped)[NAME], here.items["a"][0])
    repaired(here)
    stream = FeatureStore(here.path)[NAME]
    absent = [item for item in here.items["a"] if item.key not in stream.items]
    made = add(stream, absent)
    assert (made == here.shard) == all_lost
    check(here, set())


@pytest.mark.parametrize(
    ("name", "file"), [case for case in CASES if case[1].endswith(("zarr.json", "nance.json"))]
)
def test_a_shard_of_sound_items_gets_another_in_its_place(written, name, file):
    here = written(name)
    flip(here.shard / file, 20)
    before = tree(here.shard)
    (done,) = repaired(here)
    assert done.done == "all 4 items saved"
    assert tree(moved_out(here)) == before
    assert len(list(here.shard.parent.iterdir())) == 2
    check(here, set())
    provenance = Shard(here.shard).provenance
    if file == "provenance.json":
        assert "SHA-256 differs" in provenance.pop("lost")
        assert provenance == {"recipe": RECIPE, "stream": NAME}
    else:
        assert provenance == PROVENANCE


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("name", "file"), CASES)
def test_a_file_that_lost_bytes(written, name, file, fault):
    here = written(name)
    put(here.shard / file, FAULTS[fault]((here.shard / file).read_bytes()))
    before = tree(here.shard)
    (done,) = repaired(here)
    assert tree(moved_out(here)) == before
    if file in ("seal.json", "index.json") or file.endswith("c/0"):
        assert done.saved == ()
    if file.endswith(".json") and file not in ("seal.json", "index.json"):
        assert done.lost == ()
    check(here, {item.key for item in here.items["a"] if item.track not in done.saved})


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_any_flipped_bit(stores, tmp_path, kind, count):
    for number, flipped in enumerate(flips(stores[kind].shard, count, seed=count)):
        here = stores[kind].copy(tmp_path / str(number))
        flipped.do(here.shard)
        (done,) = repaired(here)
        check(here, {item.key for item in here.items["a"] if item.track not in done.saved})


def test_the_same_shard_twice(written):
    here = written()
    for count in (1, 2, 3):
        put(here.shard / "x/c/0/0", str(count).encode())
        repaired(here)
        add(FeatureStore(here.path)[NAME], here.items["a"])
        check(here, set())
    for name, content in {"": b"1", "-2": b"2", "-3": b"3"}.items():
        assert (moved_out(here, f"{here.shard.name}{name}") / "x/c/0/0").read_bytes() == content


def test_findings_that_are_out_of_date(written):
    here = written()
    flip(here.shard / "x/c/0/0", 0)
    store = FeatureStore(here.path)
    findings = verify(store)
    flip(here.shard / "x/c/0/0", 0)
    assert repair(store, findings) == []
    assert not (here.path / DAMAGED).exists()


# --- recipes, manifests, and what does not belong


@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "other"])
def test_a_recipe_is_written_anew_from_provenance(written, fault):
    here = written()
    content = here.recipe.read_bytes()
    damaged = FAULTS.get(fault, lambda content: content.replace(b"64", b"65"))(content)
    put(here.recipe, damaged)
    flip(here.shards["b"] / "provenance.json", 5)
    (done,) = [done for done in repaired(here) if done.path == str(here.recipe)]
    assert done.done == f"written anew from the provenance of shard {here.shard.name}"
    assert here.recipe.read_bytes() == content
    if damaged is not None:
        assert moved_out(here, "recipe.json").read_bytes() == damaged
    check(here, set())
    assert FeatureStore(here.path)[NAME].recipe == RECIPE


def test_a_recipe_that_no_shard_holds_is_left_to_the_extraction(written):
    here = written()
    content = here.recipe.read_bytes()
    FeatureStore(here.path).create_stream("audio/y", {"v": 2})
    put(here.recipe, b"{}")
    for shard in here.shards.values():
        (shard / "provenance.json").unlink()
    done = repaired(here)[0]
    assert done.path == str(here.recipe)
    assert done.done == "moved out: run the extraction again to write it anew"
    assert moved_out(here, "recipe.json").read_bytes() == b"{}"
    store = FeatureStore(here.path)
    assert [(found.kind, found.path) for found in verify(store)] == [("missing", str(here.recipe))]
    assert repair(store, verify(store)) == []
    assert [stream.name for stream in store.streams()] == ["audio/y"]
    with pytest.raises(NotInStoreError, match="no stream 'visual/x'"):
        store[NAME]
    store.create_stream(NAME, RECIPE)
    assert here.recipe.read_bytes() == content
    check(here, set())


def test_a_damaged_manifest_is_moved_out(written):
    here = written()
    content = here.manifest.read_bytes()
    put(here.manifest, content.replace(b"train", b"traim"))
    (done,) = repaired(here)
    assert done.done == "moved out: run the extraction again to write it anew"
    assert done.moved_to == str(here.path / DAMAGED / "manifests" / here.manifest.name)
    assert verify(FeatureStore(here.path)) == []
    assert FeatureStore(here.path).manifests() == ()
    here.manifest.write_bytes(content)
    check(here, set())


@pytest.mark.parametrize("name", ["stray", "x/c/0/1"])
def test_an_unexpected_file_is_moved_out(written, name):
    here = written()
    before = tree(here.path)
    (here.shard / name).write_bytes(b"?")
    (done,) = repaired(here)
    assert done.moved_to == str(moved_out(here) / name)
    target = f"{DAMAGED}/visual-{here.recipe.parent.name}/{here.shard.name}/{name}"
    assert tree(here.path) == {**before, target: b"?"}
    check(here, set())


def test_an_unexpected_file_in_a_damaged_shard(written):
    here = written()
    (here.shard / "stray").write_bytes(b"?")
    damage_first_chunk(here, "zarr")
    repaired(here)
    check(here, {here.items["a"][0].key})


def test_what_cannot_be_judged_is_left_alone(written):
    here = written()
    for name in ("index.json", "seal.json"):
        path = here.shard / name
        put(path, path.read_bytes().replace(b'"version": 2', b'"version": 3'))
    put(here.manifest, here.manifest.read_bytes().replace(b'"version": 2', b'"version": 3'))
    before = tree(here.path)
    findings = verify(FeatureStore(here.path))
    assert [finding.kind for finding in findings] == ["unreadable", "unreadable"]
    assert repaired(here) == []
    assert tree(here.path) == before


@pytest.mark.parametrize(
    "path",
    [
        *("{outside}", "{store}/store.json", "{store}/streams/../../outside"),
        *("{shards}", "{shards}/..", "{shards}/../../../../../outside"),
    ],
)
@pytest.mark.parametrize("kind", ["shard", "unexpected"])
def test_findings_of_elsewhere_are_refused(written, tmp_path, path, kind):
    here = written()
    (tmp_path / "outside").mkdir()
    before = tree(here.path)
    path = path.format(outside=tmp_path / "outside", store=here.path, shards=here.shard.parent)
    with pytest.raises(StoreError, match="expected a path in"):
        repair(FeatureStore(here.path), [Finding(kind, path, "?")])
    assert tree(here.path) == before
    assert (tmp_path / "outside").is_dir()


def test_a_store_at_a_url_cannot_be_repaired(written):
    here = written()
    flip(here.shard / "x/c/0/0", 0)
    memory = fsspec.filesystem("memory")
    memory.put(str(here.path), "/repaired", recursive=True)
    try:
        store = FeatureStore("memory://repaired")
        with pytest.raises(StoreError, match="can only be read"):
            repair(store, verify(store))
    finally:
        memory.rm("/repaired", recursive=True)
