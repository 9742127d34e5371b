"""The log of transfers: a line before and a line after, and no secret in either."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from concord.cache import StoreError
from concord.cache.transfer_log import FILE, Told, logged, transfers, without_secrets

WRITER = """
import sys
from pathlib import Path
from concord.cache.transfer_log import Told, logged
for k in range(50):
    with logged(Path(sys.argv[1]), "push", "x" * 3000, Told(items=k)) as told:
        told.done = True
"""


def test_a_line_before_and_a_line_after(tmp_path):
    told = Told(streams=("visual/x@" + "0" * 64,), manifests=("a@b",), shards=2, items=5, bytes=9)
    with logged(tmp_path / "new", "push", "lab", told) as log:
        (begun,) = transfers(tmp_path / "new")
        log.items, log.done = 3, True
    first, last = transfers(tmp_path / "new")
    assert first == begun
    assert (first["state"], first["items"]) == ("begun", 5)
    assert (last["state"], last["items"], last["id"]) == ("done", 3, first["id"])
    assert last["time"].endswith("+00:00")
    same = {"direction": "push", "remote": "lab", "shards": 2, "bytes": 9, "manifests": ["a@b"]}
    assert same.items() <= last.items()
    assert last["user"]


def test_what_is_broken_off_is_logged_as_such(tmp_path):
    with pytest.raises(KeyboardInterrupt), logged(tmp_path, "pull", "lab", Told()):
        raise KeyboardInterrupt
    assert [each["state"] for each in transfers(tmp_path)] == ["begun", "broken off"]


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("lab", "lab"),
        ("/mnt/a@b/store", "/mnt/a@b/store"),
        ("s3://team/store", "s3://team/store"),
        ("https://me:5ecre7@host:8443/a/b?token=5ecre7#5ecre7", "https://host:8443/a/b"),
        ("sftp://me@host/a", "sftp://host/a"),
        ("simplecache::https://me:5ecre7@host/a", "simplecache::https://host/a"),
        ("https://[me:5ecre7@host/a", "https://…"),
    ],
)
def test_no_secret(tmp_path, url, plain):
    assert without_secrets(url) == plain
    with logged(tmp_path, "push", url, Told()):
        pass
    assert "5ecre7" not in (tmp_path / FILE).read_text()


def test_nothing_travels_that_cannot_be_logged(tmp_path):
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be logged"), logged(tmp_path, "push", "x", Told()):
        pytest.fail("it travelled")
    assert not (tmp_path / "elsewhere").exists()


def test_lines_of_several_processes_do_not_mix(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    lines = (tmp_path / FILE).read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 300
    assert len(list(transfers(tmp_path))) == 300
