"""A folder as the store of many users: rights stay the group's, and pins hold for all."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import traceback
from pathlib import Path

import pytest
from concord.cache import FeatureStore, Manifest, ShardFormat, StoreError
from concord.cache.collect import Roots, plan_collection
from concord.cache.pins import FOLDER as PINS
from concord.cache.pins import pin, pins, unpin
from concord.cache.repair import repair
from concord.cache.rights import make_folder
from concord.cache.transfer import plan_pull, plan_push
from concord.cache.transfer_log import Told, logged, transfers
from concord.cache.verify import verify

from .remotes import ALL, NAME, RECIPE, check, fill, new_item

TEAM, ADA, BO = 54321, 54322, 54323
"""A group, and two of its users, each with a group of their own."""
SIZE = {"rows": 20, "dim": 4}
many_users = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users")


def modes(root):
    """Path to rights and group, of a folder and all below it."""
    found = {}
    for path in (root, *root.rglob("*")):
        now = path.stat()
        found[path] = stat.S_IMODE(now.st_mode), now.st_gid, path.is_dir()
    return found


def check_rights(root, group=None):
    for path, (mode, gid, folder) in modes(root).items():
        expected = 0o2070 if folder else 0o060
        assert mode & expected == expected, (path, oct(mode))
        assert not mode & 0o002, (path, oct(mode))
        assert gid == (root.stat().st_gid if group is None else group), path


@pytest.fixture
def umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def shared(tmp_path, umask):
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(0o2770)
    return root


@pytest.mark.parametrize("how", ["zarr", "hdf5"])
def test_all_that_is_made_keeps_the_groups_rights(shared, tmp_path, how):
    store = fill(shared / "team" / "store", ALL[:4], how=ShardFormat(how), **SIZE)
    pin(store, "mine", "paper")
    _ = store.digests.file(store.path / "store.json")
    with logged(store.path, "push", "lab", Told()):
        pass
    check_rights(shared)
    plan_push(store, shared / "remote").carry_out()
    plan_pull(shared / "pulled", shared / "remote").carry_out()
    fill(store.path, ALL[4:6], how=ShardFormat(how), **SIZE)
    (shard, *_) = FeatureStore(store.path)[NAME].shards
    path = Path(shard.path, "shard.h5" if how == "hdf5" else "x/c/0/0")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    opened = FeatureStore(store.path)
    assert repair(opened, verify(opened))
    assert any((store.path / "damaged").rglob("*"))
    assert any((store.path / "inputs").rglob("*.json"))
    check_rights(shared)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777, 0o1777])
def test_nothing_is_opened_up_elsewhere(tmp_path, umask, mode):
    root = tmp_path / "own"
    root.mkdir()
    root.chmod(mode)
    fill(root / "store", ALL[:2], **SIZE)
    for path, (found, _, folder) in modes(root / "store").items():
        assert found == (0o700 if folder else 0o600), path


def test_a_folder_without_setgid_hands_down_writing_alone(tmp_path, umask):
    root = tmp_path / "own"
    root.mkdir()
    root.chmod(0o770)
    fill(root / "store", ALL[:2], **SIZE)
    for path, (found, _, folder) in modes(root / "store").items():
        assert found == (0o770 if folder else 0o660), path


def test_a_folder_may_be_made_by_two_at_once(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "x")


# --- several users


def act_as(user, task, umask=0o077):
    """Run a function in a process of another user, with the group as one of several."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.umask(umask)
            os.setgroups([TEAM])
            os.setgid(user)
            os.setuid(user)
            task()
            code = 0
        except BaseException:  # noqa: BLE001 - nothing of the parent's may run in the child
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """All modules that a store uses are loaded: other users may not be able to read them."""
    path = tmp_path_factory.mktemp("loaded")
    store = fill(path / "store", ALL[:2], **SIZE)
    pin(store, NAME)
    plan_push(store, path / "remote").carry_out()
    assert check(path / "remote", **SIZE) == set(ALL[:2])
    plan_collection(store, Roots(nothing=True), 0.0).delete()
    with logged(path, "push", "x", Told()):
        pass


@pytest.fixture
def team(loaded):
    """A folder of the group's, which other users reach."""
    outside = Path(tempfile.mkdtemp(prefix="concord-team-"))
    outside.chmod(0o755)
    folder = outside / "team"
    folder.mkdir()
    os.chown(folder, 0, TEAM)
    folder.chmod(0o2770)
    yield folder
    shutil.rmtree(outside)


def add(path, name, tracks, recipe=None):
    store = FeatureStore.create(path)
    stream = store.create_stream(name, recipe or RECIPE)
    with stream.writer() as writer:
        for track in tracks:
            writer.add(new_item(stream, track, **SIZE))
    return stream


@many_users
def test_two_users_write_one_store(team):
    path = team / "store"

    def bo():
        assert check(path, **SIZE) == set(ALL[:4])
        fill(path, ALL[4:8], **SIZE)
        add(path, "audio/y", ["a"])
        with logged(path, "push", "bo's", Told()):
            pass
        plan_push(FeatureStore(path), team / "remote").carry_out()

    def ada():
        fill(path, ALL[:4], **SIZE)
        with logged(path, "push", "ada's", Told()):
            pass

    def ada_again():
        fill(path, ALL[8:], **SIZE)
        assert len(FeatureStore(path)[NAME].items) == 12
        plan_push(FeatureStore(path), team / "remote").carry_out()
        assert len(FeatureStore(team / "remote")[NAME].items) == 12

    act_as(ADA, ada)
    act_as(BO, bo)
    act_as(ADA, ada_again)
    check_rights(team, TEAM)
    assert {p.stat().st_uid for p in path.rglob("*")} == {ADA, BO}
    assert verify(FeatureStore(path)) == []
    assert [each["remote"] for each in transfers(path)][::2] == ["ada's", "bo's"]


def collect(path, **named):
    store = FeatureStore(path)
    roots = Roots(nothing=True, **named)
    return plan_collection(store, roots, 0.0).delete()


@many_users
def test_nobody_collects_what_anothers_pin_needs(team):
    path = team / "store"

    def ada():
        for name in ("visual/pinned", "visual/loose"):
            add(path, name, ALL[:3])
        store = fill(path, ALL[:3], **SIZE)
        (manifest,) = store.manifests()
        pin(store, "visual/pinned", "Ada's paper")
        # An edition that only a pin holds: a newer one is there.
        store.save_manifest(Manifest("mine", "newer", manifest.tracks))
        pin(store, f"mine@{manifest.edition}", "Ada's second")

    def bo():
        assert [each.note for each in pins(FeatureStore(path))] == ["Ada's second", "Ada's paper"]
        removed = collect(path).removed
        assert [each.name.partition("@")[0] for each in removed] == ["visual/loose"]
        left = FeatureStore(path)
        assert {stream.name for stream in left.streams()} == {NAME, "visual/pinned"}
        assert {manifest.edition for manifest in left.manifests()} == {"0123456789ab", "newer"}
        assert check(path, **SIZE) == set(ALL[:3])
        assert len(left["visual/pinned"].items) == 3

    act_as(ADA, ada)
    act_as(BO, bo)

    def ada_lets_go():
        unpin(FeatureStore(path), "visual/pinned")

    def bo_again():
        names = [each.name.partition("@")[0] for each in collect(path).removed]
        assert names == ["visual/pinned"]

    act_as(ADA, ada_lets_go)
    act_as(BO, bo_again)


@many_users
def test_a_pin_that_cannot_be_read_stops_collecting(team):
    path = team / "store"

    def ada():
        add(path, "visual/x", ALL[:2])
        pin(FeatureStore(path), "visual/x")
        (file,) = (path / PINS).iterdir()
        file.chmod(0o600)

    def bo():
        with pytest.raises(StoreError, match="cannot be read"):
            collect(path)
        assert len(FeatureStore(path)["visual/x"].items) == 2

    act_as(ADA, ada)
    act_as(BO, bo)


@many_users
def test_what_a_killed_user_leaves_stops_nobody(team):
    path = team / "store"

    def ada():
        stream = add(path, "visual/x", ALL[:2])
        writer = stream.writer().__enter__()
        writer.add(new_item(stream, ALL[2], **SIZE))
        (path / ".tmp-left-by-ada").mkdir()
        os._exit(0)

    def bo():
        add(path, "visual/x", ALL[2:4])
        assert len(FeatureStore(path)["visual/x"].items) == 4

    act_as(ADA, ada)
    act_as(BO, bo)
