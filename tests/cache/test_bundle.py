"""Bundles: bit for bit what was packed, or refused with the store as it was."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from concord.cache import (
    ConfigError,
    FeatureStore,
    Manifest,
    ManifestTrack,
    NotInStoreError,
    ShardFormat,
    StoreError,
)
from concord.cache.archive import BLANK, open_archive, seal_archive, write_archive
from concord.cache.bundle import (
    check_editions,
    packing,
    plan_bundle,
    plan_unbundle,
    unpacked,
    write_bundle,
)
from concord.cache.selection import Selection
from concord.cache.verify import verify

from .remotes import ALL, EDITION, NAME, check, fill, new_item

SIZE = {"rows": 40, "dim": 8}


def make(tmp_path, how=None):
    """A store of two streams in one manifest, and an item that no manifest lists."""
    store = fill(tmp_path / "store", how=how, **SIZE)
    second = store.create_stream("audio/y", {"sensitivity": "vectors"})
    (manifest,) = store.manifests()
    keys = {}
    with second.writer() as writer:
        for track in ALL[:5]:
            item = new_item(second, track, rows=40, dim=3)
            keys[track] = {second.full_name: item.key}
            writer.add(item)
        writer.publish()
        writer.add(new_item(second, "nobody's", rows=40, dim=3))
    tracks = [replace(row, items={**row.items, **keys.get(row.track, {})}) for row in manifest]
    store.save_manifest(Manifest("mine", EDITION, tuple(tracks)))
    return FeatureStore(store.path)


def bundle(store, target, selection=None):
    with packing(target) as folder:
        plan = plan_bundle(store, folder, selection or Selection())
        moved = write_bundle(plan, folder, target, lambda packed: f"# {packed.streams()[0].name}\n")
    assert not list(target.parent.glob(".tmp-*"))
    return moved


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound bundle of each kind, not to be changed, and the store that it is of."""
    folder = tmp_path_factory.mktemp("sound")
    store = make(folder)
    for suffix in ("tar", "zip"):
        bundle(store, folder / f"x.{suffix}")
    return folder


def take_in(path, store):
    with unpacked(path, store) as folder:
        return plan_unbundle(folder, store).carry_out()


def snapshot(folder):
    return {
        path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")
    }


@pytest.mark.parametrize("suffix", ["tar", "zip"])
@pytest.mark.parametrize("how", ["zarr", "hdf5"])
def test_round_trip(tmp_path, how, suffix):
    store = make(tmp_path, ShardFormat(how))
    path = tmp_path / f"x.{suffix}"
    assert bundle(store, path).items == 17
    moved = take_in(path, tmp_path / "new")
    assert (moved.items, moved.manifests) == (17, (f"mine@{EDITION}",))
    assert not list(tmp_path.glob(".tmp-*"))
    assert check(tmp_path / "new", **SIZE) == set(ALL)
    other = FeatureStore(tmp_path / "new")
    assert verify(other) == []
    assert other.format == store.format
    assert other.manifests() == store.manifests()
    for name, tracks in ((NAME, ALL), ("audio/y", ALL[:5])):
        assert other[name].recipe == store[name].recipe
        assert len(other[name].items) == len(tracks)
        for track in tracks:
            for part in ("rows", "valid", "flags", "times"):
                mine, theirs = (np.asarray(getattr(s[name][track], part)) for s in (store, other))
                assert mine.tobytes() == theirs.tobytes()
                assert mine.dtype == theirs.dtype
            assert other[name][track].provenance == store[name][track].provenance
    before = snapshot(tmp_path / "new")
    assert take_in(path, tmp_path / "new").items == 0
    assert snapshot(tmp_path / "new") == before


def test_a_part(sound, tmp_path):
    store = FeatureStore(sound / "store")
    chosen = Selection(streams=(NAME,), tracks=("t01", "t03"))
    assert bundle(store, tmp_path / "x.tar", chosen).items == 2
    take_in(tmp_path / "x.tar", tmp_path / "new")
    assert check(tmp_path / "new", **SIZE) == {"t01", "t03"}
    assert len(FeatureStore(tmp_path / "new").streams()) == 1


def test_a_card_and_a_list_of_digests_are_in_it(sound):
    with open_archive(sound / "x.zip") as archive:
        index = json.loads(b"".join(archive.blocks("bundle.json")))
        assert b"".join(archive.blocks("README.md")) == b"# audio/y\n"
        assert {*index["files"], "bundle.json"} == set(archive.members)
        for name, each in index["files"].items():
            content = b"".join(archive.blocks(name))
            assert each == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_a_byte_that_is_wrong_anywhere_leaves_the_store_as_it_was(sound, tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    shutil.copy(sound / path.name, path)
    mine = fill(tmp_path / "mine", ALL[:2], **SIZE)
    before = snapshot(mine.path)
    whole = path.read_bytes()
    chance = random.Random(1)
    for at in chance.sample(range(len(whole)), 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(StoreError, match="damaged, or no bundle"):
            take_in(path, mine.path)
    assert snapshot(mine.path) == before
    path.write_bytes(whole)
    take_in(path, mine.path)
    assert check(mine.path, **SIZE) == set(ALL)


def forged(sound, tmp_path, change, *, index=True):
    """A bundle whose outer digests are right, and whose inside was changed by hand."""
    files = {}
    with open_archive(sound / "x.tar") as archive:
        for number, name in enumerate(archive.members):
            files[name] = tmp_path / "parts" / str(number)
            files[name].parent.mkdir(exist_ok=True)
            files[name].write_bytes(b"".join(archive.blocks(name)))
    change(files)
    if index:
        listed = {
            name: {
                "size": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for name, path in files.items()
            if name != "bundle.json"
        }
        record = {"format": "concord bundle", "version": 1, "files": listed}
        files["bundle.json"].write_text(json.dumps(record))
    write_archive(tmp_path / "forged.tar", files)
    return tmp_path / "forged.tar"


def flip(files, end):
    (path,) = [path for name, path in files.items() if name.endswith(end)][:1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _newer(files):
    record = json.loads(files["bundle.json"].read_text())
    files["bundle.json"].write_text(json.dumps({**record, "version": 2}))


FORGERIES = {
    "rows": (lambda files: flip(files, "/x/c/0/0"), True, "damaged"),
    "index": (lambda files: flip(files, "/index.json"), True, "findings"),
    "recipe": (lambda files: flip(files, "/recipe.json"), True, "recipe|valid|decode"),
    "manifest": (lambda files: flip(files, f"mine@{EDITION}.json"), True, "findings|damaged|valid"),
    "unlisted change": (lambda files: flip(files, "/x/c/0/0"), False, "SHA-256 differs"),
    "more": (lambda files: files.update({"b": files["README.md"]}), False, "listed and held"),
    "less": (lambda files: files.pop("README.md"), False, "listed and held"),
    "no list": (lambda files: files.pop("bundle.json"), False, "not a bundle"),
    "newer": (_newer, False, "version"),
    "no store": (lambda files: files.pop("store/store.json"), True, "no store here"),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_what_was_forged_is_refused_and_the_store_stays(sound, tmp_path, kind):
    change, index, problem = FORGERIES[kind]
    path = forged(sound, tmp_path, change, index=index)
    mine = fill(tmp_path / "mine", ALL[:2], **SIZE)
    before = snapshot(mine.path)
    for store in (mine.path, tmp_path / "new"):
        with pytest.raises(StoreError, match=problem):
            take_in(path, store)
    assert snapshot(mine.path) == before
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_bundle_that_does_not_fit_leaves_the_store_as_it_was(sound, tmp_path):
    for number, size in enumerate(({"rows": 41, "dim": 8}, {"rows": 40, "dim": 9})):
        mine = fill(tmp_path / f"mine{number}", ALL[:2], **size)
        before = snapshot(mine.path)
        with pytest.raises(StoreError, match=r"not the same edition|expected rows of 9"):
            take_in(sound / "x.tar", mine.path)
        assert snapshot(mine.path) == before


def test_no_bundle_is_made_of_what_is_damaged_or_not_there(tmp_path):
    store = make(tmp_path)
    with pytest.raises(NotInStoreError, match="nothing that is chosen"):
        bundle(store, tmp_path / "x.tar", Selection(streams=("audio/y",), tracks=("t11",)))
    path = Path(store[NAME].shards[0].path, "x/c/0/0")
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        bundle(FeatureStore(store.path), tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()
    assert not list(tmp_path.glob(".tmp-*"))


def test_nothing_is_replaced(sound, tmp_path):
    (tmp_path / "x.tar").write_bytes(b"mine")
    with pytest.raises(StoreError, match="is there already"):
        bundle(FeatureStore(sound / "store"), tmp_path / "x.tar")
    assert (tmp_path / "x.tar").read_bytes() == b"mine"


def test_rubbish_is_no_bundle(tmp_path):
    (tmp_path / "x.tar").write_bytes(bytes(10_240) + BLANK)
    seal_archive(tmp_path / "x.tar")
    with pytest.raises(StoreError, match="not a bundle"):
        take_in(tmp_path / "x.tar", tmp_path / "new")


# --- editions

LABELS = f"labels/va@{'1' * 64}"
VISUAL = f"visual/x@{'2' * 64}"


def table(name, tracks):
    """A manifest of (track, split, streams)."""
    plain = {"source": "s", "family": "f", "rows": 1, "rate": None}
    rows = [
        ManifestTrack(track=t, split=split, items=dict.fromkeys(streams, "k"), **plain)
        for t, split, streams in tracks
    ]
    dataset, _, edition = name.partition("@")
    return Manifest(dataset, edition, tuple(rows))


OLD = [("a", "train", (LABELS, VISUAL)), ("b", "val", (LABELS,))]
NEW = [("a", "test", (VISUAL,)), ("b", "train", (LABELS,))]


@pytest.mark.parametrize(
    ("manifests", "refused"),
    [
        ({"w@old": OLD, "w@new": NEW}, True),
        ({"w@new": NEW, "w@old": OLD}, True),
        ({"w@old": OLD}, False),
        ({"w@new": NEW}, False),
        # Whatever tracks are called there, and whatever the data set is called here.
        ({"w@old": [("z", "train", (LABELS,))], "w@new": NEW}, True),
        ({"v@old": OLD, "w@new": NEW}, True),
        ({"v@old": [("z", "train", (LABELS,))], "w@new": NEW}, False),
        # No labels, or no test tracks.
        ({"w@old": [("a", "train", (VISUAL,))], "w@new": NEW}, False),
        ({"w@old": OLD, "w@new": [("a", "val", (VISUAL,))]}, False),
        # Without features, a table of test tracks beside old labels is the same thing.
        ({"w@old": OLD, "w@new": [("a", "test", ())]}, True),
    ],
)
def test_labels_of_one_edition_never_lie_beside_test_tracks_of_another(manifests, refused):
    tables = [table(name, tracks) for name, tracks in manifests.items()]
    if not refused:
        check_editions(tables)
        return
    with pytest.raises(ConfigError, match="never joins labels of one edition"):
        check_editions(tables)


def test_a_bundle_of_mixed_editions_is_not_made(tmp_path):
    store = make(tmp_path)
    labels = store.create_stream("labels/va", {"unlabelled": -5})
    item = new_item(labels, "t00", rows=40, dim=2)
    with labels.writer() as writer:
        writer.add(item)
    (manifest,) = store.manifests()
    first, *others = manifest.tracks
    labelled = replace(first, items={labels.full_name: item.key})
    store.save_manifest(Manifest("mine", "old", (labelled, *others)))
    store.save_manifest(replace(manifest, tracks=(replace(first, split="test"), *others)))
    with pytest.raises(
        ConfigError, match=f"labels of mine@old beside test tracks of mine@{EDITION}"
    ):
        bundle(store, tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()
    bundle(store, tmp_path / "x.tar", Selection(dataset="mine@old"))
    bundle(store, tmp_path / "y.tar", Selection(dataset=f"mine@{EDITION}"))
