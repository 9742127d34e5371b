"""The generated demo data set: its plan, its files on disk, and its faults."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from concord.cache.errors import ConfigError
from concord.pipelines.demo import PROFILES, demo_dataset, make_demo
from concord.pipelines.demo_face import draw_faces
from concord.pipelines.demo_media import encode_jpegs, encode_mp4
from concord.pipelines.demo_signal import label_text, random_stream, track_signal
from torchvision.io import decode_jpeg

GOOD = [clip for clip in PROFILES["demo"].clips if clip.damage is None]
LATE = "video31"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    calls = []
    dataset = make_demo(root, "demo", 0, lambda *call: calls.append(call))
    return root, dataset, calls


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def frames_of(path: Path) -> tuple[np.ndarray, list[float]]:
    with av.open(path) as container:
        frames = list(container.decode(video=0))
    pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    return pictures, [float(frame.time) for frame in frames]


def rows_of(root: Path, labels: str) -> np.ndarray:
    return np.loadtxt(root / labels, delimiter=",", skiprows=1)


def test_manifest_needs_no_disk_and_no_numbers(tmp_path):
    first = demo_dataset("data", "demo", 0)
    assert first == demo_dataset("data", "demo", 7)
    assert (first.name, first.root) == ("demo", "data")
    names = [track.name for track in first.tracks]
    assert names == sorted(set(names))
    assert not list(tmp_path.iterdir())
    assert not Path("data").exists()


def test_import_is_light():
    code = "import sys, concord.pipelines.demo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_manifest_equals_the_disk(demo):
    root, dataset, _ = demo
    assert dataset == demo_dataset(str(root), "demo", 0)
    found = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    media = {track.media for track in dataset.tracks}
    labels = {track.labels for track in dataset.tracks}
    transcripts = {track.transcript for track in dataset.tracks}
    assert {p for p in found if p.endswith(".mp4")} == media
    assert {p for p in found if p.endswith(".txt")} == labels
    folders = {track.faces for track in dataset.tracks if track.faces}
    assert {str(Path(p).parent) for p in found if p.endswith(".jpg")} == folders
    assert {p for p in found if p.endswith(".json")} == transcripts - {None}
    assert not [p for p in found if not p.endswith((".mp4", ".txt", ".jpg", ".json"))]


def test_plan_keeps_its_limits():
    rows = [(clip.split, clip.rows) for clip in GOOD for _ in clip.regions]
    assert len(rows) == 12
    assert sum(count for _, count in rows) <= 2000
    assert sum(split == "val" for split, _ in rows) == 4
    assert 650 <= sum(count for split, count in rows if split == "val") <= 750
    assert 1150 <= sum(count for split, count in rows if split == "train") <= 1250
    assert min(count for _, count in rows) <= 20
    assert {clip.batch for clip in GOOD} == {"batch1", "batch2"}
    assert all(6 <= clip.rate <= 12.5 for clip in GOOD)
    bad = [clip for clip in PROFILES["demo"].clips if clip.damage]
    assert [(clip.damage, clip.split) for clip in bad] == [("noise", "train"), ("cut", "train")]


def test_names_have_all_styles_and_pairs():
    dataset = demo_dataset("", "demo")
    names = {track.name for track in dataset.tracks}
    for style in (r"\d+-\d+-\d+x\d+", r"\d+", r"video\d+"):
        assert sum(bool(re.fullmatch(style, track.source)) for track in dataset.tracks) >= 2
    pairs = [track for track in dataset.tracks if track.region != "whole"]
    assert {track.region for track in pairs} == {"left", "right"}
    assert len({track.media for track in pairs}) == 1
    assert all(track.name == f"{track.source}_{track.region}" for track in pairs)
    assert all(track.split == "train" and track.family == track.source for track in pairs)
    assert pairs[0].source not in names


def test_progress_counts_sources(demo):
    _, dataset, calls = demo
    assert [done for done, _, _ in calls] == list(range(1, len(dataset.sources) + 1))
    assert sorted(name for _, _, name in calls) == sorted(dataset.sources)
    assert {total for _, total, _ in calls} == {len(dataset.sources)}


@pytest.mark.parametrize("clip", GOOD, ids=lambda clip: clip.name)
def test_good_source(demo, clip):
    root, dataset, _ = demo
    pictures, times = frames_of(root / clip.media)
    assert len(pictures) == clip.rows
    assert np.allclose(times, np.arange(clip.rows) / float(clip.rate), atol=1e-4)
    assert pictures.shape[1:] == (112, 112 * len(clip.regions), 3)
    tracks = [track for track in dataset.tracks if track.source == clip.name]
    for track in tracks:
        assert len(rows_of(root, track.labels)) == clip.rows
    with av.open(root / clip.media) as container:
        audio = container.streams.audio[0]
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 44_100, 1)
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        sounds = list(container.decode(audio=0))
    # A late sound begins with the encoder's delay: 1,024 silent samples.
    assert clip.sound_start - 0.025 < sounds[0].time < clip.sound_start + 0.001
    last = sounds[-1].time + sounds[-1].samples / 44_100
    assert last == pytest.approx(clip.rows / float(clip.rate), abs=0.05)
    assert 0.01 < np.concatenate([s.to_ndarray()[0] for s in sounds]).std() < 0.5


def test_late_sound_and_odd_rate():
    late = [clip.name for clip in GOOD if clip.sound_start > 0]
    assert late == [LATE]
    assert any(clip.rate.denominator > 4 for clip in GOOD)


def test_late_sound_in_the_container(demo):
    root, _, _ = demo
    with av.open(root / f"batch2/{LATE}.mp4") as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        first = {
            p.stream.type: p.pts * p.time_base
            for p in reversed(list(container.demux()))
            if p.pts is not None
        }
    assert first["video"] == 0
    assert first["audio"] > 1
    assert video.start_time == 0
    assert audio.start_time > 0


def test_label_files(demo):
    root, dataset, _ = demo
    runs = {}
    for track in dataset.tracks:
        text = (root / track.labels).read_bytes().decode()
        header, *lines = text.split("\n")
        assert header == "valence,arousal"
        assert lines.pop() == ""
        assert "\r" not in text
        rows = rows_of(root, track.labels)
        gone = rows[:, 0] == -5
        assert np.array_equal(gone, rows[:, 1] == -5)
        assert all(line == "-5,-5" for line, off in zip(lines, gone, strict=True) if off)
        assert np.abs(rows[~gone]).max() <= 1
        runs[track.name] = np.flatnonzero(gone).tolist()
    assert runs["203"] == list(range(18))
    assert runs["video47"] == list(range(70, 85))
    assert runs["video66"] == list(range(150, 170))
    assert sum(bool(run) for run in runs.values()) == 3


def test_label_text_digits():
    values = np.array([[0.12345, 1.0], [-0.5, 0.0], [0.3, 0.3]])
    text = label_text(values, [range(2, 3)], decimals=3)
    assert text == "valence,arousal\n0.123,1\n-0.5,0\n-5,-5\n"


def test_missing_faces(demo):
    root, dataset, _ = demo
    lost = {}
    for track in (track for track in dataset.tracks if track.faces):
        there = {int(path.stem) for path in (root / track.faces).iterdir()}
        rows = len(rows_of(root, track.labels))
        assert max(there) <= rows
        lost[track.name] = sorted(set(range(1, rows + 1)) - there)
    assert lost["58"] == [*range(1, 9), 61, 62]
    assert len(lost["video47"]) == 38
    assert sum(bool(rows) for rows in lost.values()) == 3
    assert not any(track.faces for track in dataset.tracks if track.source in {"311", "video12"})


def test_crops_are_the_video_frames(demo):
    root, _, _ = demo
    pictures, _ = frames_of(root / "batch1/14-8-224x112.mp4")
    data = (root / "cropped_aligned/14-8-224x112_right/00031.jpg").read_bytes()
    crop = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    assert crop.shape == (3, 112, 112)
    right = pictures[30][:, 112:].astype(float)
    left = pictures[30][:, :112].astype(float)
    seen = crop.permute(1, 2, 0).numpy().astype(float)
    assert np.abs(seen - right).mean() < 8 < np.abs(seen - left).mean()


@pytest.mark.parametrize("name", ["batch2/311.mp4", "batch1/video12.mp4"])
def test_bad_sources_do_not_open(demo, name):
    root, _, _ = demo
    assert (root / name).stat().st_size > 10_000
    with pytest.raises(av.error.InvalidDataError):
        av.open(root / name)


def test_equal_arguments_write_equal_bytes(tmp_path):
    for folder in ("a", "b"):
        make_demo(tmp_path / folder, "tiny", 3)
    make_demo(tmp_path / "c", "tiny", 4)
    first, again, other = (digests(tmp_path / folder) for folder in ("a", "b", "c"))
    assert first == again
    assert first.keys() == other.keys()
    assert not set(first.items()) & set(other.items())


def test_memory_left_by_others_does_not_show():
    signal = track_signal(3, "7-8-112x112", "7-8-112x112", 40, Fraction(8))
    pictures = draw_faces(random_stream(3, "7-8-112x112", "face"), signal.shown, 8.0)
    sound = np.sin(np.arange(44_100) / 9).astype(np.float32)
    chance = random.Random(1)
    films, crops = set(), set()
    for _ in range(12):
        left = [bytes([255]) * chance.randint(1_000, 400_000) for _ in range(50)]
        del left[::2]
        films.add(encode_mp4(pictures, Fraction(8), sound, 0.0))
        crops.add(tuple(encode_jpegs(pictures)))
    assert (len(films), len(crops)) == (1, 1)


def test_a_second_make_keeps_other_files(tmp_path):
    make_demo(tmp_path, "tiny")
    before = digests(tmp_path)
    (tmp_path / "batch1" / "mine.txt").write_text("kept")
    make_demo(tmp_path, "tiny")
    assert (tmp_path / "batch1" / "mine.txt").read_text() == "kept"
    assert before.items() <= digests(tmp_path).items()
    assert not list(tmp_path.rglob("*.part"))


def test_tiny_covers_both_splits():
    tracks = demo_dataset("", "tiny").tracks
    assert {track.split for track in tracks if track.faces} == {"train", "val"}
    assert sum(track.faces is None for track in tracks) == 1


@pytest.mark.parametrize("call", [demo_dataset, lambda p, name: make_demo(Path(p), name)])
def test_unknown_profile(tmp_path, call):
    with pytest.raises(ConfigError, match="one of demo, tiny, not 'big'"):
        call(str(tmp_path), "big")
    assert not list(tmp_path.iterdir())


def test_negative_seed(tmp_path):
    with pytest.raises(ConfigError, match="0 or more, not -1"):
        make_demo(tmp_path, "tiny", -1)


def test_each_modality_explains_half_of_the_labels(demo):
    root, dataset, _ = demo
    shown, sounded, labels = [], [], []
    for clip in (clip for clip in GOOD if clip.split == "val"):
        signal = track_signal(0, clip.name, clip.name, clip.rows, clip.rate)
        track = next(track for track in dataset.tracks if track.name == clip.name)
        written = rows_of(root, track.labels)
        known = written[:, 0] > -5
        assert np.allclose(written[known], signal.labels[known], atol=0.006)
        shown.append(signal.shown[known])
        sounded.append(signal.sounded[known])
        labels.append(written[known])
    seen, heard, said = (np.concatenate(parts) for parts in (shown, sounded, labels))
    for column in range(2):
        assert 0.6 < np.corrcoef(seen[:, column], said[:, column])[0, 1] < 0.85
        assert 0.6 < np.corrcoef(heard[:, column], said[:, column])[0, 1] < 0.85
        assert 0.35 < said[:, column].std() < 0.45
        assert abs(np.corrcoef(seen[:, column], heard[:, column])[0, 1]) < 0.15
    assert abs(np.corrcoef(said.T)[0, 1]) < 0.15


def test_persons_of_one_source_hear_one_voice():
    clip = next(clip for clip in GOOD if len(clip.regions) == 2)
    left, right = (
        track_signal(0, clip.name, f"{clip.name}_{side}", clip.rows, clip.rate)
        for side in ("left", "right")
    )
    assert np.allclose(left.voice, right.voice)
    assert np.abs(left.shown - right.shown).mean() > 0.3


def test_the_voice_leads_its_row():
    signal = track_signal(0, "77", "77", 170, GOOD[0].rate)
    lagged = np.interp(
        np.arange(20) / 6, np.arange(len(signal.voice)) / 50 + 0.5, signal.voice[:, 0]
    )
    assert np.allclose(lagged[4:], signal.sounded[4:20, 0], atol=0.05)
