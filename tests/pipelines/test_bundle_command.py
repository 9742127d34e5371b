"""`concord cache bundle` and `unbundle`: rules, card and log, as people call them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from concord.cache import FeatureStore
from concord.cache.archive import open_archive
from concord.cache.transfer_log import transfers
from concord.pipelines import commands_remote

from ..cache.remotes import ALL, EDITION, NAME, check, fill
from .conftest import as_json
from .test_cache_commands import write
from .test_sharing import grant

SIZE = {"rows": 20, "dim": 4}


@pytest.fixture
def run(cache_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONCORD_STORE", "mine")
    return cache_command


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "mine", **SIZE)


def card_of(path):
    with open_archive(Path(path)) as archive:
        return b"".join(archive.blocks("README.md")).decode()


def test_there_and_back(store, run, tmp_path):
    grant(run, "--edition", EDITION[:6], "--note", "research *only*", covers="partner")
    made = as_json(run("bundle", tmp_path / "out.tar", "--to", "partner", "--json"))
    assert made["items"] == 12
    code, out, _ = run("unbundle", "out.tar", "--store", "theirs")
    assert code == 0
    assert f"12 items in 3 shards; manifests: mine@{EDITION}" in out
    assert check("theirs", **SIZE) == set(ALL)
    assert run("verify", "theirs")[0] == 0
    *_, sent = transfers(store.path)
    *_, taken = transfers(tmp_path / "theirs")
    assert (sent["direction"], sent["remote"], sent["items"]) == ("bundle", "partner", 12)
    assert (taken["direction"], taken["remote"], taken["items"]) == ("unbundle", "out.tar", 12)


def test_the_card_says_what_is_in_it(store, run, tmp_path):
    grant(run, "--expires", "2999-01-01", "--citation", "Ada 2026", covers="partner")
    run("bundle", "out.zip", "--to", "partner", "--split", "val")
    card = card_of(tmp_path / "out.zip")
    for text in (
        f"# Features of mine@{EDITION}",
        "| train | 6 | 120 |",
        f"| mine@{EDITION} | val | 6 of 6 tracks |",
        f"| mine@{EDITION} | train | 0 of 6 tracks |",
        f"## Stream {NAME}@{store[NAME].digest[:12]}",
        "6 items of 4 x float16; pooled vectors.",
        '"sensitivity": "vectors"',
        '"numpy": "2"',
        "signed by Ada for every edition, which covers partner, until 2999-01-01",
        "Ada 2026",
    ):
        assert text in card, text
    assert str(tmp_path) not in card


def test_the_rules_of_push_hold(store, run, tmp_path):
    write(store, "labels/va", {"columns": ["valence", "arousal"]}, ("a", "b"), dim=2)
    out = tmp_path / "out.tar"
    assert "no licence record" in run("bundle", out, "--stream", NAME)[2]
    grant(run, covers="partner")
    for arguments, problem in (
        (("--stream", NAME), "go to nobody"),
        (("--stream", NAME, "--to", "other"), "covers partner"),
        (("--to", "partner"), "--sensitive"),
    ):
        code, _, err = run("bundle", out, *arguments)
        assert code == 2
        assert problem in err
        assert not out.exists()
    assert list(transfers(store.path)) == []
    assert run("bundle", out, "--to", "partner", "--sensitive")[0] == 0
    assert "**shows people**" in card_of(out)
    code, _, err = run("bundle", out, "--without-licence", "--sensitive")
    assert code == 5
    assert "is there already" in err
    assert run("bundle", "other.tar", "--without-licence", "--sensitive")[0] == 0
    assert "No licence record" in card_of("other.tar")
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_large_bundle_is_asked_about(store, run, tmp_path, monkeypatch):
    grant(run, covers="*")
    monkeypatch.setattr(commands_remote, "ASK_BYTES", 10)
    code, _, err = run("bundle", "out.tar")
    assert code == 2
    assert "--yes" in err
    assert not (tmp_path / "out.tar").exists()
    assert run("bundle", "out.tar", "--yes")[0] == 0


def test_what_was_damaged_on_the_way_is_refused(store, run, tmp_path):
    grant(run, covers="*")
    run("bundle", "out.tar")
    content = bytearray((tmp_path / "out.tar").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "out.tar").write_bytes(content)
    code, _, err = run("unbundle", "out.tar", "--store", "theirs")
    assert code == 5
    assert re.search(r"out\.tar: damaged", err)
    assert not (tmp_path / "theirs").exists()


def test_the_demo_needs_no_record(tiny_demo, run, tmp_path):
    shutil.copytree(tiny_demo / "results" / "demo" / "store", tmp_path / "mine")
    assert run("bundle", "demo.zip")[0] == 0
    assert run("unbundle", "demo.zip", "--store", "theirs")[0] == 0
    mine, theirs = FeatureStore("mine"), FeatureStore("theirs")
    assert mine.manifests() == theirs.manifests()
    for stream in mine.streams():
        listed = {row.items.get(stream.full_name) for m in mine.manifests() for row in m} - {None}
        assert theirs[stream.name].items.keys() == listed
    card = card_of("demo.zip")
    assert mine["visual/resnet18"].recipe["weights"] in card
    assert '"torch"' in card
    assert str(tiny_demo) not in card
