"""The engine on real small data sets: what is computed, skipped, shared, kept and refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from concord.cache import REPEATED, FeatureStore
from concord.extract.affwild2 import scan
from concord.extract.decoder import FrameChunk
from concord.extract.engine import extract
from concord.extract.feeds import Pool
from concord.extract.index import Index
from concord.extract.labels import read_labels
from concord.extract.media import open_video
from concord.extract.parts import sources_of_part
from concord.extract.receipt import load_receipt
from concord.extract.settings import AudioSettings, VisualSettings
from concord.extract.visual import VisualStream

VISUAL = VisualSettings(weights="seeded", resize=64, crop=64)
STREAMS = {
    "visual/resnet18": VISUAL,
    "visual/faces": VisualSettings(
        backbone="resnet18", weights="seeded", resize=64, crop=64, reads="faces"
    ),
    "audio/resnet18": AudioSettings(),
    "labels/va": None,
}
LABELS = "annotations/VA_Set"
TRAIN = ("5_left", "5_right", "6", "8", "9", "11")


def build(root, media):
    """Six sources: two persons, plain, silent, garbage, without media, with bad labels."""
    for seed, name in enumerate(TRAIN):
        media.labels(root / LABELS / "Train_Set" / f"{name}.txt", 12, seed)
    media.labels(root / LABELS / "Validation_Set" / "7.txt", 14, 70)
    wide = [media.picture(k, 64, 128) for k in range(12)]
    media.write(root / "batch1" / "5.mp4", wide, sound=media.tone(1.2))
    frames = [media.picture(k) for k in range(12)]
    media.write(root / "batch1" / "6.mp4", frames, sound=media.tone(1.0), sound_start=0.3)
    media.write(root / "batch1" / "7.mp4", frames)
    (root / "batch1" / "8.mp4").write_bytes(b"no video at all" * 100)
    media.write(root / "batch1" / "11.mp4", frames)
    (root / LABELS / "Train_Set" / "11.txt").write_text("valence,arousal\n0.5,high\n")
    media.crops(root / "cropped_aligned" / "5_left", [0, 1, 5])
    media.crops(root / "cropped_aligned" / "7", range(20))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory, media):
    return build(tmp_path_factory.mktemp("data") / "set", media)


@pytest.fixture(scope="module")
def done(tmp_path_factory, data):
    """One undisturbed run."""
    folder = tmp_path_factory.mktemp("done")
    store = FeatureStore.create(folder / "store")
    calls = []
    receipt = extract(scan(data), STREAMS, store, progress=lambda *call: calls.append(call))
    receipt.save(folder / "receipt.json")
    content = (folder / "receipt.json").read_bytes()
    return SimpleNamespace(store=store, receipt=receipt, bytes=content, calls=calls, folder=folder)


def saved(receipt, tmp_path):
    receipt.save(tmp_path / "receipt.json")
    return (tmp_path / "receipt.json").read_bytes()


def row_bytes(store):
    """Every item of a store, by stream and key."""
    return {
        (stream.full_name, key): (
            np.asarray(item.rows).tobytes(),
            item.valid.tobytes(),
            item.times.tobytes(),
        )
        for stream in store.streams()
        for key, item in stream.items.items()
    }


def test_items_and_quarantine(done):
    items = {name: sorted(tracks) for name, tracks in done.receipt.items.items()}
    assert items == {
        "visual/resnet18": ["5_left", "5_right", "6", "7"],
        "visual/faces": ["5_left", "7"],
        "audio/resnet18": ["5_left", "5_right", "6", "7"],
        "labels/va": ["5_left", "5_right", "6", "7", "8", "9"],
    }
    why = {
        (entry.stream, track): (entry.error, entry.message, entry.place)
        for entry in done.receipt.quarantine
        for track in entry.tracks
    }
    assert len(why) == 12
    for name, place in (("visual/resnet18", "video"), ("audio/resnet18", "sound")):
        error, message, where = why[name, "8"]
        assert (error, where) == ("MediaError", place)
        assert message.startswith("8.mp4: cannot be opened")
        assert why[name, "9"] == ("MediaError", "9: has no media file", place)
    for track in ("5_right", "6", "8", "9"):
        assert why["visual/faces", track] == ("MediaError", f"{track}: has no face folder", "faces")
    for name in STREAMS:
        assert why[name, "11"] == (
            "DataError",
            f"{LABELS}/Train_Set/11.txt, line 2: expected two numbers, found '0.5,high'",
            "labels",
        )


def test_tracks_in_the_receipt(done, data):
    tracks = done.receipt.tracks
    assert sorted(tracks) == ["5_left", "5_right", "6", "7", "8", "9"]
    assert (tracks["5_left"].source, tracks["5_left"].rows, tracks["7"].split) == ("5", 12, "val")
    assert done.receipt.part == "1/1"


def test_progress(done, data):
    sources = scan(data).sources
    counts = [call[:2] for call in done.calls]
    assert counts == [(k, len(sources)) for k in range(len(sources) + 1)]
    told = [text.partition(", ")[0] for _, _, text in done.calls]
    assert (told[0], told[-1]) == ("begin", "done")
    assert set(told[1:-1]) < set(sources)
    assert all(text.endswith(" rows/s") for _, _, text in done.calls[1:])


def test_rows_are_those_of_the_persons_half(done, data):
    worker = VisualStream("visual/resnet18", VISUAL, torch.device("cpu"))
    frames = list(open_video(data / "batch1" / "5.mp4"))
    times = np.array([frame.pts_s for frame in frames])
    chunk = FrameChunk(np.arange(len(frames)), np.stack([frame.image for frame in frames]))
    stream = done.store["visual/resnet18"]
    found = {}
    for side in ("left", "right"):
        building = worker.begin("k", "t", 12, side)
        building.begin(times)
        building.add(chunk)
        building.end()
        worker.flush()
        found[side] = stream.items[done.receipt.items["visual/resnet18"][f"5_{side}"].key]
        assert np.array_equal(found[side].rows, building.item().rows)
        assert np.array_equal(found[side].times, times)
    assert not np.array_equal(found["left"].rows, found["right"].rows)


def test_labels_are_stored(done, data):
    stream = done.store["labels/va"]
    for track, record in done.receipt.items["labels/va"].items():
        folder = "Validation_Set" if track == "7" else "Train_Set"
        values, valid = read_labels(data / LABELS / folder / f"{track}.txt")
        item = stream.items[record.key]
        assert item.rows.dtype == np.float64
        assert np.array_equal(item.rows, values)
        assert np.array_equal(item.valid, valid)


def test_records_count_invalid_and_repeated_rows(done):
    records = done.receipt.items
    assert (records["visual/faces"]["5_left"].rows, records["visual/faces"]["5_left"].invalid) == (
        12,
        9,
    )
    short = records["visual/resnet18"]["7"]
    assert (short.rows, short.invalid, short.repeated) == (14, 0, 2)
    assert records["audio/resnet18"]["6"].invalid == 3
    # Without sound all rows are there, and none is valid.
    assert (records["audio/resnet18"]["7"].rows, records["audio/resnet18"]["7"].invalid) == (14, 14)
    for name, tracks in records.items():
        stream = done.store[name]
        for record in tracks.values():
            item = stream.items[record.key]
            assert record.invalid == int((~item.valid).sum())
            assert record.repeated == int((item.flags & REPEATED).sum())


def test_two_tracks_share_their_sound(done):
    sound = done.receipt.items["audio/resnet18"]
    assert sound["5_left"] == sound["5_right"]
    assert sound["5_left"].key != sound["6"].key
    shards = done.store["audio/resnet18"].shards
    keys = [key for shard in shards for key in shard.entries]
    assert sorted(keys) == sorted({sound[track].key for track in ("5_left", "6", "7")})
    pictures = done.receipt.items["visual/resnet18"]
    assert pictures["5_left"].key != pictures["5_right"].key


def test_a_second_run_does_nothing_and_says_the_same(done, data, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in done.store.path.rglob("*")}
    # Media that cannot be decoded any more, behind an unchanged stat: not read, so not missed.
    copies = {path: path.read_bytes() for path in (data / "batch1").glob("[56].mp4")}
    for path, content in copies.items():
        overwrite(path, bytes(len(content)))
    try:
        receipt = extract(scan(data), STREAMS, done.store)
    finally:
        for path, content in copies.items():
            overwrite(path, content)
    assert saved(receipt, tmp_path) == done.bytes
    assert {path: path.stat().st_mtime_ns for path in done.store.path.rglob("*")} == before


def overwrite(path, content):
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_another_place_gives_the_same_bytes(done, data, tmp_path):
    shutil.copytree(data, tmp_path / "renamed" / "root")
    store = FeatureStore.create(tmp_path / "store")
    receipt = extract(scan(tmp_path / "renamed" / "root"), STREAMS, store)
    assert saved(receipt, tmp_path) == done.bytes
    assert row_bytes(store) == row_bytes(done.store)
    text = done.bytes.decode() + json.dumps([s.shards[0].provenance for s in store.streams()])
    assert str(data.parent) not in text
    assert str(tmp_path) not in text


def test_a_broken_off_run_is_resumed(done, data, tmp_path):
    store = FeatureStore.create(tmp_path / "store")

    def stop(count, _total, _text):
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(scan(data), STREAMS, store, progress=stop)
    assert not multiprocessing.active_children()
    part = row_bytes(FeatureStore(store.path))
    assert part.items() < row_bytes(done.store).items()
    assert len(part) > 3
    receipt = extract(scan(data), STREAMS, FeatureStore(store.path))
    assert saved(receipt, tmp_path) == done.bytes
    assert row_bytes(FeatureStore(store.path)) == row_bytes(done.store)


KILLED = """
import sys, time
from pathlib import Path
import torch
from concord.cache import FeatureStore
from concord.extract.affwild2 import scan
from concord.extract.engine import extract
from concord.extract.settings import AudioSettings, VisualSettings, WindowSettings

def progress(done, total, text):
    print(done, flush=True)
    if done == 3:
        time.sleep(60)

if __name__ == "__main__":
    torch.set_num_threads(1)
    streams = {name: eval(text) for name, text in zip(sys.argv[3::2], sys.argv[4::2])}
    extract(scan(Path(sys.argv[1])), streams, FeatureStore.create(sys.argv[2]), progress=progress)
"""


def test_a_killed_run_is_resumed(done, data, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(KILLED)
    words = [word for name, value in STREAMS.items() for word in (name, repr(value))]
    process = subprocess.Popen(
        [sys.executable, str(script), str(data), str(tmp_path / "store"), *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.strip() == "3":
            break
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    receipt = extract(scan(data), STREAMS, FeatureStore(tmp_path / "store"))
    assert saved(receipt, tmp_path) == done.bytes
    assert row_bytes(FeatureStore(tmp_path / "store")) == row_bytes(done.store)


SMALL = {"visual/resnet18": VISUAL, "labels/va": None}


def test_equal_labels_of_two_sources_are_stored_once(tmp_path, media):
    for name in ("1", "2"):
        media.labels(tmp_path / LABELS / "Train_Set" / f"{name}.txt", 5)
    store = FeatureStore.create(tmp_path / "store")
    receipt = extract(scan(tmp_path), {"labels/va": None}, store)
    assert receipt.items["labels/va"]["1"] == receipt.items["labels/va"]["2"]
    (shard,) = store["labels/va"].shards
    assert [(entry.first, entry.rows) for entry in shard.entries.values()] == [(0, 5)]
    assert len(shard.read("x", next(iter(shard.entries.values())))) == 5
    assert json.loads(shard.sealed("index.json"))["items"][1:] == []


def test_parts_together_are_the_whole(done, data, tmp_path):
    streams = {"labels/va": None, "visual/faces": STREAMS["visual/faces"]}
    store = FeatureStore.create(tmp_path / "store")
    dataset = scan(data)
    receipts = [extract(dataset, streams, store, part=(k, 3)) for k in (1, 2, 3)]
    for k, receipt in enumerate(receipts, 1):
        mine = sources_of_part(dataset.sources, k, 3)
        assert {track.source for track in receipt.tracks.values()} <= set(mine)
        assert receipt.part == f"{k}/3"
        for name in streams:
            expected = {
                track: record
                for track, record in done.receipt.items[name].items()
                if done.receipt.tracks[track].source in mine
            }
            assert receipt.items[name] == expected
    assert sum(len(receipt.tracks) for receipt in receipts) == 6
    whole = Index(receipts, store).manifest()
    assert whole.edition == Index([done.receipt], done.store).edition


def test_damage_keeps_the_rows_around_it(tmp_path, media):
    media.labels(tmp_path / LABELS / "Train_Set" / "1.txt", 30)
    pictures = [media.picture(k) for k in range(30)]
    path = media.write(tmp_path / "1.mov", pictures, codec="png", pixels="rgb24")
    content = path.read_bytes()
    heads = [k for k in range(len(content)) if content.startswith(b"\x89PNG", k)]
    for damaged in range(10, 20):
        head = heads[damaged]
        content = content[:head] + bytes(20) + content[head + 20 :]
    path.write_bytes(content)
    store = FeatureStore.create(tmp_path / "store")
    receipt = extract(scan(tmp_path), SMALL, store)
    record = receipt.items["visual/resnet18"]["1"]
    assert (record.repeated, record.invalid) == (5, 5)
    item = store["visual/resnet18"].items[record.key]
    assert item.valid.tolist() == [True] * 15 + [False] * 5 + [True] * 10
    assert receipt.quarantine == []


def test_media_that_changes_while_it_is_read_is_not_stored(tmp_path, media):
    media.labels(tmp_path / LABELS / "Train_Set" / "1.txt", 150)
    pictures = [media.picture(k, 256, 256) for k in range(150)]
    path = media.write(tmp_path / "1.mp4", pictures, options={"preset": "ultrafast"})
    dataset = scan(tmp_path)
    run = Pool._receive

    def disturbed(pool, decoder, again):
        with path.open("ab") as file:
            file.write(b"more")
        return run(pool, decoder, again)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pool, "_receive", disturbed)
        receipt = extract(dataset, SMALL, FeatureStore.create(tmp_path / "store"))
    (entry,) = receipt.quarantine
    assert entry.message == "1: changed while it was read; run again"
    assert not FeatureStore(tmp_path / "store")["visual/resnet18"].items


def test_receipt_round_trip(done, tmp_path):
    found = load_receipt(done.folder / "receipt.json")
    assert found == done.receipt
    assert saved(found, tmp_path) == done.bytes


def test_a_pipe_instead_of_a_file_does_not_hang(tmp_path, media):
    media.labels(tmp_path / LABELS / "Train_Set" / "1.txt", 5, 0)
    (tmp_path / "batch1").mkdir()
    os.mkfifo(tmp_path / "batch1" / "1.mp4")
    store = FeatureStore.create(tmp_path / "store")
    receipt = extract(scan(tmp_path), {"visual/resnet18": VISUAL}, store)
    (entry,) = receipt.quarantine
    assert "expected a file" in entry.message
