"""Tables of tracks: labels of other corpora, rows on a clock, and what is refused by its line."""

from __future__ import annotations

import itertools
import statistics
from fractions import Fraction

import numpy as np
import pytest
from concord.cache import REPEATED, DataError, FeatureStore
from concord.extract.engine import extract
from concord.extract.index import Index
from concord.extract.inputs import changed_inputs
from concord.extract.label_tables import LabelForm, read_label_table
from concord.extract.rows import RowClock, frames_of_rows
from concord.extract.settings import AudioSettings, VisualSettings
from concord.extract.table import scan_table
from hypothesis import given, settings
from hypothesis import strategies as st


def read(tmp_path, text, clock=None, **form):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_label_table(path, LabelForm(**form), clock)


def test_recola_like(tmp_path):
    """40 ms steps in an ARFF file of time, arousal and valence; raters lag by 3 and 2 rows."""
    head = "@relation gold\n@attribute name string\n@data\n\n"
    rows = [(k * 0.04, k / 10, -k / 10) for k in range(10)]
    text = head + "".join(f"'dev_1',{t:.2f},{a},{v}\n" for t, a, v in rows)
    form = {"time": "2", "arousal": "3", "valence": "4", "delay_s": (0.08, 0.12)}
    found = read(tmp_path, text, RowClock(rate=25, start_s=1.0), **form)
    assert np.allclose(found.times, 1 + np.arange(10) / 25)
    assert found.valid.tolist() == [True] * 7 + [False] * 3
    for k in range(7):
        assert found.values[k] == pytest.approx([-(k + 2) / 10, (k + 3) / 10])
    assert not found.values[7:].any()


def test_sewa_like(tmp_path):
    """100 ms steps, semicolons, a name in quotes, and gaps."""
    text = "name;timestamp;arousal;valence;liking\n'a';0.0;0.1;0.2;0\n'a';0.1;nan;0.3;0\n"
    text += "'a';0.2;0.5;;0\n'a';0.3;-1;1;0\n"
    found = read(tmp_path, text, time="timestamp", start_s=0.5)
    assert np.allclose(found.times, [0.5, 0.6, 0.7, 0.8])
    assert found.valid.tolist() == [True, False, False, True]
    assert found.values.tolist() == [[0.2, 0.1], [0, 0], [0, 0], [1, -1]]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("0 5\n10 0\nNA 3\n", {"invalid": "NA"}),
        ("0\t5\n10\t0\n-100\t3\n", {"invalid": "-100"}),
        ("# raters\n0,5\n10,0\n-100.0,3\n\n", {"invalid": "-100"}),
    ],
)
def test_numbered_columns_ranges_and_markers(tmp_path, text, form):
    found = read(tmp_path, text, valence="1", arousal="2", minimum=(0, -5), maximum=(10, 5), **form)
    assert found.values.tolist() == [[-1, 1], [1, 0], [0, 0]]
    assert found.valid.tolist() == [True, True, False]
    assert found.times is None


@pytest.mark.parametrize(
    ("text", "form", "told"),
    [
        ("valence,arousal\n0,1\n0,2\n", {}, r"line 3: expected valence in \[-1, 1\].*found 0, 2"),
        ("valence,arousal\n0,1\n0,x\n", {}, r"line 3: expected numbers in columns 1, 2, .*'0 x'"),
        ("valence,arousal\n0,1\n0\n", {}, r"line 3: expected numbers"),
        ("valence,arousal\n0,inf\n", {}, r"line 2: expected numbers"),
        ("V,A\n0,1\n", {}, r"expected a column 'valence', found columns V, A"),
        ("0,1\n", {"valence": "3"}, r"expected a column '3', found 2 columns without names"),
        ("valence,arousal\n", {}, "has no row after its header"),
        ("", {}, "has no row"),
        (
            "t,valence,arousal\n0,0,0\n0.2,0,0\n0.1,0,0\n",
            {"time": "t"},
            r"line 4: expected times .*found 0\.1",
        ),
    ],
)
def test_what_is_wrong_is_told_by_its_line(tmp_path, text, form, told):
    with pytest.raises(DataError, match=rf"labels\.csv.*{told}"):
        read(tmp_path, text, **form)


def test_times_that_do_not_fit_the_rate(tmp_path):
    text = "t,valence,arousal\n" + "".join(f"{k / 10},0,0\n" for k in range(9))
    assert read(tmp_path, text, RowClock(rate=10), time="t").values.shape == (9, 2)
    with pytest.raises(DataError, match=r"line 3: its time is 0\.1 s .*but 0\.04 s by the rate"):
        read(tmp_path, text, RowClock(rate=25), time="t")


def naive(own, frame_times, at):
    """What each row takes, in plain words."""
    step = statistics.median(b - a for a, b in itertools.pairwise(frame_times))
    taken, repeated = [], []
    for time in at:
        shown = [k for k, begin in enumerate(frame_times[: len(own)]) if begin <= time + 0.001]
        good = [k for k in shown if own[k]]
        fresh = shown and own[shown[-1]] and time < frame_times[-1] + step - 0.001
        if fresh:
            taken.append(shown[-1])
        elif good and time - frame_times[good[-1]] <= 0.5:
            taken.append(good[-1])
        else:
            taken.append(-1)
        repeated.append(not fresh and taken[-1] >= 0)
    return taken, repeated


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=2, max_size=30),
    st.integers(1, 60),
    st.integers(-300, 300),
    st.integers(1, 40),
)
def test_rows_take_the_frame_that_is_shown(frames, rate, start, rows):
    frame_times = np.cumsum([0, *(step for step, _ in frames[1:])]) / 60
    own = np.array([good for _, good in frames])
    at = start / 90 + np.arange(rows) / rate
    taken, repeated = frames_of_rows(own, frame_times, at)
    expected = naive(own.tolist(), frame_times.tolist(), at.tolist())
    # Where a limit is met to the last bit, either answer is right.
    gaps = at[:, None] - frame_times[None, :]
    limits = (0.5, -0.001, float(np.median(np.diff(frame_times))) - 0.001)
    unclear = np.any([np.abs(gaps - limit) < 1e-9 for limit in limits], axis=(0, 2))
    assert np.array_equal(taken[~unclear], np.array(expected[0])[~unclear])
    assert np.array_equal(repeated[~unclear], np.array(expected[1])[~unclear])


HEADER = "track,media,split,labels,rate"
GOOD = "a,v/a.mp4,train,a.csv,5"


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("trak,media,split\n", r"unknown column 'trak'; did you mean 'track'\?; columns are track"),
        ("track,media\n", "column 'split' is missing"),
        ("track,media,split,split\n", "column 'split' is there twice"),
        (f"{HEADER}\n", "lists no track"),
        (f"{HEADER}\n{GOOD}\n{GOOD}\n", "line 3: track 'a' is listed twice"),
        (f"{HEADER}\n{GOOD}\n\nb,v/b.mp4,trian,b.csv,5\n", "line 4: split: .*found 'trian'"),
        (f"{HEADER}\na,v/a.mp4,train,,5\n", "line 2: rows: expected a number, since no labels"),
        (f"{HEADER}\na,v/a.mp4,train,a.csv,0\n", "line 2: rate: expected rows per second"),
        (f"{HEADER}\na,,train,a.csv,5\n", "line 2: media: expected a value"),
        (f"{HEADER}\na,v/a.mp4,train,a.csv\n", "line 2: expected 5 fields, found 4"),
        (f"{HEADER},delay_s\n{GOOD[:-1]},2.0\n", "line 2: rate: .* since delay_s needs it"),
        (f"{HEADER},minimum\n{GOOD},1 2 3\n", "minimum: expected one number, or valence's and"),
        (f"{HEADER},minimum\n{GOOD},2\n", "maximum: expected more than minimum"),
        (
            f"{HEADER},source\n{GOOD},x\nb,v/b.mp4,val,b.csv,5,x\n",
            "line 3: source 'x' is 'v/b.mp4' here and 'v/a.mp4' before",
        ),
    ],
)
def test_a_wrong_table_is_told_by_its_line(tmp_path, table, told):
    (tmp_path / "tracks.csv").write_text(table)
    with pytest.raises(DataError, match=rf"tracks\.csv.*{told}"):
        scan_table(tmp_path)


def test_a_table_by_its_path_or_its_folder(tmp_path):
    text = f"{HEADER},family,region,minimum,delay_s\n{GOOD},dyad 1,left,0 -1,1.5\n"
    text += "b,v/b.mp4,dev,b.csv,,,,,\n"
    (tmp_path / "tracks.csv").write_text("\ufeff" + text)
    first, second = scan_table(tmp_path / "tracks.csv").tracks
    assert scan_table(tmp_path).tracks == (first, second)
    assert (first.source, first.family, first.region, first.split) == (
        "v/a",
        "dyad 1",
        "left",
        "train",
    )
    assert (first.form.minimum, first.form.delay_s) == ((0, -1), (1.5, 1.5))
    assert (second.source, second.family, second.split, second.clock) == ("v/b", "v/b", "val", None)
    assert scan_table(tmp_path).root == str(tmp_path)


VISUAL = VisualSettings(weights="seeded", resize=32, crop=32, dtype="float32")
STREAMS = {"visual/resnet18": VISUAL, "audio/resnet18": AudioSettings(), "labels/va": None}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, media):
    """Twelve frames at 10 a second, read at every frame, at 5 and at 20 rows a second."""
    root = tmp_path_factory.mktemp("corpus")
    frames = [media.picture(k) for k in range(12)]
    media.write(root / "v" / "a.mp4", frames, rate=Fraction(10), sound=media.tone(1.2))
    for rate, rows in (("", 12), ("5", 8), ("20", 24), ("10", 14)):
        text = "valence,arousal\n" + "".join(f"{k / 50},0.5\n" for k in range(rows))
        (root / f"l{rate}.csv").write_text(text)
    tracks = ["frames,v/a.mp4,train,l.csv,,0", "slow,v/a.mp4,val,l5.csv,5,0"]
    tracks += ["fast,v/a.mp4,test,l20.csv,20,0", "same,v/a.mp4,train,l10.csv,10,0"]
    tracks += ["late,v/a.mp4,train,l5.csv,5,-0.4"]
    (root / "tracks.csv").write_text("\n".join([f"{HEADER},start_s", *tracks]) + "\n")
    store = FeatureStore.create(tmp_path_factory.mktemp("store") / "store")
    receipt = extract(scan_table(root), STREAMS, store)
    assert receipt.quarantine == []
    return root, store, receipt


def item_of(corpus, stream, track):
    _, store, receipt = corpus
    return store[stream].item(receipt.items[stream][track].key)


def test_rows_of_any_rate_take_their_frames(corpus):
    every = np.asarray(item_of(corpus, "visual/resnet18", "frames").rows)
    assert len(np.unique(every.round(5), axis=0)) == 12
    for track, rate, shift in (("slow", 5, 0), ("fast", 20, 0), ("late", 5, -4)):
        item = item_of(corpus, "visual/resnet18", track)
        assert np.allclose(item.times, shift / 10 + np.arange(len(item.times)) / rate)
        for row, time in enumerate(item.times):
            frame = int(np.floor(time * 10 + 1e-6))
            told = (track, row, frame)
            assert item.valid[row] == (frame >= 0 and time <= 1.6), told
            assert (item.flags[row] == REPEATED) == (item.valid[row] and frame > 11), told
            if item.valid[row]:
                assert np.allclose(item.rows[row], every[min(frame, 11)], atol=1e-5), told
            else:
                assert not item.rows[row].any(), told


def test_a_clock_at_the_frames_own_rate_changes_no_number(corpus):
    plain = item_of(corpus, "visual/resnet18", "frames")
    clocked = item_of(corpus, "visual/resnet18", "same")
    assert np.allclose(plain.rows, clocked.rows[:12], atol=1e-5)
    assert clocked.flags.tolist() == [0] * 12 + [REPEATED] * 2
    assert np.allclose(clocked.times[:12], plain.times)


def test_sound_is_heard_at_the_rows_times(corpus):
    item = item_of(corpus, "audio/resnet18", "fast")
    assert np.allclose(item.times, np.arange(24) / 20)
    own = item_of(corpus, "audio/resnet18", "frames")
    assert np.allclose(item.rows[:24:2], own.rows, atol=1e-3)
    assert item_of(corpus, "audio/resnet18", "late").valid.tolist()[:3] == [False, False, True]


def test_the_clock_is_part_of_the_key_and_its_absence_is_not(corpus):
    _, _, receipt = corpus
    keys = receipt.items["visual/resnet18"]
    assert len({item.key for item in keys.values()}) == 5
    plain = item_of(corpus, "visual/resnet18", "frames").identity
    assert plain["row_map"] is None
    assert set(plain["inputs"]) == {"media", "region"}
    assert len(item_of(corpus, "visual/resnet18", "slow").identity["row_map"]) == 64


def test_another_reading_of_the_same_labels_is_another_key_and_edition(corpus, tmp_path):
    root, store, receipt = corpus
    index = Index([receipt], store)
    manifest = index.manifest()
    assert {track.track: track.rate for track in manifest}["slow"] == 5.0
    # The form is no file that could have changed.
    assert changed_inputs(scan_table(root), store, manifest, lambda *_: None) == []
    text = (root / "tracks.csv").read_text().splitlines()
    other = root / "other.csv"
    other.write_text("\n".join([f"{text[0]},maximum", *(f"{line},2" for line in text[1:])]))
    again = extract(scan_table(other), STREAMS, store)
    assert again.items["visual/resnet18"] == receipt.items["visual/resnet18"]
    before, after = (found.items["labels/va"]["slow"].key for found in (receipt, again))
    assert before != after
    assert Index([again], store).edition != index.edition
