"""The rules of sharing, by command: what is pushed, what is refused, what is logged."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from concord.cache import FeatureStore
from concord.cache.transfer_log import transfers
from concord.pipelines.demo import PROFILES
from concord.pipelines.sharing import is_demo

from ..cache.remotes import EDITION, NAME, check, fill, new_item
from .conftest import as_json
from .test_cache_commands import write


@pytest.fixture
def run(cache_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONCORD_STORE", raising=False)
    cache_command("remote", "add", "lab", tmp_path / "lab")
    return cache_command


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "mine", rows=20, dim=4)


def grant(run, *more, dataset="mine", covers="lab"):
    arguments = ("licence", "add", dataset, "--signed-by", "Ada", "--covers", covers, *more)
    assert run(*arguments)[0] == 0


PUSH = ("push", "lab", "--store", "mine")


def test_without_a_record_nothing_leaves(store, run, tmp_path):
    code, _, err = run(*PUSH)
    assert code == 2
    assert f"mine@{EDITION}: no licence record lets its features go to lab" in err
    assert not (tmp_path / "lab").exists()
    assert list(transfers(store.path)) == []
    grant(run, covers="other")
    code, _, err = run(*PUSH)
    assert code == 2
    assert "signed by Ada covers other" in err
    assert not (tmp_path / "lab").exists()
    assert run(*PUSH, "--without-licence")[0] == 0
    assert len(check(tmp_path / "lab", rows=20, dim=4)) == 12


@pytest.mark.parametrize("typed", ["lab", "{tmp}/lab"])
@pytest.mark.parametrize("covers", ["lab", "{tmp}/lab"])
def test_a_remote_is_covered_by_name_or_place(store, run, tmp_path, typed, covers):
    grant(run, covers=covers.format(tmp=tmp_path))
    assert run("push", typed.format(tmp=tmp_path), "--store", "mine")[0] == 0


def test_a_record_that_has_ended_or_is_of_another_edition_covers_nothing(store, run, tmp_path):
    grant(run, "--expires", "2020-01-01")
    code, _, err = run(*PUSH)
    assert code == 2
    assert "ended on 2020-01-01" in err
    grant(run, "--edition", "ABAW6", "--expires", "2999-01-01")
    code, _, err = run(*PUSH)
    assert code == 2
    assert "is of edition ABAW6" in err
    grant(run, "--expires", "2999-01-01")
    assert run(*PUSH)[0] == 0


def test_what_shows_people_must_be_meant(store, run, tmp_path):
    write(store, "labels/va", {"columns": ["valence", "arousal"]}, ("a", "b"), dim=2)
    grant(run)
    code, _, err = run(*PUSH)
    assert code == 2
    assert "push lab: labels/va@" in err
    assert NAME not in err
    assert not (tmp_path / "lab").exists()
    assert run(*PUSH, "--stream", NAME)[0] == 0
    assert [stream.name for stream in FeatureStore(tmp_path / "lab").streams()] == [NAME]
    assert run(*PUSH, "--sensitive")[0] == 0
    assert len(FeatureStore(tmp_path / "lab")["labels/va"].items) == 2


def test_items_of_no_known_data_set_stay(store, run, tmp_path):
    with store[NAME].writer() as writer:
        writer.add(new_item(store[NAME], "nobody's", rows=20, dim=4))
    grant(run)
    code, _, err = run(*PUSH)
    assert code == 2
    assert "\"nobody's\" is in no data set's manifest" in err
    assert run(*PUSH, "--dataset", "mine")[0] == 0
    assert len(FeatureStore(tmp_path / "lab")[NAME].items) == 12
    assert run(*PUSH, "--without-licence")[0] == 0
    assert len(FeatureStore(tmp_path / "lab")[NAME].items) == 13


def test_every_transfer_is_logged(store, run, tmp_path):
    grant(run)
    moved = as_json(run(*PUSH, "--json"))
    begun, done = transfers(store.path)
    assert (begun["state"], done["state"]) == ("begun", "done")
    assert (done["direction"], done["remote"]) == ("push", "lab")
    assert done["streams"] == [store[NAME].full_name]
    assert {name: done[name] for name in ("items", "shards", "bytes")} == {
        name: moved[name] for name in ("items", "shards", "bytes")
    }
    as_json(run("pull", "lab", "--store", "other", "--json"))
    as_json(run("pull", "lab", "--store", "third", "--manifest", "--json"))
    assert [each["direction"] for each in transfers(tmp_path / "other")] == ["pull", "pull"]
    *_, tables = transfers(tmp_path / "third")
    assert (tables["items"], tables["manifests"]) == (0, [f"mine@{EDITION}"])
    assert run("verify", "other")[0] == 0


def test_records_by_command(run):
    grant(run, "--expires", "2027-12-31", "--edition", "ABAW6", "--note", "for research")
    (record,) = as_json(run("licence", "ls", "--json"))
    assert record == {
        "dataset": "mine",
        "signed_by": "Ada",
        "covers": ["lab"],
        "expires": "2027-12-31",
        "edition": "ABAW6",
        "note": "for research",
        "citation": "",
    }
    assert "ABAW6" in run("licence", "ls")[1]
    assert (
        run("licence", "add", "mine", "--signed-by", "A", "--covers", "x", "--expires", "?")[0] == 2
    )
    assert run("licence", "rm", "mine")[0] == 0
    assert run("licence", "rm", "mine")[0] == 5


def test_the_demo_may_go_anywhere(tiny_demo, run, tmp_path):
    shutil.copytree(tiny_demo / "results" / "demo" / "store", tmp_path / "mine")
    (manifest,) = FeatureStore("mine").manifests()
    assert is_demo(manifest)
    assert run(*PUSH)[0] == 0
    assert {s.name for s in FeatureStore("lab").streams()} >= {"labels/va", "visual/resnet18"}


def test_a_name_alone_does_not_make_a_demo(store):
    (manifest,) = store.manifests()
    assert not is_demo(replace(manifest, dataset="demo"))
    assert not is_demo(replace(manifest, dataset="demo", tracks=()))
    (clip, *_) = PROFILES["tiny"].clips
    rows = (replace(manifest.tracks[0], track=clip.name, split=clip.split, rows=clip.rows),)
    assert is_demo(replace(manifest, tracks=rows))
    rows = (replace(rows[0], rows=clip.rows + 1),)
    assert not is_demo(replace(manifest, dataset="demo", tracks=rows))
