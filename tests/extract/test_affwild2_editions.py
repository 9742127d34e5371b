"""Releases, test lists and templates: what is withheld, how many rows it has, what may not mix."""

from __future__ import annotations

import pytest
from concord.cache import DataError, FeatureStore
from concord.extract.affwild2 import scan
from concord.extract.editions import MOVED, fits_counts, release_of_counts, release_of_path
from concord.extract.engine import extract
from concord.extract.index import Index
from concord.extract.settings import AudioSettings, VisualSettings
from concord.extract.templates import count_rows, is_test_list, read_test_list

LABELS = "6th ABAW Annotations/VA_Estimation_Challenge"
HEADER = "valence,arousal\n"
TEMPLATE = "CVPR_6th_ABAW_VA_test_set_example.txt"


def write(root, **files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def labels(root, folder, *names, rows=2):
    for name in names:
        write(root, **{f"{folder}/{name}.txt": HEADER + "0.5,0.25\n" * rows})


def template(tail, **rows):
    lines = [
        f"{name}/{k:05d}.jpg{tail}" for name, count in rows.items() for k in range(1, count + 1)
    ]
    return "\n".join(["image_location,valence,arousal", *lines]) + "\n"


@pytest.mark.parametrize(
    ("path", "splits", "release"),
    [
        ("annotations/VA_Set", ["Training_Set"], "ABAW1"),
        ("annotations/VA_Set", ["Train_Set"], "ABAW2"),
        ("Third ABAW Annotations/VA_Estimation_Challenge", ["Train_Set"], "ABAW3"),
        ("5th_ABAW_Annotations/VA_Estimation_Challenge", [], "ABAW5"),
        ("my data/6th ABAW Annotations/VA_Estimation_Challenge", [], "ABAW6"),
        ("10th-ABAW/VA", [], "ABAW10"),
        ("Tenth ABAW Annotations/VA_Estimation_Challenge", [], "ABAW10"),
        ("annotations/VA_Estimation_Challenge", ["Train_Set"], ""),
        ("16th_century/VA_Estimation_Challenge", [], ""),
    ],
)
def test_releases_by_name(path, splits, release):
    assert release_of_path(path, splits) == release


def test_releases_by_counts():
    assert release_of_counts(351, 71) == "ABAW1-2"
    assert release_of_counts(356, 76) == "ABAW5-10"
    assert release_of_counts(355, 76) == ""
    assert fits_counts("ABAW6", 356, 76) is True
    assert fits_counts("ABAW6", 341, 71) is False
    assert fits_counts("ABAW4", 1, 1) is None
    assert len(MOVED) == 10


@pytest.mark.parametrize(
    "name",
    [
        "va_test_set.txt",
        "test_set_VA_Challenge.txt",
        "Valence_Arousal_Estimation_Challenge_test_set_release.txt",
        "CVPR_5th_ABAW_VA_test_set_sample.txt",
        "CVPR_6th_ABAW_VA_test_set_example.txt",
        "ICCV_9th_ABAW_VA_test_set_sample.txt",
        "ABAW_VA_test_set_sample.txt",
    ],
)
def test_lists_of_all_editions_are_found(tmp_path, name):
    labels(tmp_path, f"{LABELS}/Train_Set", "1")
    write(tmp_path, **{f"lists of tests/{name}": template(",", video4=3)})
    found = {track.name: track for track in scan(tmp_path).tracks}
    assert (found["video4"].split, found["video4"].rows, found["video4"].labels) == (
        "test",
        3,
        None,
    )
    assert found["video4"].template == f"lists of tests/{name}"


@pytest.mark.parametrize(
    "name", ["expr_test_set.txt", "readme.txt", "CVPR_6th_ABAW_AU_test_set_sample.txt"]
)
def test_lists_of_other_tasks_are_not(name):
    assert not is_test_list(name)


@pytest.mark.parametrize("tail", [",", ",0.5,-0.5", ",,"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_templates_of_all_styles(tmp_path, tail, end, mark):
    rows = {"1": 1, "10": 12, "1-30-640x360": 3, "video2_left": 2}
    text = mark + template(tail, **rows).replace("\n", end)
    for last in ("", end):
        (tmp_path / TEMPLATE).write_text(text.rstrip() + last, newline="")
        assert read_test_list(tmp_path / TEMPLATE) == rows


def without(number):
    lines = template(",", a=4, b=3).splitlines()
    return "\n".join(lines[:number] + lines[number + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        *(without(number) for number in (1, 2, 3, 5, 6)),
        template(",", a=3) + template(",", b=2).partition("\n")[2] + "a/00004.jpg,\n",
        template(",", a=3) + template(",", a=2).partition("\n")[2],
        template(",", a=3) + "b,00001\n",
        "image_location,valence,arousal\n",
    ],
)
def test_a_damaged_template_is_refused(tmp_path, text):
    (tmp_path / TEMPLATE).write_text(text)
    with pytest.raises(DataError, match=r"test_set_example\.txt: "):
        read_test_list(tmp_path / TEMPLATE)


def test_lists_and_counts(tmp_path):
    path = tmp_path / "va_test_set.txt"
    path.write_text("102\r\n102-30-640x360\n\nvideo2_left \n")
    assert read_test_list(path) == {"102": None, "102-30-640x360": None, "video2_left": None}
    path.write_text("102,7\nvideo2_left 12\n")
    assert read_test_list(path) == {"102": 7, "video2_left": 12}
    for text, told in (("102\n102\n", "listed twice"), ("a/00001.jpg\n", "expected a track")):
        path.write_text(text)
        with pytest.raises(DataError, match=told):
            read_test_list(path)


def test_listed_tracks_without_rows_are_withheld_but_no_tracks(tmp_path):
    labels(tmp_path, f"{LABELS}/Train_Set", "1")
    write(tmp_path, **{"va_test_set.txt": "102\nvideo4\n"})
    dataset = scan(tmp_path)
    assert [track.name for track in dataset.tracks] == ["1"]
    assert dataset.withheld == {"102", "video4"}


@pytest.mark.parametrize("folder", ["Test_Set", "TestSet", "Target_Set", "test"])
def test_a_test_track_has_the_rows_of_its_own_template(tmp_path, folder):
    labels(tmp_path, f"{LABELS}/Train_Set", "1")
    labels(tmp_path, f"{LABELS}/{folder}", "video4", rows=5)
    dataset = scan(tmp_path)
    track = dataset.tracks[1]
    assert (track.split, track.labels, track.rows) == ("test", None, None)
    assert dataset.withheld == {"video4"}
    assert count_rows(tmp_path / track.template) == 5


def test_a_labelled_test_track_is_refused_by_name(tmp_path):
    labels(tmp_path, f"{LABELS}/Train_Set", "102", "102-30-640x360")
    write(tmp_path, **{"va_test_set.txt": "102\n"})
    dataset = scan(tmp_path)
    assert [track.name for track in dataset.leaked] == ["102"]
    with pytest.raises(DataError, match=r"1 labelled tracks are test .*: 102 \(train\); label rel"):
        extract(dataset, {"labels/va": None}, FeatureStore.create(tmp_path / "store"))


@pytest.mark.parametrize(
    ("folder", "leaks"),
    [
        ("Third ABAW Annotations/VA_Estimation_Challenge/Train_Set", True),
        ("annotations/VA_Set/Train_Set", False),
        ("annotations/VA_Estimation_Challenge/Train_Set", False),
    ],
)
def test_tracks_that_changed_sides(tmp_path, folder, leaks):
    labels(tmp_path, folder, "171", "1")
    assert [track.name for track in scan(tmp_path).leaked] == (["171"] if leaks else [])


def test_two_releases_are_one_by_choice(tmp_path):
    labels(tmp_path, "Third ABAW Annotations/VA_Estimation_Challenge/Train_Set", "1", "2")
    labels(tmp_path, f"{LABELS}/Train_Set", "1", rows=3)
    with pytest.raises(DataError, match=r"keep one label release.*data\.edition: ABAW3, ABAW6"):
        scan(tmp_path)
    chosen = scan(tmp_path, edition="ABAW6")
    assert [track.labels for track in chosen.tracks] == [f"{LABELS}/Train_Set/1.txt"]
    assert chosen.release == "ABAW6"
    assert len(scan(tmp_path, edition="ABAW3").tracks) == 2


def test_face_roots(tmp_path):
    labels(tmp_path, f"{LABELS}/Train_Set", "1", "2", "3")
    write(
        tmp_path,
        **{
            "cropped/1/00001.jpg": "",
            "cropped/3/00001.jpg": "",
            "my faces/cropped_aligned/1/00001.jpg": "",
            "my faces/cropped_aligned/2/.DS_Store": "",
            "cropped_aligned_new_50_vids/cropped_aligned_new_50_vids/2/00007.JPG": "",
        },
    )
    faces = [track.faces for track in scan(tmp_path).tracks]
    new = "cropped_aligned_new_50_vids/cropped_aligned_new_50_vids/2"
    # Aligned and other crops are never mixed.
    assert faces == ["my faces/cropped_aligned/1", new, None]
    other = [track.faces for track in scan(tmp_path, faces="cropped").tracks]
    assert other == ["cropped/1", None, "cropped/3"]


def test_labels_of_other_tasks_are_no_tracks(tmp_path):
    labels(tmp_path, "annotations/VA_Set/Train_Set", "1")
    labels(tmp_path, "annotations/EXPR_Set/Train_Set", "2")
    labels(tmp_path, "AU_Set/Train_Set", "3")
    assert [track.name for track in scan(tmp_path).tracks] == ["1"]


def test_sound_stands_for_a_missing_video(tmp_path):
    labels(tmp_path, f"{LABELS}/Train_Set", "1", "2_left", "3")
    files = ("batch1/1.mp4", "audio/1.wav", "wav/1.wav", "audio/2.wav", "audio/3.wav", "wav/3.wav")
    write(tmp_path, **dict.fromkeys(files, ""))
    write(tmp_path, **{"rates.csv": "source,rate\n2,22.527\n1,30\n"})
    with pytest.raises(DataError, match=r"source '3' twice: audio/3\.wav, wav/3\.wav"):
        scan(tmp_path)
    (tmp_path / "wav" / "3.wav").unlink()
    one, two, three = scan(tmp_path).tracks
    assert (one.media, one.clock) == ("batch1/1.mp4", None)
    assert (two.media, two.clock.rate) == ("audio/2.wav", 22.527)
    assert (three.media, three.clock) == ("audio/3.wav", None)


def test_test_tracks_have_features_of_the_templates_rows_and_no_labels(tmp_path, media):
    """Rows of the template, not of the film: ten frames, twelve and seven rows."""
    media.labels(tmp_path / LABELS / "Train_Set" / "1.txt", 4)
    media.labels(tmp_path / LABELS / "Validation_Set" / "2.txt", 4)
    write(tmp_path, **{TEMPLATE: template(",", **{"9": 12, "5_left": 7})})
    for name in ("1", "2", "9", "5"):
        frames = [media.picture(k) for k in range(10)]
        media.write(tmp_path / "batch1" / f"{name}.mp4", frames, sound=media.tone(1.0))
    (tmp_path / "batch1" / "1.mp4").unlink()
    media.write(tmp_path / "sound" / "1.wav", sound=media.tone(1.0), sound_codec="pcm_s16le")
    visual = VisualSettings(weights="seeded", resize=32, crop=32)
    streams = {"visual/resnet18": visual, "audio/resnet18": AudioSettings(), "labels/va": None}
    store = FeatureStore.create(tmp_path / "store")
    receipt = extract(scan(tmp_path), streams, store)
    assert {name: track.rows for name, track in receipt.tracks.items()} == {
        "1": 4,
        "2": 4,
        "5_left": 7,
        "9": 12,
    }
    assert sorted(receipt.items["labels/va"]) == ["1", "2"]
    assert sorted(receipt.items["visual/resnet18"]) == ["2", "5_left", "9"]
    assert sorted(receipt.items["audio/resnet18"]) == ["1", "2", "5_left", "9"]
    assert [(entry.stream, entry.tracks) for entry in receipt.quarantine] == [
        ("visual/resnet18", ("1",))
    ]
    index = Index([receipt], store)
    manifest = index.manifest()
    assert manifest.edition.startswith("ABAW6-")
    assert [track.track for track in manifest.split("test")] == ["5_left", "9"]
    assert index.coverage(0.5)["splits"]["test"]["labelled"] == 0
    store.save_manifest(manifest)
    item = store["visual/resnet18"].of(manifest.name)["9"]
    assert item.rows.shape == (12, 512)
    assert item.flags.tolist() == [0] * 10 + [1] * 2
    # Sound alone: its second is shared out to the four rows.
    times = store["audio/resnet18"].of(manifest.name)["1"].times
    assert times == pytest.approx([0, 0.25, 0.5, 0.75], abs=0.01)
