"""Exports: what NumPy alone reads from them is what was written to the store; names are safe."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from concord.cache import (
    FeatureStore,
    Manifest,
    ManifestTrack,
    NewItem,
    NotInStoreError,
    ShardFormat,
    StoreError,
)
from concord.cache import (
    export as subject,
)
from concord.cache.export import LONGEST_NAME, export, safe_names
from hypothesis import example, given, settings
from hypothesis import strategies as st

FORMATS = [
    ShardFormat("zarr"),
    ShardFormat("hdf5"),
    ShardFormat("zarr", compressed=True),
    ShardFormat("hdf5", compressed=True),
]
ODD = ["a", "A", "Ä", "ä", "../../up", "..", ".hidden", "/etc/passwd", "a/b", "a b", "é" * 400]
ODD += ["x" * 300, "X" * 300, "a%2Fb", "a~b", "tracks.json", "rows", "a.rows.npy", "nul.", "表"]


def manifest(stream, tracks, edition="0123456789ab"):
    """A manifest that names an item of the stream for each track."""
    fixed = {"source": "s", "split": "train", "family": "f", "rows": 5, "rate": 25.0}
    listed = [
        ManifestTrack(track=track, items={stream.full_name: key}, **fixed)
        for track, key in sorted(tracks.items())
    ]
    return Manifest("demo", edition, tuple(listed))


def filled(path, item, how=FORMATS[0], tracks=("b", "a", "c"), dtype="float16"):
    """A store with a manifest of these tracks, and the items that were written, by track."""
    store = FeatureStore.create(path, how)
    items = {
        track: item(f"key {k}", track, rows=k + 1, dtype=dtype, seed=k)
        for k, track in enumerate(tracks)
    }
    stream = store.create_stream("visual/x", {"v": 1})
    with stream.writer() as writer:
        for new in items.values():
            writer.add(new)
    store.save_manifest(manifest(stream, {track: new.key for track, new in items.items()}))
    return FeatureStore(path)["visual/x"], items


def read(target):
    """Read an export as its description says: track to array to values; and its index."""
    if target.is_dir():
        index = json.loads((target / "tracks.json").read_bytes())
        found = {
            info["track"]: {
                array: np.load(target / f"{name}.{array}.npy", allow_pickle=False)
                for array in ("rows", "valid", "times", "flags")
            }
            for name, info in index["tracks"].items()
        }
        assert len(list(target.iterdir())) == 4 * len(found) + 1
        return found, index
    with np.load(target, allow_pickle=False) as arrays:
        index = json.loads(arrays["tracks.json"])
        found = {
            info["track"]: {
                array: arrays[f"{name}/{array}"] for array in ("rows", "valid", "times", "flags")
            }
            for name, info in index["tracks"].items()
        }
        assert len(arrays.files) == 4 * len(found) + 1
    return found, index


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def same(found, items):
    assert set(found) == set(items)
    for track, new in items.items():
        for array in ("rows", "valid", "times", "flags"):
            written, expected = found[track][array], getattr(new, array)
            assert (written.dtype, written.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(written, expected)


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("how", FORMATS, ids=str)
def test_numpy_reads_what_was_written(tmp_path, monkeypatch, item, how, mapped):
    monkeypatch.setattr(subject, "PIECE_BYTES", 10)
    tracks = ODD if mapped else ODD[:4]
    _, items = filled(tmp_path / "s", item, how, tracks)
    stream = FeatureStore(tmp_path / "s", mapped=mapped)["visual/x"]
    for target in (tmp_path / "out" / "all.npz", tmp_path / "out" / "all"):
        assert export(stream, target) == len(tracks)
        found, index = read(target)
        same(found, items)
        assert (index["stream"], index["recipe"]) == (stream.full_name, {"v": 1})
        for info in index["tracks"].values():
            new = items[info["track"]]
            expected = {"track": info["track"], "key": new.key, "dim": 3, "dtype": "float16"}
            assert info == {**expected, "rows": len(new.rows)}
    assert listed(tmp_path / "out") == ["all", "all.npz"]
    assert listed(tmp_path) == ["out", "s"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", ["x.npz", "x"])
def test_types_are_kept(tmp_path, item, dtype, target):
    stream, items = filled(tmp_path / "s", item, dtype=dtype)
    export(stream, tmp_path / target)
    same(read(tmp_path / target)[0], items)


def test_plain_names_stay_as_they_are(tmp_path, item):
    stream, items = filled(tmp_path / "s", item, tracks=["102_left", "9-30.640x360"])
    export(stream, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        for track, new in items.items():
            np.testing.assert_array_equal(arrays[f"{track}/rows"], new.rows)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}


def test_unzip_stays_inside(tmp_path, item):
    """What any tool makes of the members' names lies inside, one file each, cases lost or not."""
    stream, _ = filled(tmp_path / "s", item, tracks=ODD)
    export(stream, tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        archive.extractall(tmp_path / "y")
    assert len({name.lower() for name in names}) == len(names) == 4 * len(ODD) + 1
    for name in names:
        path = (tmp_path / "y" / name).resolve()
        assert path.is_file()
        assert path.is_relative_to(tmp_path / "y")
        assert all(part.isascii() and part not in {".", ".."} for part in name.split("/"))


texts = st.text(st.characters(blacklist_categories=("Cc", "Cs")), min_size=1, max_size=60)
names = st.one_of(
    texts,
    st.text("aAbB.~%/\\ é", min_size=1, max_size=4),
    st.sampled_from(ODD),
    texts.map(lambda text: text * 60),
)


@settings(deadline=None, max_examples=300)
@given(st.sets(names, max_size=12))
@example({"a" * 120, "A" * 120, "a" * 121, "a" * 4000, "é" * 20 + "a", "é" * 20 + "b"})
def test_names_of_files_are_safe_and_unique(tracks):
    found = safe_names(sorted(tracks))
    assert set(found) == tracks
    assert len({name.lower() for name in found.values()} | {"tracks.json"}) == len(tracks) + 1
    for track, name in found.items():
        assert 0 < len(name) <= LONGEST_NAME
        assert set(name) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-%~"
        )
        assert not name.startswith(".")
        assert not name.endswith(".")
        plain, _, digest = name.partition("~")
        if digest:
            assert digest == hashlib.sha256(track.encode()).hexdigest()[:16]
            assert track.startswith(unquote(plain, errors="ignore"))
        else:
            assert unquote(name) == track


@settings(deadline=None, max_examples=15)
@given(st.sets(names, min_size=1, max_size=4))
def test_any_names_can_be_exported(tracks):
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore.create(Path(folder) / "s")
        stream = store.create_stream("visual/x", {"v": 1})
        items = {
            track: NewItem(
                key=f"k{k}",
                track=track,
                rows=np.full((2, 3), k, np.float32),
                valid=np.ones(2, np.bool_),
                times=np.zeros(2),
                flags=np.zeros(2, np.uint8),
            )
            for k, track in enumerate(sorted(tracks))
        }
        with stream.writer() as writer:
            for new in items.values():
                writer.add(new)
        stream = FeatureStore(Path(folder) / "s")["visual/x"]
        chosen = {track: stream.items[new.key] for track, new in items.items()}
        for name in ("x.npz", "x"):
            export(stream, Path(folder) / "out" / name, chosen)
            same(read(Path(folder) / "out" / name)[0], items)
        assert listed(Path(folder)) == ["out", "s"]
        assert listed(Path(folder) / "out") == ["x", "x.npz"]


@pytest.mark.parametrize("track", ["", "a\nb", "\0", "\ud800", "x" * 5000])
def test_what_no_track_can_be_called_is_refused(tmp_path, item, track):
    stream, _ = filled(tmp_path / "s", item)
    chosen = {track: stream.items["key 0"]}
    with pytest.raises(StoreError, match="track: expected 1 to 4096 characters"):
        export(stream, tmp_path / "x.npz", chosen)
    assert listed(tmp_path) == ["s"]


def test_the_same_rows_give_the_same_bytes(tmp_path, item):
    for name, how in (("a", FORMATS[0]), ("b", FORMATS[3])):
        stream, _ = filled(tmp_path / name, item, how)
        export(stream, tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_caller_chooses_tracks_and_sees_progress(tmp_path, item):
    stream, items = filled(tmp_path / "s", item)
    told = []
    chosen = {"mine": stream.items["key 2"], "b": stream.items["key 0"]}
    assert export(stream, tmp_path / "x", chosen, lambda *step: told.append(step)) == 2
    same(read(tmp_path / "x")[0], {"mine": items["c"], "b": items["b"]})
    assert told == [(0, 2, "mine"), (1, 2, "b"), (2, 2, "done")]
    name = next(iter(stream.tracks.manifests)).name
    assert export(stream, tmp_path / "y.npz", stream.of(name)) == 3
    same(read(tmp_path / "y.npz")[0], items)


def test_an_item_of_two_tracks_is_written_for_each(tmp_path, item):
    stream, items = filled(tmp_path / "s", item, tracks=["left"])
    stream.store.save_manifest(manifest(stream, {"left": "key 0", "right": "key 0"}))
    export(FeatureStore(tmp_path / "s")["visual/x"], tmp_path / "x")
    same(read(tmp_path / "x")[0], {"left": items["left"], "right": items["left"]})


def test_no_track_an_ambiguous_one_and_one_that_is_not_stored(tmp_path, item, store):
    stream = store.create_stream("visual/x", {"v": 1})
    with pytest.raises(NotInStoreError, match="no track to export"):
        export(stream, tmp_path / "x")
    stream, _ = filled(tmp_path / "s", item)
    stream.store.save_manifest(manifest(stream, {"a": "key 0"}, "other"))
    stream = FeatureStore(tmp_path / "s")["visual/x"]
    with pytest.raises(NotInStoreError, match="several data sets or editions"):
        export(stream, tmp_path / "x")
    stream.store.save_manifest(manifest(stream, {"a": "absent"}, "third"))
    with pytest.raises(NotInStoreError, match="item absent is not stored"):
        export(stream, tmp_path / "x", stream.of("demo@third"))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["x.npz", "x", "x.NPZ"])
@pytest.mark.parametrize("kind", ["file", "folder", "link to nothing"])
def test_a_target_that_is_there_is_left_alone(tmp_path, item, name, kind):
    stream, _ = filled(tmp_path / "s", item)
    target = tmp_path / name
    if kind == "file":
        target.write_text("mine")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "nothing")
    with pytest.raises(StoreError, match=r"is there already.*remove it, or give another name"):
        export(stream, target)
    assert listed(tmp_path) == sorted(["s", name])
    if kind == "file":
        assert target.read_text() == "mine"


@pytest.mark.parametrize("name", ["x.npz", "x"])
def test_a_target_that_appears_meanwhile_is_left_alone(tmp_path, item, name):
    stream, _ = filled(tmp_path / "s", item)
    with pytest.raises(StoreError, match="is there already"):
        export(stream, tmp_path / name, None, lambda *_: (tmp_path / name).touch())
    assert (tmp_path / name).read_bytes() == b""
    assert listed(tmp_path) == sorted(["s", name])


@pytest.mark.parametrize("name", ["x.npz", "x"])
@pytest.mark.parametrize("how", FORMATS[:2], ids=str)
def test_damaged_rows_leave_nothing(tmp_path, how, name):
    rows = np.random.default_rng(0).random((1000, 8)).astype(np.float16)
    store = FeatureStore.create(tmp_path / "s", how)
    beside = {"valid": np.ones(1000, np.bool_), "times": np.zeros(1000)}
    with store.create_stream("visual/x", {"v": 1}).writer() as writer:
        writer.add(NewItem(key="k", track="t", rows=rows, **beside))
    (file,) = [p for p in (tmp_path / "s").rglob("*") if p.is_file() and p.stat().st_size > 16000]
    content = bytearray(file.read_bytes())
    content[content.find(rows[600:604].tobytes())] ^= 1
    file.write_bytes(content)
    stream = FeatureStore(tmp_path / "s")["visual/x"]
    with pytest.raises(StoreError, match=r"rows 512 to 768 of 'x', track 't'"):
        export(stream, tmp_path / name, {"t": stream.items["k"]})
    assert listed(tmp_path) == ["s"]


@contextmanager
def small_disk(folder):
    """A file system of 1 MiB."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("no small file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("name", ["x.npz", "x"])
def test_a_full_disk_leaves_nothing(tmp_path, item, name):
    store = FeatureStore.create(tmp_path / "s")
    stream = store.create_stream("visual/x", {"v": 1})
    with stream.writer() as writer:
        writer.add(item("k", "t", rows=4000, dim=256))
    stream = FeatureStore(tmp_path / "s")["visual/x"]
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(StoreError, match="no space left to export 1 tracks of visual/x"):
            export(stream, disk / name, {"t": stream.items["k"]})
        assert listed(disk) == []


KILLED = """
import sys
from pathlib import Path
from concord.cache import FeatureStore
from concord.cache.export import export
stream = FeatureStore(sys.argv[1])["visual/x"]
print("ready", flush=True)
export(stream, Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.npz", "x"])
def test_a_kill_leaves_the_whole_or_nothing(tmp_path, item, name):
    stream, items = filled(tmp_path / "s", item, tracks=[f"t{k}" for k in range(150)])
    random = np.random.default_rng(0)
    whole = 0
    for k in range(20):
        target = tmp_path / f"{k}" / name
        command = [sys.executable, "-c", KILLED, str(stream.store.path), str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(random.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
        if target.exists():
            same(read(target)[0], items)
            whole += 1
    assert whole < 20


MEMORY = """
import sys, threading, time
import h5py, numpy, zarr
from pathlib import Path
from concord.cache import FeatureStore
from concord.cache.export import export

def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:")) >> 10

before = most = private()
done = False
def watch():
    global most
    while not done:
        most = max(most, private())
        time.sleep(0.003)
watcher = threading.Thread(target=watch)
watcher.start()
stream = FeatureStore(sys.argv[1])["visual/x"]
export(stream, Path(sys.argv[2]), {item.entry.track: item for item in stream.items.values()})
done = True
watcher.join()
print(most - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["x.npz", "x"])
def test_private_memory_is_bounded(tmp_path, name):
    """One item of 150 MB goes through a few pieces of 16 MiB."""
    rows = np.random.default_rng(0).standard_normal((1000, 512)).astype(np.float16)
    rows = np.tile(rows, (150, 1))
    store = FeatureStore.create(tmp_path / "s")
    beside = {"valid": np.ones(len(rows), np.bool_), "times": np.zeros(len(rows))}
    with store.create_stream("visual/x", {"v": 1}).writer() as writer:
        writer.add(NewItem(key="k", track="t", rows=rows, **beside))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "s"), str(tmp_path / name)]
    assert int(subprocess.check_output(command, timeout=100)) <= 80
    if name == "x":
        np.testing.assert_array_equal(np.load(tmp_path / "x" / "t.rows.npy", "r"), rows)
