"""Files and folders appear whole or not at all."""

from __future__ import annotations

import json
import math
import threading

import pytest
from concord.cache.atomic import (
    TEMPORARY,
    atomic_write,
    publish_folder,
    temporary_sibling,
    write_json,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_makes_folders_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    atomic_write(path, b"one")
    atomic_write(path, b"two, longer")
    assert path.read_bytes() == b"two, longer"
    assert names(path.parent) == ["file"]


def test_write_fails_without_a_trace(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").touch()
    with pytest.raises(OSError, match="taken"):
        atomic_write(tmp_path / "taken", b"content")
    assert names(tmp_path) == ["taken"]
    assert names(tmp_path / "taken") == ["inside"]


def test_reader_never_sees_a_half_file(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([65 + k]) * (200_000 + k) for k in range(2)]
    atomic_write(path, contents[0])
    seen, stop = set(), threading.Event()

    def read():
        while not stop.wait(0.0005):
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for k in range(100):
        atomic_write(path, contents[k % 2])
    stop.set()
    reader.join()
    assert seen
    assert seen <= set(contents)


def test_temporary_names_are_hidden_unique_and_short(tmp_path):
    path = tmp_path / ("n" * 250)
    found = {temporary_sibling(path) for _ in range(20)}
    assert len(found) == 20
    assert all(p.parent == tmp_path and p.name.startswith(TEMPORARY) for p in found)
    for p in found:
        p.touch()


def test_json_has_one_form(tmp_path):
    write_json(tmp_path / "a", {"b": [1, 2.5, None], "a": "ü"})
    write_json(tmp_path / "b", {"a": "ü", "b": [1, 2.5, None]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes().endswith(b"\n")
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8")) == {
        "a": "ü",
        "b": [1, 2.5, None],
    }
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "c", math.nan)
    assert not (tmp_path / "c").exists()


def test_first_publisher_wins(tmp_path):
    for content in ("first", "second"):
        folder = tmp_path / f"{TEMPORARY}{content}"
        folder.mkdir()
        (folder / "file").write_text(content)
        won = publish_folder(folder, tmp_path / "final")
        assert won == (content == "first")
    assert (tmp_path / "final" / "file").read_text() == "first"
    assert names(tmp_path) == ["final"]


def test_publishing_over_a_file_is_an_error(tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    (tmp_path / "final").write_text("a file")
    with pytest.raises(OSError, match="final"):
        publish_folder(folder, tmp_path / "final")
    assert (tmp_path / "final").read_text() == "a file"
