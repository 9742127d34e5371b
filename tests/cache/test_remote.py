"""Remotes: only what is missing travels, it shows when it is whole, pushes at once all count."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import fsspec
import pytest
from concord.cache import ConfigError, FeatureStore, NotInStoreError, ShardFormat, StoreError
from concord.cache.atomic import json_bytes
from concord.cache.catalogue import Catalogue, parse_catalogue
from concord.cache.drivers import RaceError
from concord.cache.place import open_place
from concord.cache.selection import Selection
from concord.cache.transfer import plan_pull, plan_push, pull_manifests
from concord.cache.url_place import UrlPlace
from concord.cache.verify import verify

from .damage import flip
from .remotes import ALL, NAME, check, fill, listed, new_item
from .servers import Gate, objects


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "store")


@pytest.fixture(params=["folder", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def remote(request, tmp_path):
    """Give the URL of a new remote of each kind that can be written."""
    if request.param == "s3":
        return request.getfixturevalue("s3")
    if request.param == "folder":
        return str(tmp_path / "shared" / "store")
    fsspec.filesystem("memory").store.clear()
    return "memory://shared/store"


def push(store, remote, selection=None, **how):
    return plan_push(store, remote, selection or Selection(), **how).carry_out()


def pull(path, remote, selection=None):
    return plan_pull(path, remote, selection or Selection()).carry_out()


def test_what_is_pushed_is_pulled(store, remote, tmp_path):
    told = []
    moved = plan_push(store, remote).carry_out(lambda *args: told.append(args))
    assert (moved.shards, moved.items, moved.manifests) == (3, 12, ("mine@0123456789ab",))
    assert told[-1][0] == told[-1][1]
    assert check(remote) == set(ALL)
    assert pull(tmp_path / "other", remote).items == 12
    assert check(tmp_path / "other") == set(ALL)
    other = FeatureStore(tmp_path / "other")
    assert other.manifests() == store.manifests()
    names = [sorted(Path(s.path).name for s in each[NAME].shards) for each in (store, other)]
    assert names[0] == names[1], "extracted and pulled shards meet under one name"
    for again in (plan_push(store, remote), plan_pull(tmp_path / "other", remote)):
        assert (again.bytes, again.parcels) == (0, ())
        assert again.carry_out().manifests == ()


def test_the_second_push_sends_what_is_new_alone(tmp_path, remote):
    first = fill(tmp_path / "a", ALL[:4])
    push(first, remote)
    more = fill(tmp_path / "a", ALL[:8])
    plan = plan_push(more, remote)
    assert [len(parcel.items) for parcel in plan.parcels] == [4]
    assert plan.carry_out().items == 4
    assert check(remote) == set(ALL[:8])


@pytest.mark.parametrize(
    ("selection", "tracks"),
    [
        (Selection(split="train"), ALL[1::2]),
        (Selection(tracks=("t03", "t04")), ("t03", "t04")),
        (Selection(dataset="mine", split="val", tracks=("t00",)), ("t00",)),
        (Selection(streams=(NAME,)), ALL),
    ],
)
def test_what_was_not_chosen_does_not_travel(store, remote, tmp_path, selection, tracks):
    fill(tmp_path / "store", name="audio/x")
    push(FeatureStore(tmp_path / "store"), remote, selection)
    there = FeatureStore(remote)
    assert listed(there) == set(tracks)
    assert {item.entry.track for item in there[NAME].items.values()} == set(tracks)
    if selection.streams:
        assert [stream.name for stream in there.streams()] == [NAME]
        assert check(remote) == set(tracks)
    push(FeatureStore(tmp_path / "store"), remote)
    pull(tmp_path / "other", remote, selection)
    other = FeatureStore(tmp_path / "other")
    held = {item.entry.track for item in other[NAME].items.values()}
    assert held == set(tracks)
    assert verify(other) == []


def test_parts_of_two_people_join_in_one_table(tmp_path, remote):
    push(fill(tmp_path / "a", ALL[:5]), remote)
    push(fill(tmp_path / "b", ALL[3:9]), remote)
    assert check(remote) == set(ALL[:9])
    pull(tmp_path / "a", remote)
    assert check(tmp_path / "a") == set(ALL[:9])
    assert pull(tmp_path / "a", remote).manifests == ()


def test_a_pull_of_one_track_keeps_the_others_in_the_table(store, remote, tmp_path):
    push(store, remote)
    for track in ("t03", "t07"):
        pull(tmp_path / "other", remote, Selection(tracks=(track,)))
    assert check(tmp_path / "other") == {"t03", "t07"}


def test_only_the_table(store, remote, tmp_path):
    push(store, remote)
    assert pull_manifests(tmp_path / "other", remote, Selection()) == ("mine@0123456789ab",)
    other = FeatureStore(tmp_path / "other")
    assert other.manifests() == store.manifests()
    assert other.streams() == ()


def test_unknown_names_are_answered_with_what_there_is(store, tmp_path):
    for selection, text in [
        (Selection(split="test"), "no split 'test'; there is: train, val"),
        (Selection(tracks=("x",)), "no track 'x'; there is: t00"),
        (Selection(streams=("visual/y",)), "visual/x@"),
        (Selection(dataset="other"), "mine@0123456789ab"),
    ]:
        with pytest.raises(NotInStoreError, match=text):
            plan_push(store, tmp_path / "shared", selection)
    assert not (tmp_path / "shared").exists()


def test_a_policy_is_asked_before_anything_travels(store, remote):
    asked = []

    def refuse(stream):
        asked.append(stream)
        raise ConfigError("may not leave this house")

    with pytest.raises(ConfigError, match="may not leave"):
        plan_push(store, remote, allowed=refuse)
    assert asked == [store[NAME].full_name]
    assert check(remote) == set()


@pytest.mark.parametrize("where", ["store", "./store", "nested/../store"])
def test_a_store_is_not_pushed_into_itself(store, tmp_path, monkeypatch, where):
    (tmp_path / "nested").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="the same one twice"):
        plan_push(store, where)


def test_a_damaged_shard_stays_and_is_named(store, remote, tmp_path):
    shard = store[NAME].shards[1]
    flip(Path(shard.path, "x/c/0/0"), 1000)
    moved = push(FeatureStore(tmp_path / "store"), remote)
    assert {lost.track for lost in moved.damaged} == {e.track for e in shard.entries.values()}
    assert "SHA-256 differs" in moved.damaged[0].problem
    assert check(remote) == set(ALL) - {lost.track for lost in moved.damaged}


def test_rows_of_another_width_do_not_spoil_a_stream(tmp_path, remote):
    push(fill(tmp_path / "a", ALL[:2], dim=8), remote)
    fill(tmp_path / "b", ALL[2:4])
    with pytest.raises(StoreError, match="expected rows of 32 float16"):
        pull(tmp_path / "b", remote)
    assert check(tmp_path / "b") == set(ALL[2:4])


@pytest.mark.parametrize("how", [ShardFormat("hdf5"), ShardFormat("zarr", compressed=True)])
def test_other_formats_travel_as_they_are(tmp_path, remote, how):
    push(fill(tmp_path / "a", how=how), remote)
    pull(tmp_path / "b", remote)
    assert FeatureStore(tmp_path / "b").format == how
    assert check(tmp_path / "b") == set(ALL)


def test_over_s3(store, s3, tmp_path):
    test_what_is_pushed_is_pulled(store, s3, tmp_path)


# --- what shows, and when


def test_the_seal_comes_after_the_files_and_the_catalogue_last(store, s3, monkeypatch):
    order = []
    for name in ("write", "send"):
        own = getattr(UrlPlace, name)

        def told(self, *args, own=own, name=name):
            own(self, *args)
            order.append(f"{self.url}/{args[name == 'send']}")

        monkeypatch.setattr(UrlPlace, name, told)
    push(store, s3)
    for seal in (at for at, name in enumerate(order) if name.endswith("seal.json")):
        folder = order[seal].removesuffix("seal.json")
        assert max(at for at, name in enumerate(order) if name.startswith(folder)) == seal
        assert seal < max(at for at, name in enumerate(order) if "/pages/" in name)
    assert order[-1].endswith("catalogue.json")


def test_what_no_catalogue_lists_is_not_seen(store, s3, moto, monkeypatch):
    from concord.cache import url_target

    push(store, s3, Selection(tracks=("t05",)))
    before = objects(moto, s3)
    with monkeypatch.context() as patch:
        patch.setattr(url_target, "settle", lambda *_: None)
        push(store, s3, Selection(tracks=("t09",)))
    assert len(objects(moto, s3)) > len(before)
    assert check(s3) == {"t05"}
    push(store, s3)
    assert check(s3) == set(ALL)


def test_a_catalogue_lost_or_damaged_is_made_anew_of_the_pages(store, remote, tmp_path):
    push(store, remote, Selection(tracks=ALL[:6]))
    place = open_place(remote)
    for content in (b"{", json_bytes({"version": 1}), Catalogue().content()):
        place.write("catalogue.json", content)
        push(store, remote, Selection(tracks=ALL[:7]))
        assert check(remote) == set(ALL[:7])
        found = parse_catalogue(place.read("catalogue.json"), "it")
        assert set(found.manifests) == {"mine@0123456789ab"}


def test_pushes_at_once_all_count(tmp_path, remote):
    stores = [fill(tmp_path / f"s{k}", ALL[k::4]) for k in range(4)]
    at_once = threading.Barrier(4, timeout=60)

    def one(k):
        plan = plan_push(stores[k], remote)
        at_once.wait()
        plan.carry_out()

    threads = [threading.Thread(target=one, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert check(remote) == set(ALL)
    written = parse_catalogue(open_place(remote).read("catalogue.json"), "it")
    (manifest,) = written.manifests.values()
    assert sum(len(row.items) for row in manifest) == len(ALL)


def test_a_page_lost_in_a_race_comes_back(store, s3):
    push(store, s3, Selection(tracks=ALL[:4]))
    place = open_place(s3)
    old = place.read("catalogue.json")
    manifest = place.read("manifests/mine@0123456789ab.json")
    push(store, s3, Selection(tracks=ALL[4:8]))
    # What a slower pusher does on a server that knows no conditions, killed right after.
    place.write("catalogue.json", old)
    place.write("manifests/mine@0123456789ab.json", manifest)
    assert check(s3) == set(ALL[:8]), "readers who can list see the pages"
    push(store, s3, Selection(tracks=ALL[8:9]))
    found = parse_catalogue(place.read("catalogue.json"), "it")
    assert len(found.pages) == 4, "the first one lists nothing"
    assert place.read("manifests/mine@0123456789ab.json") == json_bytes(
        found.manifests["mine@0123456789ab"].record()
    )


@pytest.mark.parametrize("last", ["catalogue.json", "manifests/mine@0123456789ab.json"])
def test_what_a_slower_push_writes_over_is_written_again(tmp_path, monkeypatch, last):
    """Another push comes and goes between the look and the write, where no condition stops it."""
    fsspec.filesystem("memory").store.clear()
    remote = "memory://shared/store"
    push(fill(tmp_path / "a", ALL[:2]), remote)
    own, faster = UrlPlace.write, [fill(tmp_path / "b", ALL[2:4])]

    def write(self, name, content, tag=None):
        if name == last and faster:
            push(faster.pop(), remote)
        own(self, name, content, tag)

    monkeypatch.setattr(UrlPlace, "write", write)
    push(fill(tmp_path / "c", ALL[4:6]), remote)
    place = open_place(remote)
    found = parse_catalogue(place.read("catalogue.json"), "it").manifests["mine@0123456789ab"]
    assert {row.track for row in found if row.items} == set(ALL[:6])
    assert place.read("manifests/mine@0123456789ab.json") == json_bytes(found.record())


def test_conditions_of_writing_hold_where_the_server_knows_them(s3):
    place = open_place(s3)
    assert place.tag("catalogue.json") == ""
    place.write("catalogue.json", b"1", "")
    tag = place.tag("catalogue.json")
    with pytest.raises(RaceError):
        place.write("catalogue.json", b"2", "")
    place.write("catalogue.json", b"3", tag)
    with pytest.raises(RaceError):
        place.write("catalogue.json", b"4", tag)
    assert place.read("catalogue.json") == b"3"


def test_other_bytes_of_the_same_items_do_not_mix(tmp_path, s3):
    """The same keys, other provenance: as two machines compute them."""
    for name, version in (("a", "1"), ("b", "2")):
        store = FeatureStore.create(tmp_path / name)
        stream = store.create_stream(NAME, {"v": 1})
        with stream.writer({"versions": {"numpy": version}}) as writer:
            writer.add(new_item(stream, "t00"))
    plans = [plan_push(FeatureStore(tmp_path / name), s3) for name in "ab"]
    for plan in plans:
        plan.carry_out()
    there = FeatureStore(s3)
    assert len(there[NAME].shards) == 2
    assert verify(there) == []


def test_a_store_copied_there_by_hand_is_adopted(store, s3):
    system, path = fsspec.core.url_to_fs(s3)
    system.put(str(store.path), path, recursive=True)
    assert check(s3) == set(ALL)
    assert plan_push(store, s3).parcels == ()
    plan_push(store, s3).carry_out()
    assert "catalogue.json" in open_place(s3).files()
    assert check(s3) == set(ALL)


def test_a_server_that_is_cut_off_is_asked_again(tmp_path, s3, moto, monkeypatch):
    import s3fs

    store = fill(tmp_path / "a", ALL[:6], per_shard=2, how=ShardFormat("hdf5"), rows=2000)
    with Gate(moto) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.address)
        s3fs.S3FileSystem.clear_instance_cache()
        for act in (lambda: plan_push(store, s3), lambda: plan_pull(tmp_path / "b", s3)):
            plan = act()
            at = gate.moved + plan.bytes // 2
            cut = threading.Thread(target=cut_at, args=(gate, at))
            cut.start()
            plan.carry_out()
            cut.join()
    s3fs.S3FileSystem.clear_instance_cache()
    assert check(tmp_path / "b", rows=2000) == set(ALL[:6])


def cut_at(gate, moved):
    while gate.moved < moved:
        time.sleep(0.001)
    gate.cut(0.1)
