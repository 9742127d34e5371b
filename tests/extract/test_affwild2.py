"""Aff-Wild2's folders: exact names, aliases, sides, families, and what must not be guessed."""

from __future__ import annotations

import pytest
from concord.cache import DataError
from concord.extract.affwild2 import family_of, scan, source_of
from concord.extract.parts import part_of, sources_of_part


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def tracks(root):
    return {track.name: track for track in scan(root).tracks}


LABELS = "annotations/VA_Estimation_Challenge"


@pytest.mark.parametrize("folder", ["VA_Estimation_Challenge", "VA_Set", "a b/VA_Set", "."])
@pytest.mark.parametrize(
    ("alias", "split"),
    [
        ("Train_Set", "train"),
        ("Training_Set", "train"),
        ("train", "train"),
        ("Validation_Set", "val"),
        ("Val_Set", "val"),
        ("validate", "val"),
    ],
)
def test_split_folders(tmp_path, folder, alias, split):
    touch(tmp_path, f"{folder}/{alias}/102.txt")
    (track,) = scan(tmp_path).tracks
    assert (track.name, track.split) == ("102", split)
    assert (tmp_path / track.labels).is_file()


def test_stems_are_exact(tmp_path):
    touch(
        tmp_path,
        f"{LABELS}/Train_Set/102.txt",
        f"{LABELS}/Train_Set/102-30-640x360.txt",
        f"{LABELS}/Train_Set/10-60-1280x720.txt",
        "batch1/102-30-640x360.mp4",
        "batch2/1020.mp4",
        "batch2/10-60-1280x720-1.avi",
        "cropped_aligned/102-30-640x360/00001.jpg",
    )
    found = tracks(tmp_path)
    assert found["102"].media is None
    assert found["102"].faces is None
    assert found["102-30-640x360"].media == "batch1/102-30-640x360.mp4"
    assert found["102-30-640x360"].faces == "cropped_aligned/102-30-640x360"
    assert found["10-60-1280x720"].media is None
    assert [t.name for t in scan(tmp_path).tracks] == ["10-60-1280x720", "102", "102-30-640x360"]


def test_sides_share_a_source(tmp_path):
    touch(
        tmp_path,
        *(f"{LABELS}/Train_Set/{name}.txt" for name in ("5_left", "5_right", "6", "6_left")),
        "batch1/5.mp4",
        "batch1/6.mkv",
        "cropped_aligned/5_left/00001.jpg",
        "cropped_aligned/5/00001.jpg",
    )
    found = tracks(tmp_path)
    assert {name: (t.source, t.region) for name, t in found.items()} == {
        "5_left": ("5", "left"),
        "5_right": ("5", "right"),
        "6": ("6", "whole"),
        "6_left": ("6", "left"),
    }
    assert found["5_left"].media == found["5_right"].media == "batch1/5.mp4"
    assert (found["5_left"].faces, found["5_right"].faces) == ("cropped_aligned/5_left", None)
    assert scan(tmp_path).sources == ("5", "6")
    assert source_of("a_left_right") == ("a_left", "right")


@pytest.mark.parametrize(
    ("source", "family"),
    [
        ("10-60-1280x720-1", "10-60-1280x720"),
        ("10-60-1280x720-2", "10-60-1280x720"),
        ("10-60-1280x720", "10-60-1280x720"),
        ("video49_1", "video49"),
        ("video49", "video49"),
        ("102", "102"),
        ("102-30-640x360", "102-30-640x360"),
        ("46-30-484x360", "46-30-484x360"),
    ],
)
def test_families(source, family):
    assert family_of(source) == family


def test_hidden_and_foreign_files_are_left_out(tmp_path):
    touch(
        tmp_path,
        f"{LABELS}/Train_Set/7.txt",
        f"{LABELS}/Train_Set/.7.txt",
        f"{LABELS}/Train_Set/._8.txt",
        f"{LABELS}/Train_Set/readme.md",
        "batch1/.7.mp4",
        "batch1/7.txt",
        "batch1/7.mp4.part",
        ".trash/7.mp4",
        "cropped_aligned/.cache/x",
    )
    (track,) = scan(tmp_path).tracks
    assert (track.name, track.media, track.faces) == ("7", None, None)


def test_several_face_roots_and_upper_case_suffix(tmp_path):
    touch(
        tmp_path,
        f"{LABELS}/Train_Set/7.txt",
        f"{LABELS}/Validation_Set/8.txt",
        "batch1/7.MP4",
        "cropped_aligned/7/00001.jpg",
        "cropped_aligned_new_50_vids/8/00001.jpg",
    )
    found = tracks(tmp_path)
    assert found["7"].media == "batch1/7.MP4"
    assert found["8"].faces == "cropped_aligned_new_50_vids/8"


@pytest.mark.parametrize(
    "second", ["Validation_Set/9.txt", "Training_Set/9.txt", "../VA_Set/Train_Set/9.txt"]
)
def test_one_track_twice_is_refused(tmp_path, second):
    touch(tmp_path, f"{LABELS}/Train_Set/9.txt", f"{LABELS}/{second}")
    with pytest.raises(DataError, match=r"track '9' is also at .*Train_Set/9\.txt"):
        scan(tmp_path)


@pytest.mark.parametrize("second", ["batch2/9.mp4", "batch1/9.avi", "9.mkv"])
def test_one_source_twice_is_refused(tmp_path, second):
    touch(tmp_path, f"{LABELS}/Train_Set/9.txt", "batch1/9.mp4", second)
    with pytest.raises(DataError, match="source '9' twice") as error:
        scan(tmp_path)
    assert "batch1/9.mp4" in str(error.value)
    assert second in str(error.value)


def test_an_empty_or_missing_root(tmp_path):
    with pytest.raises(DataError, match="no label files; expected VA_Estimation_Challenge or VA_S"):
        scan(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        scan(tmp_path / "nowhere")


def test_scan_depends_on_names_alone(tmp_path):
    for name in ("one", "two"):
        touch(tmp_path / name, f"{LABELS}/Train_Set/7.txt", "batch1/7.mp4")
    (tmp_path / "two" / LABELS / "Train_Set" / "7.txt").write_text("not read")
    assert scan(tmp_path / "one").tracks == scan(tmp_path / "two").tracks


SOURCES = [f"video{k}" for k in range(200)] + [f"{k}-30-640x360" for k in range(100)]


@pytest.mark.parametrize("parts", [1, 2, 7, 300])
def test_parts_partition_the_sources(parts):
    pieces = [sources_of_part(SOURCES, part, parts) for part in range(1, parts + 1)]
    assert sorted(source for piece in pieces for source in piece) == sorted(SOURCES)
    for piece in pieces:
        assert piece == [source for source in SOURCES if source in piece]
    if parts == 7:
        assert max(map(len, pieces)) < 2 * len(SOURCES) / 7


def test_adding_a_source_changes_one_part():
    before = [sources_of_part(SOURCES, part, 5) for part in range(1, 6)]
    after = [sources_of_part([*SOURCES, "new"], part, 5) for part in range(1, 6)]
    changed = [k + 1 for k in range(5) if before[k] != after[k]]
    assert changed == [part_of("new", 5)]


def test_parts_are_pinned():
    # Another hash would send every source of every user's half-done data set to another job.
    sources = ("102", "video49_1", "10-60-1280x720")
    assert [part_of(source, 1000) for source in sources] == [940, 512, 430]
