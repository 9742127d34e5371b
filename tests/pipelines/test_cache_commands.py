"""`concord cache`: every command on a real store, for people and for programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from concord.cache import FeatureStore, Identity, Manifest, ManifestTrack, NewItem

from .conftest import as_json

RECIPE = {"v": 1, "sensitivity": "vectors"}


def write(store, name, recipe, tracks, edition="e1", dim=4):
    """One item per track, a shard each, and a manifest that lists them."""
    stream = store.create_stream(name, recipe)
    listed = []
    for number, track in enumerate(tracks):
        rows = np.full((300 + number, dim), number + 1, np.float16)
        rows[:, 0] = 0
        media = f"{number:064x}"
        identity = Identity(recipe=stream.digest, rows=len(rows), inputs={"media": media})
        with stream.writer({"versions": {"numpy": "2"}}) as writer:
            writer.add(
                NewItem(
                    key=identity.key,
                    track=track,
                    rows=rows,
                    valid=np.ones(len(rows), bool),
                    times=np.arange(len(rows)) / 25,
                    identity=identity.record(),
                )
            )
        listed.append(
            ManifestTrack(
                track=track,
                source=track,
                split="train" if number else "val",
                family=track,
                rows=len(rows),
                rate=25.0,
                items={stream.full_name: identity.key},
            )
        )
    store.save_manifest(Manifest("mine", edition, tuple(listed)))
    return stream


@pytest.fixture
def store(tmp_path):
    made = FeatureStore.create(tmp_path / "project" / "store")
    write(made, "visual/x", RECIPE, ("a", "b", "c"))
    return made


@pytest.fixture
def run(cache_command):
    return cache_command


def flip(shard, name="x/c/0/0", at=100):
    path = f"{shard.path}/{name}"
    with Path(path).open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_ls(store, run):
    found = as_json(run("ls", store.path, "--json"))
    (stream,) = found["streams"]
    assert stream["items"] == 3
    assert stream["rows"] == 903
    assert stream["dtype"] == "float16"
    assert found["manifests"] == [{"manifest": "mine@e1", "tracks": 3}]
    code, out, _ = run("ls", store.path)
    assert code == 0
    assert "visual/x@" in out
    assert "mine@e1" in out


def test_info(store, run):
    found = as_json(run("info", store.path, "visual/x", "--json"))
    assert found["recipe"] == RECIPE
    assert found["sensitivity"] == "vectors"
    assert found["tracks"] == ["a", "b", "c"]
    assert found["versions"] == [{"numpy": "2"}]
    assert found["coverage"] == {"mine@e1": {"train": "2 of 2 tracks", "val": "1 of 1 tracks"}}
    assert "recipe" in run("info", store.path, "visual/x")[1]


def test_why_names_the_part_that_differs(store, run):
    write(store, "visual/x", {**RECIPE, "v": 2}, ("a", "b", "c"), edition="e2")
    one, two = (f"{store.path}/{s.name}@{s.digest[:8]}" for s in store.streams())
    found = as_json(run("why", f"{one}/a", f"{two}/a", "--json"))["differences"]
    assert found == [{"part": "recipe.v", "a": found[0]["a"], "b": 3 - found[0]["a"]}]
    found = as_json(run("why", f"{one}/a", f"{one}/b", "--json"))["differences"]
    assert [each["part"] for each in found] == ["inputs.media", "rows"]
    assert "inputs.media" in run("why", f"{one}/a", f"{one}/b")[1]
    assert "one item" in run("why", f"{one}/a", f"{one}/a")[1]


def test_why_takes_editions_and_keys(store, run):
    stream = store["visual/x"]
    key = stream["b"].key
    found = as_json(run("why", f"{store.path}/{key[:12]}", f"{store.path}/{key}", "--json"))
    assert found == {"a": key, "b": key, "differences": []}
    path = f"{store.path}/visual/x/mine@e1/b"
    assert as_json(run("why", path, f"{store.path}/{key}", "--json"))["differences"] == []


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("nowhere/at/all", 5, "no part of this path is a store"),
        ("{store}/visual/x/zz", 5, "not listed in mine@e1"),
        ("{store}/visual", 2, "expected STORE/STREAM/TRACK"),
        ("{store}/ffffffff", 5, "none"),
    ],
)
def test_why_says_what_is_wrong_with_a_name(store, run, name, code, says):
    result = run("why", name.format(store=store.path), f"{store.path}/visual/x/a")
    assert result[0] == code
    assert says in result[2]


def test_stats(store, run):
    found = as_json(run("stats", store.path, "visual/x", "--json"))
    assert found["rows"] == 903
    assert found["dead"] == [0]
    assert np.isclose(found["dimensions"]["mean"][1], (300 + 301 * 2 + 302 * 3) / 903)
    part = as_json(run("stats", store.path, "visual/x", "--of", "mine", "--split", "val", "--json"))
    assert part["rows"] == 300
    assert run("stats", store.path, "visual/x", "--split", "val")[0] == 2
    assert "dead" in run("stats", store.path, "visual/x")[1]


def test_export(store, run, tmp_path):
    as_json(run("export", store.path, "visual/x", tmp_path / "out.npz", "--json"))
    with np.load(tmp_path / "out.npz") as found:
        assert np.array_equal(found["b/rows"], store["visual/x"]["b"].rows)
    code, out, _ = run("export", store.path, "visual/x", tmp_path / "out", "--of", "mine@e1")
    assert code == 0
    assert "3 tracks" in out
    assert run("export", store.path, "visual/x", tmp_path / "out")[0] == 5


def test_export_of_what_shows_people_must_be_meant(store, run, tmp_path):
    write(store, "labels/va", {"columns": ["valence", "arousal"]}, ("a",), edition="e2", dim=2)
    arguments = ("export", store.path, "labels/va", tmp_path / "out.npz")
    code, _, err = run(*arguments)
    assert code == 2
    assert "labels/va@" in err
    assert "--sensitive" in err
    assert not (tmp_path / "out.npz").exists()
    assert run(*arguments, "--sensitive")[0] == 0
    with np.load(tmp_path / "out.npz") as found:
        assert np.array_equal(found["a/rows"], store["labels/va"]["a"].rows)


def test_verify_finds_repairs_and_says_so_by_exit_code(store, run):
    assert run("verify", store.path)[0] == 0
    stream = store["visual/x"]
    flip(stream["b"].shard)
    found = as_json(run("verify", store.path, "--json"), code=7)
    (finding,) = found["findings"]
    assert [item["track"] for item in finding["items"]] == ["b"]
    code, out, err = run("verify", store.path)
    assert code == 7
    assert "--repair" in err
    assert "rows 0 to 256" in "".join(out.split("\n")).replace("│", " ") or "b" in out
    assert len(as_json(run("verify", store.path, "--repair", "--json"))["repairs"]) == 1
    again = as_json(run("verify", store.path, "--json"), code=7)
    assert [finding["kind"] for finding in again["findings"]] == ["missing"]
    assert sorted(item.entry.track for item in store["visual/x"].items.values()) == ["a", "c"]


@pytest.fixture
def project(store):
    """A project whose last extraction gave the stream."""
    folder = store.path.parent
    (folder / "receipts" / "visual-x").mkdir(parents=True)
    record = {"streams": {"visual/x": store["visual/x"].digest}}
    (folder / "receipts" / "visual-x" / "1.json").write_text(json.dumps(record))
    return folder


def test_compact_then_gc(store, project, run):
    rows = as_json(run("compact", store.path, "--json"))
    assert (rows[0]["before"], rows[0]["after"]) == (3, 1)
    arguments = ("gc", store.path, "--project", project, "--grace", 0, "--json")
    plan = as_json(run(*arguments))
    assert not plan["deleted"]
    assert [removal["kind"] for removal in plan["removals"]] == ["copied"] * 3
    assert len(store["visual/x"].shards) == 4
    assert as_json(run(*arguments, "--delete"))["deleted"]
    assert len(store["visual/x"].shards) == 1
    assert len(store["visual/x"].items) == 3


def test_gc_of_a_project_that_names_nothing_is_refused(store, run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run("gc", store.path, "--project", tmp_path / "empty", "--grace", 0, "--delete")
    assert code == 5
    assert "no run or configuration" in err
    assert len(store["visual/x"].items) == 3


def test_pins_keep_what_no_run_names(store, project, run):
    old = write(store, "visual/x", {"v": 0}, ("a",), edition="e0")
    write(store, "visual/x", RECIPE, ("a", "b", "c"))
    name = f"visual/x@{old.digest[:8]}"
    arguments = ("gc", store.path, "--project", project, "--grace", 0, "--json")
    kinds = {removal["kind"] for removal in as_json(run(*arguments))["removals"]}
    assert "stream" in kinds
    assert run("pin", store.path, name, "--note", "paper")[0] == 0
    assert "paper" in run("pins", store.path)[1]
    kinds = {removal["kind"] for removal in as_json(run(*arguments, "--delete"))["removals"]}
    assert "stream" not in kinds
    assert len(store[name].items) == 1
    assert "unpinned" in run("unpin", store.path, name)[1]
    assert as_json(run("pins", store.path, "--json")) == []
    as_json(run(*arguments, "--delete"))
    assert [stream.digest == old.digest for stream in store.streams()] == [False]


def test_gc_deletes_nothing_young(store, project, run):
    run("compact", store.path)
    code, out, _ = run("gc", store.path, "--project", project, "--delete")
    assert code == 0
    assert "0 of 0" in out
    assert "wait" in out
    assert len(store["visual/x"].shards) == 4


@pytest.mark.parametrize("shards", ["zarr", "hdf5"])
def test_convert(store, run, tmp_path, shards):
    target = tmp_path / "other"
    done = as_json(run("convert", store.path, target, "--shards", shards, "--json"))
    assert done["copied"] == 3
    other = FeatureStore(target)
    assert other.format.name == shards
    for track in "abc":
        mine, theirs = store["visual/x"][track], other["visual/x"][track]
        assert mine.key == theirs.key
        assert np.array_equal(mine.rows, theirs.rows)
    assert "0 items" in run("convert", store.path, target, "--shards", shards)[1]


def test_convert_says_what_was_not_copied(store, run, tmp_path):
    flip(store["visual/x"]["c"].shard)
    code, _, err = run("convert", store.path, tmp_path / "other", "--compress")
    assert code == 7
    assert "c:" in err
    assert len(FeatureStore(tmp_path / "other")["visual/x"].items) == 2


def test_names_from_a_store_are_not_interpreted_by_the_terminal(tmp_path, run):
    made = FeatureStore.create(tmp_path / "store")
    write(made, "visual/x", {"note": "[red]x[/red]\u202e"}, ("[bold]a",))
    code, out, _ = run("info", made.path, "visual/x")
    assert code == 0
    assert "[red]x[/red]" in out
    assert "\u202e" not in out


def test_verify_inputs(tiny_demo, run, tmp_path):
    copy = shutil.copytree(tiny_demo / "results" / "demo", tmp_path / "demo", symlinks=True)
    arguments = ("verify", copy / "store", "--inputs", copy / "data")
    assert as_json(run(*arguments, "--json"))["changed"] == []
    (film,) = (copy / "data").rglob("video3.mp4")
    content = bytearray(film.read_bytes())
    content[len(content) // 2] ^= 1
    film.write_bytes(content)
    changed = as_json(run(*arguments, "--json"), code=8)["changed"]
    assert {(each["track"], each["input"]) for each in changed} == {("video3", "media")}
