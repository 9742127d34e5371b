"""The stand-in of Aff-Wild2: its 21 cases on disk, and the pipeline against its answers."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from concord.cache import ConfigError, DataError, ManifestTrack
from concord.extract.affwild2 import scan
from concord.extract.labels import read_labels
from concord.fuse.conventions import livia_scores
from concord.fuse.folds import fold_of, straddling
from concord.fuse.protocols import TrackRows, diagnostics, scored
from concord.pipelines.checking import checked
from concord.pipelines.config import parse_config
from concord.pipelines.datasets import dataset_of
from concord.pipelines.plan import Plan
from concord.pipelines.standin import make_standin, standin_dataset
from concord.pipelines.standin_cases import CASES
from PIL import Image

CONFIG = Path(__file__).parents[2] / "pipelines" / "configs" / "standin.yaml"
NEWER = "my annotations/6th ABAW Annotations/VA_Estimation_Challenge"
OLDER = "annotations/VA_Set"
MORE_FACES = "cropped_aligned_new_50_vids/cropped_aligned_new_50_vids"
TEMPLATES = ("CVPR_5th_ABAW_VA_test_set_sample.txt", "CVPR_6th_ABAW_VA_test_set_example.txt")
TEST_LIST = "Valence_Arousal_Estimation_Challenge_test_set_release.txt"
FAMILY = [f"122-60-1920x1080-{part}" for part in range(1, 5)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stand in") / "data"
    calls = []
    made = make_standin(folder, 0, lambda *call: calls.append(call))
    assert made == standin_dataset(str(folder))
    assert [done for done, _, _ in calls] == list(range(1, 25))
    return folder


@pytest.fixture(scope="module")
def expected(root):
    return json.loads((root / "expected.json").read_text())


def label_file(root, name, folder=NEWER):
    (found,) = (path for path in (root / folder).rglob("*.txt") if path.stem == name)
    return found


def lines(root, name, folder=NEWER):
    """Rows of a label file or template, as they are written, without the header."""
    text = label_file(root, name, folder).read_bytes().decode("utf-8-sig")
    header, *rows = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    assert header == "valence,arousal"
    return rows


def unlabelled(root, name):
    return [row for row, line in enumerate(lines(root, name)) if line == "-5,-5"]


def crops(root, name):
    """Numbers of a track's crops."""
    for folder in (root / "cropped_aligned" / name, root / MORE_FACES / name):
        if folder.is_dir():
            found = (re.fullmatch(r"(\d{5})\.(jpg|JPG)", path.name) for path in folder.iterdir())
            return {int(match[1]) for match in found if match}
    return None


def faceless(root, name):
    return sorted(set(range(1, len(lines(root, name)) + 1)) - crops(root, name))


def film(root, source):
    (path,) = (
        path for batch in ("batch1", "batch2") for path in (root / batch).glob(f"{source}.*")
    )
    return path


def frame_times(root, source):
    with av.open(film(root, source)) as container:
        stream = container.streams.video[0]
        packets = (p for p in container.demux(stream) if p.pts is not None)
        return np.array(sorted(float(p.pts * p.time_base) for p in packets))


def heard(root, source):
    """Time of the first sample, and samples (channels, n), of which each second has 16,000."""
    with av.open(film(root, source)) as container:
        frames = list(container.decode(audio=0))
    parts = [frame.to_ndarray() for frame in frames]
    if frames[0].format.is_packed:
        parts = [part.reshape(-1, frames[0].layout.nb_channels).T / 32768 for part in parts]
    assert {frame.sample_rate for frame in frames} == {16_000}
    return float(frames[0].time), np.concatenate(parts, axis=1)


def predictions(root, name):
    """(rows, 3): valence, arousal, and whether there is a face."""
    with (root / "predictions" / f"{name}.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["valence", "arousal", "face"]
    return np.array([[float(value) for value in row] for row in rows])


def words(root, source):
    return json.loads((root / "transcripts" / f"{source}.json").read_text())


def digests(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_command_makes_the_same_bytes_again(root, tmp_path):
    command = [sys.executable, "-m", "concord.pipelines", "demo", "make", "--profile", "standin"]
    done = subprocess.run(
        [*command, str(tmp_path / "b")], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("28 tracks of 24 sources in ")
    assert digests(tmp_path / "b") == digests(root)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            {"adapter": "demo", "profile": "standin"},
            r"data\.adapter: expected affwild2 for profile",
        ),
        ({"adapter": "affwild2", "profile": "stand-in"}, r"data\.profile: expected standin, or"),
    ],
)
def test_profiles_and_adapters_that_do_not_fit(data, told):
    with pytest.raises(ConfigError, match=told):
        parse_config({"data": data})


def test_seeds_below_zero_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="seed has to be 0 or more, not -1"):
        make_standin(tmp_path, -1)
    assert not list(tmp_path.iterdir())


def test_the_table_of_cases_names_tracks_that_exist():
    tracks = standin_dataset("").tracks
    known = {track.name for track in tracks} | {track.source for track in tracks}
    assert list(CASES) == list(range(1, 22))
    for case in CASES.values():
        assert set(case.tracks) <= known
        assert case.what
        assert case.expected


def test_case_1_names(root):
    assert (len(lines(root, "102")), len(lines(root, "102-30-640x360"))) == (160, 150)
    assert film(root, "102").suffix != film(root, "102-30-640x360").suffix
    assert lines(root, "122-60-1920x1080-2")
    assert lines(root, "video45_3")
    sources = {track.source for track in scan(root, edition="ABAW6").tracks}
    for style in (r"\d+-\d+-\d+x\d+(-\d)?", r"\d+", r"video\d+(_\d)?"):
        assert sum(bool(re.fullmatch(style, source)) for source in sources) >= 5


def test_case_2_two_sides_without_the_bare_name(root):
    stems = {path.stem for path in (root / NEWER).rglob("46-30-484x360*.txt")}
    assert stems == {"46-30-484x360_left", "46-30-484x360_right"}
    with av.open(film(root, "46-30-484x360")) as container:
        picture = next(container.decode(video=0))
    assert (picture.width, picture.height) == (128, 64)
    assert lines(root, "46-30-484x360_left") != lines(root, "46-30-484x360_right")


@pytest.mark.parametrize(
    ("source", "side", "folder"),
    [
        ("10-60-1280x720", "_right", "Train_Set"),
        ("video59", "_right", "Val_Set"),
        ("video2", "_left", "TestSet"),
    ],
)
def test_case_3_the_bare_name_and_one_side(root, source, side, folder):
    stems = {path.stem for path in (root / NEWER / folder).glob(f"{source}*.txt")}
    assert stems == {source, source + side}
    assert len(lines(root, source)) == len(lines(root, source + side))


def test_case_4_unlabelled_rows(root):
    assert unlabelled(root, "86-24-1920x1080") == list(range(20))
    assert unlabelled(root, "46-30-484x360_left") == list(range(50, 70))
    assert unlabelled(root, "video76") == [*range(90, 100), *range(165, 180)]
    mostly = unlabelled(root, "10-60-1280x720_right")
    assert len(mostly) == 109
    assert sum(b - a > 1 for a, b in pairwise(mostly)) == 4
    assert len(lines(root, "10-60-1280x720_right")) == 130


def test_case_5_one_column_and_decimals(root):
    assert lines(root, "476")[30:34] == ["-5,0.2", "0.1,-5", "-5.0,-5.0", "-5.0,0.3"]
    assert read_labels(label_file(root, "476"))[1].sum() == 116


def test_case_6_values(root):
    assert lines(root, "203")[:12] == ["-1,1", "1,-1", *["0,0"] * 8, "1,0", "0.25,1"]
    decimals = [
        len(n.partition(".")[2]) for n in ",".join(lines(root, "86-24-1920x1080")).split(",")
    ]
    assert max(decimals) == 14
    assert read_labels(label_file(root, "203"))[1].all()


def test_case_7_missing_faces(root):
    assert faceless(root, "102") == [1, 2, 3, 4, 5]
    assert faceless(root, "video31") == list(range(401, 721))
    short = faceless(root, "video65")
    assert len(short) == 24
    assert sum(b - a > 1 for a, b in pairwise(short)) == 11
    assert faceless(root, "video59_right") == list(range(131, 151))
    assert len(faceless(root, "video2_left")) / 220 == pytest.approx(0.93, abs=0.005)
    assert crops(root, "video4") is None
    assert faceless(root, "video2") == []


@pytest.mark.parametrize(
    ("track", "more"),
    [("102", 1), ("102-30-640x360", 0), ("video2", 2), ("video65", -1), ("461", -3)],
)
def test_case_8_rows_and_frames(root, track, more):
    assert len(lines(root, track)) - len(frame_times(root, track)) == more


def test_case_9_crops_beyond_the_rows(root):
    assert {name: max(crops(root, name)) for name in ("476", "486")} == {"476": 121, "486": 125}
    assert (len(lines(root, "476")), len(lines(root, "486"))) == (120, 73)


@pytest.mark.parametrize(
    ("source", "rate"),
    [
        ("video31", 30),
        ("video45_3", Fraction(30_000, 1001)),
        ("102-30-640x360", 25),  # not 30
        ("86-24-1920x1080", Fraction(24_000, 1001)),
        ("486", 6),
        ("video76", 22.527),
        (FAMILY[0], 30),  # not 60
    ],
)
def test_case_10_rates(root, source, rate):
    times = frame_times(root, source)
    assert np.allclose(times, np.arange(len(times)) / float(rate), atol=1e-3)


def test_case_10_a_variable_rate(root):
    distances = np.diff(frame_times(root, "203"))
    assert distances.max() > 2 * distances.min()


def test_case_11_sound(root):
    suffixes = {path.suffix for batch in ("batch1", "batch2") for path in (root / batch).iterdir()}
    assert {".mp4", ".avi"} <= suffixes
    # The encoder's delay of 1,024 samples comes before a late sound.
    assert heard(root, "46-30-484x360")[0] == pytest.approx(0.4 - 0.064, abs=0.002)
    assert frame_times(root, "video59")[0] == pytest.approx(0.3, abs=0.001)
    assert heard(root, "video59")[0] == pytest.approx(0, abs=0.07)
    assert len(heard(root, "video45_3")[1]) == 2
    assert len(heard(root, "102")[1]) == 1
    short = heard(root, "43-30-406x720")[1].shape[1] / 16_000
    assert short == pytest.approx(0.6 * len(frame_times(root, "43-30-406x720")) / 30, abs=0.1)
    assert np.abs(heard(root, "461")[1]).max() < 1e-4
    assert np.abs(heard(root, "102-30-640x360")[1]).max() > 0.01
    with av.open(film(root, "video4")) as container:
        assert not container.streams.audio


def test_case_12_lengths(root):
    rows = sorted(len(lines(root, track.name)) for track in scan(root, edition="ABAW6").tracks)
    assert len(lines(root, "486")) == 73
    assert rows[0] >= 60
    assert rows[-2] <= 400
    assert rows[-1] == len(lines(root, "video31")) == 900


def test_case_13_constants(root):
    assert set(lines(root, "38")) == {"0.25,0.4"}
    for name in ("38", "video59_right"):
        assert (np.ptp(predictions(root, name)[:, :2], axis=0) == 0).all()
    assert len(set(lines(root, "video59_right"))) > 20


def test_case_14_where_files_lie(root):
    for name in ("486", "476", "461"):
        assert (root / MORE_FACES / name / "00001.jpg").is_file()
    inside = {path.name for path in (root / "cropped_aligned" / "203").iterdir()}
    assert {".DS_Store", "._00001.jpg", "notes.csv", "00011.JPG"} <= inside
    assert {film(root, "203").suffix, film(root, "476").suffix} == {".MP4", ".AVI"}


def test_case_15_folders_and_lines(root):
    assert {path.name for path in (root / NEWER).iterdir()} == {"Train_Set", "Val_Set", "TestSet"}
    assert {path.name for path in (root / OLDER).iterdir()} == {"Training_Set", "Validation_Set"}
    assert label_file(root, FAMILY[1]).read_bytes().count(b"\r\n") == 111
    assert label_file(root, FAMILY[2]).read_bytes().startswith(b"\xef\xbb\xbfvalence,arousal\n")
    assert label_file(root, FAMILY[0]).read_bytes().startswith(b"valence,arousal\n")


def test_case_16_parts(root):
    assert {label_file(root, name).parent.name for name in FAMILY} == {"Train_Set"}
    assert {track.family for track in standin_dataset("").tracks if track.name in FAMILY} == {
        "122-60-1920x1080"
    }


def test_case_17_releases(root):
    assert label_file(root, "234", OLDER).parent.name == "Training_Set"
    assert label_file(root, "234").parent.name == "TestSet"
    older = lines(root, "102-30-640x360", OLDER)
    newer = lines(root, "102-30-640x360")
    differ = [row for row, pair in enumerate(zip(older, newer, strict=True)) if len(set(pair)) > 1]
    assert differ == list(range(60, 67))
    assert {newer[row] for row in differ} == {"-5,-5"}
    assert lines(root, "102", OLDER) == lines(root, "102")
    with pytest.raises(DataError, match=r"choose with data\.edition: ABAW1, ABAW6"):
        scan(root)
    assert [track.name for track in scan(root, edition="ABAW1").leaked] == ["234"]
    assert not scan(root, edition="ABAW6").leaked


def test_case_18_test_tracks(root):
    listed = (root / TEST_LIST).read_text().splitlines()
    assert len(listed) == 7
    assert {path.stem for path in (root / NEWER / "TestSet").iterdir()} == set(listed)
    for name, end in zip(TEMPLATES, (",", ",0.5,-0.5"), strict=True):
        header, *rows = (root / name).read_text().splitlines()
        assert header == "image_location,valence,arousal"
        wanted = [
            f"{t}/{k:05d}.jpg{end}" for t in listed for k in range(1, len(lines(root, t)) + 1)
        ]
        assert rows == wanted
    assert {line for name in listed for line in lines(root, name)} == {"0,0"}


def test_case_19_transcripts(root):
    assert words(root, "38")["words"] == []
    plain = words(root, "video31")["words"]
    assert len(plain) > 20
    assert all(a["end"] <= b["start"] for a, b in pairwise(plain))
    first, second = words(root, "video45_3")["words"][:2]
    assert first["start"] < second["start"] < first["end"] < second["end"]
    last = words(root, "86-24-1920x1080")["words"][-1]
    assert last["start"] > frame_times(root, "86-24-1920x1080")[-1] + 0.9
    assert (words(root, "video59")["language"], words(root, "102")["language"]) == ("de", "en")
    assert words(root, "102")["words"][0]["word"] == "doesn't"


def test_case_20_damage(root):
    for number, found in ((40, True), (41, False), (42, False), (43, False), (44, True)):
        path = root / "cropped_aligned" / "203" / f"{number:05d}.jpg"
        try:
            with Image.open(path) as image:
                image.load()
                readable = image.size == (112, 112)
        except OSError:
            readable = False
        assert readable == found, path
    assert film(root, "311").name == "311.wav"
    assert film(root, "311").stat().st_size == 0


def test_case_21_answers(root, expected):
    assert {"splits", "tracks", "folds", "families", "scores"} <= set(expected)
    assert set(expected["scores"]["val"]) == {"A", "B", "C", "tracks_under_A"}
    names = {path.stem for path in (root / "predictions").iterdir()}
    assert names == {path.stem for path in (root / NEWER / "Val_Set").iterdir()}


def test_rows_and_proportions(root, expected):
    rows = {split: found["rows"] for split, found in expected["splits"].items()}
    total = sum(rows.values())
    assert 4000 <= total <= 5500
    shares = [rows[split] / total for split in ("train", "val", "test")]
    assert shares == pytest.approx([0.6, 0.13, 0.27], abs=0.02)
    older = sum(len(lines(root, path.stem, OLDER)) for path in (root / OLDER).rglob("*.txt"))
    assert total + older <= 6000


@pytest.mark.parametrize(
    ("folder", "mean", "spread"),
    [
        ("Train_Set", (0.074, 0.297), (0.402, 0.298)),
        ("Val_Set", (0.172, 0.344), (0.392, 0.269)),
    ],
)
def test_labels_are_like_those_of_the_corpus(root, folder, mean, spread):
    tracks = [read_labels(path) for path in sorted((root / NEWER / folder).iterdir())]
    values = np.concatenate([values[valid] for values, valid in tracks])
    assert values.mean(axis=0) == pytest.approx(mean, abs=0.04)
    assert values.std(axis=0) == pytest.approx(spread, abs=0.03)
    repeated = [(values[1:] == values[:-1]).all(axis=1) for values, _ in tracks]
    assert np.concatenate(repeated).mean() == pytest.approx(0.5, abs=0.06)


def test_the_voice_runs_half_a_second_ahead(root):
    """Loudness around a moment goes with arousal half a second later."""
    arousal = read_labels(label_file(root, "video31"))[0][:, 1]
    sound = heard(root, "video31")[1][0]
    loud = np.array([np.log(sound[at : at + 1600].std()) for at in range(0, 450_000, 160)])
    rows = np.arange(60, 780)
    lags = np.arange(-10, 31)
    at = [np.rint((rows - lag) / 30 * 100 - 5).astype(int) for lag in lags]
    found = [np.corrcoef(loud[places], arousal[rows])[0, 1] for places in at]
    assert max(found) > 0.5
    assert lags[np.argmax(found)] / 30 == pytest.approx(0.5, abs=0.1)


def config_of(root, **more):
    config = yaml.safe_load(CONFIG.read_text())
    config["data"] |= {"path": str(root)} | more
    return parse_config(config)


def test_the_adapter_finds_what_was_planned(root, tmp_path):
    assert scan(root, edition="ABAW6") == standin_dataset(str(root))
    assert dataset_of(config_of(root)) == standin_dataset(str(root), "standin")
    # The workflow plans with it before it is there, and when it is there in part.
    (tmp_path / "cropped_aligned").mkdir()
    assert dataset_of(config_of(tmp_path)) == standin_dataset(str(tmp_path), "standin")
    assert dataset_of(config_of(root, profile="demo")) == dataset_of(config_of(root))


def test_the_workflow_knows_all_that_is_made(root, tmp_path):
    planned, there = Plan(config_of(tmp_path / "none")), Plan(config_of(root))
    for wanted, found in zip(planned.demo_outputs(), there.demo_outputs(), strict=True):
        assert [str(Path(name).relative_to(tmp_path / "none")) for name in wanted] == [
            str(Path(name).relative_to(root)) for name in found
        ]
        assert all(Path(name).exists() for name in found)
    made = {name for names in there.demo_outputs() for name in names}
    for group in there.groups:
        for part in there.parts:
            assert set(there.inputs(group, part)) <= made
            assert there.stamp(group, part) == ""


def test_the_check_counts_what_was_planted(root, expected):
    found = checked(config_of(root))
    assert found["release"] == expected["release"]
    for split, counts in expected["splits"].items():
        assert counts == {name: found["splits"][split][name] for name in counts}
        assert found["splits"][split]["without_media"] == 0
    told = {each["text"]: each["names"] for each in found["findings"]}
    assert {each["level"] for each in found["findings"]} == {"warning"}
    by_start = {text[:22]: list(names) for text, names in told.items()}
    assert by_start == {
        "16 training and 5 vali": [],
        "two persons of one sou": ["10-60-1280x720", "video2", "video59"],
        "media file is empty": ["311"],
        "sources without sound:": ["video4"],
        "no face folder": ["video4"],
        "over 20% of the rows h": ["video2_left", "video31"],
        "face images are number": ["476", "486"],
        "face folders hold file": ["203"],
        "visual/resnet18: track": ["video4"],
        "audio/resnet18: tracks": ["311"],
    }


def test_the_answers_of_each_track_are_on_the_disk(root, expected):
    assert set(expected["tracks"]) == {track.name for track in scan(root, edition="ABAW6").tracks}
    for name, track in expected["tracks"].items():
        assert len(lines(root, name)) == track["rows"]
        numbers = crops(root, name) or set()
        assert sum(number <= track["rows"] for number in numbers) == track["faces"]
        if track["split"] != "test":
            assert read_labels(label_file(root, name))[1].sum() == track["labelled"]
        source = track["source"]
        assert (0 if source == "311" else len(frame_times(root, source))) == track["frames"]


def test_the_check_refuses_the_older_release(root):
    told = {each["text"]: each for each in checked(config_of(root, edition="ABAW1"))["findings"]}
    leaked = told["labelled tracks that are test tracks by the test list"]
    assert (leaked["level"], leaked["names"]) == ("error", ("234",))


def track_rows(root, name, *, filled):
    """A track of predictions; without `filled` its faceless rows are not predicted."""
    table = predictions(root, name)
    labels, valid = read_labels(label_file(root, name))
    face = np.isin(np.arange(1, len(labels) + 1), list(crops(root, name)))
    assert (face == table[:, 2].astype(bool)).all()
    predicted = table[:, :2].copy()
    predicted[~face] = predicted[~face] if filled else np.nan
    return TrackRows(
        track=name,
        family=name,
        predictions=predicted,
        labels=labels,
        labelled=valid,
        face=face,
        times=np.full(len(labels), np.nan),
    )


@pytest.mark.parametrize(
    ("convention", "protocol", "filled"),
    [("A", "official", False), ("B", "faces_only", False), ("C", "livia", True)],
)
def test_scores_are_the_expected_ones(root, expected, convention, protocol, filled):
    names = expected["scores"]["val"]["tracks_under_A"]
    tracks = [track_rows(root, name, filled=filled) for name in names]
    result = scored(protocol, "none", tracks)
    wanted = expected["scores"]["val"][convention]
    assert result.rows == wanted["rows"]
    for name in ("valence", "arousal", "score"):
        assert getattr(result, name) == pytest.approx(wanted[name], abs=1e-9)
    if convention == "A":
        for each in diagnostics(result):
            of_track = names[each["track"]]
            found = [each["valence"], each["arousal"]]
            assert (found == of_track) or found == pytest.approx(of_track, abs=1e-9)
    if convention == "C":
        # As the published programs have it: from predictions and labels with their -5.
        pairs = [(t.predictions, np.where(t.labelled[:, None], t.labels, -5)) for t in tracks]
        plain = [wanted["valence"], wanted["arousal"]]
        assert livia_scores(pairs, "jmt") == pytest.approx(plain, abs=1e-9)


def test_conventions_differ(expected):
    scores = [expected["scores"]["val"][name] for name in "ABC"]
    assert len({each["rows"] for each in scores}) == 3
    assert len({round(each["score"], 3) for each in scores}) == 3
    assert expected["scores"]["val"]["tracks_under_A"]["38"] == [None, None]
    assert expected["scores"]["val"]["tracks_under_A"]["video59_right"] == pytest.approx([0, 0])


def manifest_tracks(root):
    return [
        ManifestTrack(
            track=t.name, source=t.source, split=t.split, family=t.family, rows=1, rate=None
        )
        for t in scan(root, edition="ABAW6").tracks
    ]


def test_the_six_folds_are_the_fields(root, expected):
    tracks = manifest_tracks(root)
    assert len(expected["folds"]) == 6
    for name, wanted in expected["folds"].items():
        fold = fold_of(tracks, name)
        sides = {"train": fold.train, "val": fold.val}
        assert {side: sorted(tracks[i].track for i in at) for side, at in sides.items()} == wanted
    assert [len(fold["val"]) for fold in expected["folds"].values()] == [5, 4, 3, 3, 3, 3]
    assert any(straddling(tracks, fold_of(tracks, name)) for name in expected["folds"])


def test_grouped_folds_split_no_family(root, expected):
    tracks = manifest_tracks(root)
    several = {name: members for name, members in expected["families"].items() if len(members) > 1}
    assert several["122-60-1920x1080"] == FAMILY
    assert len(several) == 5
    validated = []
    for k in range(6):
        fold = fold_of(tracks, f"grouped:{k}")
        train, val = ({tracks[i].track for i in side} for side in (fold.train, fold.val))
        validated += sorted(val)
        for members in expected["families"].values():
            assert not (train & set(members) and val & set(members))
    assert sorted(validated) == sorted(t.track for t in tracks if t.split != "test")


@pytest.mark.slow
def test_extraction_loses_what_is_damaged_and_no_more(root, expected, tmp_path):
    config = yaml.safe_load(CONFIG.read_text())
    config["data"]["path"] = str(root)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "concord.pipelines", "extract", "run", "--threads=1"]
    command += ["--config", str(tmp_path / "config.yaml"), "--store", str(tmp_path / "store")]
    command += ["--receipt", str(tmp_path / "receipt.json")]
    subprocess.run(command, check=True, timeout=900)
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    lost = {(entry["source"], entry["stream"]) for entry in receipt["quarantine"]}
    assert lost == {("video4", "visual/resnet18"), ("311", "audio/resnet18")}
    tracks = expected["tracks"]
    assert {name: found["rows"] for name, found in receipt["tracks"].items()} == {
        name: track["rows"] for name, track in tracks.items()
    }
    visual = receipt["items"]["visual/resnet18"]
    assert set(visual) == set(tracks) - {"video4"}
    for name, item in visual.items():
        seen = tracks[name]["faces"] - tracks[name]["damaged_faces"]
        assert item["rows"] - item["invalid"] == seen, name
    audio = receipt["items"]["audio/resnet18"]
    assert set(audio) == set(tracks) - {"311"}
    silent = {name: item["invalid"] for name, item in audio.items() if item["invalid"]}
    assert set(silent) == {"video4", "43-30-406x720", "46-30-484x360_left", "46-30-484x360_right"}
    assert silent["video4"] == 200
    # From 3.38 s, and the half second that repeats, to 170 rows; up to 0.4 s, less the delay.
    assert silent["43-30-406x720"] == pytest.approx(170 - 30 * 3.88, abs=2)
    assert silent["46-30-484x360_left"] == pytest.approx(30 * 0.4, abs=2)
    labels = receipt["items"]["labels/va"]
    for name, item in labels.items():
        assert item["rows"] - item["invalid"] == tracks[name]["labelled"]
