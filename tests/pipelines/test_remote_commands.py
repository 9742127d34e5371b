"""`concord cache remote|push|pull|diff|ls`, as people and programs call them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from concord.cache import FeatureStore
from concord.cache.licences import Licence, add_licence
from concord.pipelines import commands_remote

from ..cache.remotes import ALL, NAME, check, command, fill
from ..cache.servers import KEY, SECRET, moto, new_bucket, nginx
from .conftest import as_json


@pytest.fixture
def run(cache_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONCORD_STORE", raising=False)
    add_licence(tmp_path, Licence(dataset="mine", signed_by="Ada", covers=("*",)))
    return cache_command


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "mine")


def test_names_of_remotes(run, tmp_path):
    assert as_json(run("remote", "ls", "--json")) == []
    assert run("remote", "add", "lab", "s3://team/store")[0] == 0
    assert run("remote", "add", "web", "https://host/store")[0] == 0
    assert run("remote", "add", "lab", tmp_path / "shared")[0] == 0
    listed = {each["name"]: each["url"] for each in as_json(run("remote", "ls", "--json"))}
    assert listed == {"lab": str(tmp_path / "shared"), "web": "https://host/store"}
    assert "https://host/store" in run("remote", "ls")[1]
    assert run("remote", "rm", "web")[0] == 0
    assert run("remote", "rm", "web")[0] == 5
    record = json.loads(Path("concord.remotes.json").read_text())
    assert record == {"version": 1, "remotes": {"lab": str(tmp_path / "shared")}}
    code, _, err = run("push", "lob", "--store", "mine")
    assert code == 5
    assert "remotes here: lab" in err


@pytest.mark.parametrize(
    ("name", "url"),
    [("a b", "s3://x/y"), ("x", "https://me:5ecre7@host/"), ("x", "https://h/s?token=5ecre7")],
)
def test_names_and_urls_that_are_refused(run, name, url):
    code, out, err = run("remote", "add", name, url)
    assert code == 2
    assert "5ecre7" not in out + err
    assert not Path("concord.remotes.json").exists()


def test_a_secret_written_into_the_file_by_hand_is_refused(run):
    text = {"version": 1, "remotes": {"lab": "https://me:5ecre7@host/store"}}
    Path("concord.remotes.json").write_text(json.dumps(text))
    for arguments in (("remote", "ls"), ("push", "lab", "--store", "mine"), ("ls", "lab")):
        code, out, err = run(*arguments)
        assert code == 2
        assert "may not carry" in err
        assert "5ecre7" not in out + err


def test_push_ls_diff_pull(store, run, tmp_path):
    run("remote", "add", "lab", tmp_path / "shared" / "store")
    moved = as_json(run("push", "lab", "--store", "mine", "--split", "val", "--json"))
    assert (moved["items"], moved["damaged"]) == (6, [])
    rows = as_json(run("ls", "lab", "--split", "val", "--stream", NAME, "--json"))
    assert [row["track"] for row in rows] == list(ALL[::2])
    assert as_json(run("ls", "lab", "--track", "t01", "--json")) == []
    assert as_json(run("ls", "lab", "--json"))["streams"][0]["items"] == 6
    (found,) = as_json(run("diff", "lab", "--store", "mine", "--json"))
    assert (found["both"], found["here"]) == (list(ALL[::2]), list(ALL[1::2]))
    assert "visual/x" in run("diff", "lab", "--store", "mine")[1]
    code, out, err = run("push", "lab", "--store", "mine")
    assert code == 0
    assert "6 items" in out
    assert "MB" in err
    assert "the same in both" in run("diff", "lab", "--store", "mine")[1]
    changed = as_json(run("pull", "lab", "--store", "other", "--manifest", "--json"))
    assert changed == {"manifests": ["mine@0123456789ab"]}
    assert FeatureStore("other").streams() == ()
    assert as_json(run("pull", "lab", "--store", "other", "--json"))["items"] == 12
    assert check("other") == set(ALL)
    assert run("info", "lab", NAME)[0] == 0


def test_which_store(store, run, monkeypatch, tmp_path):
    code, _, err = run("push", tmp_path / "shared")
    assert code == 2
    assert "--store" in err
    monkeypatch.setenv("CONCORD_STORE", "mine")
    assert run("push", tmp_path / "shared")[0] == 0
    monkeypatch.delenv("CONCORD_STORE")
    settings = json.dumps({"store": "mine"})
    assert "0 items" in run("push", tmp_path / "shared", "--config", settings)[1]


def test_large_transfers_are_asked_about(store, run, tmp_path, monkeypatch):
    monkeypatch.setattr(commands_remote, "ASK_BYTES", 1000)
    code, _, err = run("push", tmp_path / "shared", "--store", "mine")
    assert code == 2
    assert "--yes" in err
    assert "12 items, 0." in err
    assert not (tmp_path / "shared").exists()
    assert run("push", tmp_path / "shared", "--store", "mine", "--yes")[0] == 0
    assert check(tmp_path / "shared") == set(ALL)


def test_damage_at_the_remote_is_told_by_exit_code(store, run, tmp_path):
    run("push", tmp_path / "shared", "--store", "mine")
    shard = FeatureStore(tmp_path / "shared")[NAME].shards[0]
    Path(shard.path, "x/c/0/0").write_bytes(bytes(Path(shard.path, "x/c/0/0").stat().st_size))
    code, _, err = run("pull", tmp_path / "shared", "--store", "other")
    assert code == 7
    assert "4 items stayed" in err
    assert len(check("other")) == 8


def test_a_remote_that_does_not_answer(store, run, monkeypatch):
    from concord.cache import drivers

    monkeypatch.setattr(drivers, "PAUSE_SECONDS", 0.0)
    code, _, err = run("pull", "http://127.0.0.1:9/store", "--store", "other")
    assert code == 10
    assert "tries failed" in err


def test_https_from_a_server_that_is_trusted_and_from_one_that_is_not(store, run, tmp_path):
    run("push", tmp_path / "shared" / "store", "--store", "mine")
    with nginx(tmp_path / "nginx", tmp_path / "shared", tls=True) as address:
        arguments = ("pull", f"{address}/store", "--store", tmp_path / "other")
        process = command(*arguments)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 10, err
        assert "ClientConnectorCertificateError" in err
        assert not (tmp_path / "other").exists()
        trusted = {"SSL_CERT_FILE": str(tmp_path / "nginx" / "own.pem")}
        process = command(*arguments, environment=trusted)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert check(tmp_path / "other") == set(ALL)


@pytest.fixture
def s3(tmp_path_factory, monkeypatch):
    with moto(tmp_path_factory.mktemp("moto")) as address:
        yield new_bucket(address, monkeypatch)


def test_credentials_turn_up_nowhere(run, store, s3, tmp_path, monkeypatch):
    """Of what a command prints, writes and sends, in success and in failure."""
    said = []
    for arguments, code in [
        (("remote", "add", "lab", s3), 0),
        (("push", "lab", "--store", "mine"), 0),
        (("pull", "lab", "--store", "other"), 0),
        (("ls", "lab"), 0),
        (("diff", "lab", "--store", "mine"), 0),
        (("push", s3.replace("/store", "-none/store"), "--store", "mine"), 10),
        (("pull", f"{s3}-none", "--store", "third"), 5),
    ]:
        process = command(*arguments, folder=tmp_path)
        said += process.communicate(timeout=120)
        assert process.returncode == code, said
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    # Ours are six tries; the driver would try several times in each.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    process = command("pull", "lab", "--store", "third", folder=tmp_path)
    said += process.communicate(timeout=120)
    assert process.returncode == 10, said
    assert not any(word in text for text in said for word in (SECRET, KEY))
    search = ["grep", "-rlF", "-e", SECRET, "-e", KEY, tmp_path]
    assert subprocess.run(search, capture_output=True, check=False).stdout == b""
