"""Protocols against plain loops, the published evaluations, and at their edges."""

import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from concord.cache import ConfigError
from concord.fuse.protocols import (
    PROTOCOLS,
    TrackRows,
    check_protocol,
    diagnostics,
    fill,
    parse_smoothing,
    scored,
)
from numpy.typing import NDArray

from .published import published

Array = NDArray[Any]

SMOOTHINGS = {"none": (1, 1), "box:1": (1, 1), "box:5": (5, 5), "box:4,7": (4, 7)}
COMBINATIONS = [
    *((protocol, text) for protocol in ("official", "faces_only", "sucv") for text in SMOOTHINGS),
    ("livia", "none"),
]
TARGETS = ("valence", "arousal")


def made(
    name: str = "t",
    rows: int = 30,
    seed: int = 0,
    *,
    family: str = "",
    gaps: float = 0.3,
    unlabelled: float = 0.2,
    absent: tuple[str, ...] = (),
) -> TrackRows:
    """A track with gaps in predictions, labels and faces; what is no label is no number."""
    random = np.random.default_rng(seed)
    predictions = random.normal(scale=0.8, size=(rows, 2)).astype(np.float32)
    valued = random.random(rows) >= gaps
    predictions[~valued] = np.nan
    labels = random.uniform(-1, 1, (rows, 2)).astype(np.float32)
    labelled = random.random(rows) >= unlabelled
    labels[~labelled] = np.nan
    return TrackRows(
        track=name,
        family=family or name,
        predictions=predictions,
        labels=labels,
        labelled=labelled,
        face=valued & (random.random(rows) > 0.3),
        times=np.arange(rows) / 30,
        absent=absent,
    )


TRACKS = (
    made("a", 41, 1),
    made("b_left", 25, 2, family="b"),
    made("b_right", 25, 3, family="b", absent=("visual/x",)),
    made("no_value", 9, 4, gaps=1.1, absent=("visual/x", "audio/x")),
    made("no_label", 12, 5, unlabelled=1.1),
    made("whole", 33, 6, gaps=0, unlabelled=0),
    made("one_row", 1, 7, gaps=0, unlabelled=0),
)


def filled_by_loop(track: TrackRows) -> list[list[float]]:
    known = [i for i, row in enumerate(track.predictions) if not math.isnan(row[0])]
    filled: list[list[float]] = []
    for i in range(len(track.predictions)):
        nearest = min(known, key=lambda k: (abs(k - i), k), default=None)
        row = [0.0, 0.0] if nearest is None else track.predictions[nearest].tolist()
        filled.append(row)
    return filled


def box_by_loop(series: Sequence[float], size: int, ends: str) -> list[float]:
    last = len(series) - 1
    smoothed: list[float] = []
    for i in range(last + 1):
        total = 0.0
        for j in range(i - size // 2, i - size // 2 + size):
            if ends == "edge":
                total += series[min(max(j, 0), last)]
            elif 0 <= j <= last:
                total += series[j]
        smoothed.append(total / size)
    return smoothed


def pairs_by_loop(
    protocol: str, sizes: tuple[int, int], track: TrackRows, i: int
) -> list[tuple[float, float]]:
    """Prediction and label of the counted rows."""
    series = [row[i] for row in filled_by_loop(track)]
    labels = [float(label) for label in track.labels[:, i]]
    rows = range(len(series))
    if protocol == "livia":
        clipped = [min(max(x, -1.0), 1.0) for x in series]
        kept = [clipped[j] if track.labelled[j] else 0.0 for j in rows]
        smoothed = box_by_loop(kept, (20, 50)[i], "zero")
        return [(smoothed[j], labels[j] if track.labelled[j] else 0.0) for j in rows]
    smoothed = box_by_loop(series, sizes[i], "edge")
    counted = track.labelled & track.face if protocol == "faces_only" else track.labelled
    return [(smoothed[j], labels[j]) for j in rows if counted[j]]


def ccc_by_loop(pairs: Sequence[tuple[float, float]], protocol: str) -> float:
    n = len(pairs)
    p_mean, y_mean = (math.fsum(pair[k] for pair in pairs) / n for k in (0, 1))
    covariance = math.fsum((p - p_mean) * (y - y_mean) for p, y in pairs) / n
    squares = math.fsum((p - p_mean) ** 2 + (y - y_mean) ** 2 for p, y in pairs)
    variances = squares / (n - 1 if protocol == "sucv" else n)
    return 2 * covariance / (variances + (p_mean - y_mean) ** 2)


@pytest.mark.parametrize(("protocol", "smoothing"), COMBINATIONS)
def test_scores_equal_plain_loops(protocol: str, smoothing: str) -> None:
    ours = scored(protocol, smoothing, TRACKS)
    sizes = SMOOTHINGS[smoothing]
    expected: list[float] = []
    for i, target in enumerate(TARGETS):
        each = [pairs_by_loop(protocol, sizes, track, i) for track in TRACKS]
        pooled = [pair for pairs in each for pair in pairs]
        expected.append(ccc_by_loop(pooled, protocol))
        assert getattr(ours, target) == pytest.approx(expected[i], rel=0, abs=1e-9)
        assert ours.rows == len(pooled)
        for track, pairs in zip(ours.tracks, each, strict=True):
            found = np.stack([track.predictions[track.mask, i], track.labels[track.mask, i]], 1)
            np.testing.assert_allclose(found, np.reshape(pairs, (-1, 2)), rtol=0, atol=1e-12)
    assert ours.score == pytest.approx(sum(expected) / 2, rel=0, abs=1e-9)
    assert (ours.protocol, ours.smoothing) == (protocol, smoothing)


@pytest.mark.parametrize(("protocol", "smoothing"), COMBINATIONS)
def test_diagnostics_equal_plain_loops(protocol: str, smoothing: str) -> None:
    found = diagnostics(scored(protocol, smoothing, TRACKS))
    assert [line["track"] for line in found] == [track.track for track in TRACKS]
    for line, track in zip(found, TRACKS, strict=True):
        for i, target in enumerate(TARGETS):
            pairs = pairs_by_loop(protocol, SMOOTHINGS[smoothing], track, i)
            assert line["scored"] == len(pairs)
            if not pairs:
                assert line[target] is line[f"{target}_error"] is None
                continue
            error = math.fsum(p - y for p, y in pairs) / len(pairs)
            assert line[f"{target}_error"] == pytest.approx(error, rel=0, abs=1e-9)
            if len(set(pairs)) == 1:
                assert line[target] is None
            else:
                expected = ccc_by_loop(pairs, protocol)
                assert line[target] == pytest.approx(expected, rel=0, abs=1e-9)
        assert line["rows"] == len(track.labels)
        assert line["family"] == track.family
        assert line["absent"] == list(track.absent)


def test_protocols_differ_on_these_tracks() -> None:
    scores = {scored(protocol, "none", TRACKS).score for protocol in PROTOCOLS}
    assert len(scores) == len(PROTOCOLS) == 4


@pytest.mark.parametrize(
    ("protocol", "rows", "filled"),
    [
        ("official", lambda t: t.labelled, lambda t: t.labelled & np.isnan(t.predictions[:, 0])),
        ("sucv", lambda t: t.labelled, lambda t: t.labelled & np.isnan(t.predictions[:, 0])),
        ("faces_only", lambda t: t.labelled & t.face, lambda t: t.face & ~t.face),
        ("livia", lambda t: t.face | True, lambda t: t.labelled & np.isnan(t.predictions[:, 0])),
    ],
)
def test_rows_and_tracks_are_counted(protocol: str, rows: Any, filled: Any) -> None:
    result = scored(protocol, "none", TRACKS)
    assert result.rows == sum(rows(track).sum() for track in TRACKS)
    assert result.filled == sum(filled(track).sum() for track in TRACKS)
    assert result.without_value == ["no_value"]
    assert result.with_absent == ["b_right", "no_value"]
    for line, track in zip(diagnostics(result), TRACKS, strict=True):
        assert (line["scored"], line["filled"]) == (rows(track).sum(), filled(track).sum())


def of(predictions: Any, labels: Any = None, labelled: Any = None, **others: Any) -> TrackRows:
    """A track of these numbers, the same for valence and arousal."""
    p = np.stack([np.asarray(predictions, dtype=np.float32)] * 2, axis=1)
    y = np.zeros(len(p)) if labels is None else np.asarray(labels, dtype=np.float32)
    every = np.ones(len(p), dtype=np.bool_)
    named = {"track": "t", "family": "t", "face": every, "times": np.zeros(len(p)), **others}
    known = every if labelled is None else np.asarray(labelled)
    return TrackRows(predictions=p, labels=np.stack([y] * 2, axis=1), labelled=known, **named)


def test_of_two_nearest_rows_the_earlier_is_taken() -> None:
    nan = np.nan
    filled = fill(of([nan, nan, 0.25, nan, 0.5, nan, nan, nan, 0.75, nan]))
    expected = [0.25, 0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 0.75, 0.75, 0.75]
    np.testing.assert_array_equal(filled, np.stack([expected] * 2, axis=1))
    assert filled.dtype == np.float64


def test_a_track_without_any_value_gets_zeros_whatever_its_neighbours_are() -> None:
    tracks = [of([1.0, 1.0], track="a"), of([np.nan] * 3, track="b"), of([1.0], track="c")]
    result = scored("official", "box:3", tracks)
    assert [track.predictions.mean() for track in result.tracks] == [1, 0, 1]
    assert result.without_value == ["b"]


def test_smoothing_follows_filling_and_never_crosses_tracks() -> None:
    tracks = [of([0.3, np.nan, 0.9], track="a"), of([-0.6, 0.0, 0.0], track="b")]
    first, second = scored("official", "box:3", tracks).tracks
    # Filled: 0.3, 0.3, 0.9 with copies of the ends.
    np.testing.assert_allclose(first.predictions[:, 0], [0.3, 0.5, 0.7], atol=1e-7)
    np.testing.assert_allclose(second.predictions[:, 0], [-0.4, -0.2, 0.0], atol=1e-7)
    assert tracks[0].predictions[0, 0] == np.float32(0.3)


def test_rows_without_a_label_are_smoothed_over_but_not_scored() -> None:
    track = of([0.0, 0.9, 0.0], [0.1, np.nan, 0.2], [True, False, True])
    (seen,) = scored("official", "box:3", [track]).tracks
    np.testing.assert_allclose(seen.predictions[:, 0], [0.3, 0.3, 0.3], atol=1e-7)
    np.testing.assert_array_equal(seen.mask, [True, False, True])


def livia_tracks(program: str) -> list[TrackRows]:
    """The published videos; the two programs differ in which -5 takes a row out."""
    stored = published("livia_evaluation")
    tracks: list[TrackRows] = []
    for video in ("vid0", "vid1"):
        pred, label = (
            np.stack([stored[f"in.{video}.{what}_{target}"] for target in TARGETS], axis=1)
            for what in ("pred", "label")
        )
        present = label[:, 0] != -5 if program == "tbiom" else (label != -5).all(axis=1)
        every = np.ones(len(pred), dtype=np.bool_)
        tracks.append(
            TrackRows(
                track=video,
                family=video,
                predictions=pred,
                labels=label,
                labelled=present,
                face=every,
                times=np.zeros(len(pred)),
            )
        )
    return tracks


@pytest.mark.parametrize("program", ["tbiom", "jmt"])
def test_livia_equals_published(program: str) -> None:
    stored = published("livia_evaluation")
    result = scored("livia", "none", livia_tracks(program))
    for i, target in enumerate(TARGETS):
        theirs = float(stored[f"out.{program}.ccc_{target}"])
        # One of the two videos was smoothed in float32 there.
        assert getattr(result, target) == pytest.approx(theirs, rel=0, abs=1e-10)
        pooled = np.concatenate([track.labels[track.mask, i] for track in result.tracks])
        np.testing.assert_array_equal(pooled, stored[f"out.{program}.pooled_label_{target}"])


def test_sucv_equals_published() -> None:
    """The authors' program computes in float32."""
    stored = published("sucv_window_average")
    trials = ("trial0", "trial1", "trial2")
    result = scored(
        "sucv",
        "none",
        [
            of(stored[f"out.{trial}.averaged_pred"], stored[f"in.{trial}.label"], track=trial)
            for trial in trials
        ],
    )
    theirs = float(stored["out.overall.ccc"])
    assert result.valence == pytest.approx(theirs, abs=1.5e-7)
    assert result.arousal == result.valence
    for line in diagnostics(result):
        theirs = float(stored[f"out.{line['track']}.ccc"])
        assert line["valence"] == pytest.approx(theirs, abs=1.5e-7)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("noise", [0, 1e-8])
def test_both_series_constant_is_undefined(protocol: str, noise: float) -> None:
    """Constant up to the rounding of float32 predictions, and of moving averages."""
    rows = 2000
    predictions = np.full(rows, 0.1) + noise * np.arange(rows) / rows
    result = scored(protocol, "none", [of(predictions, np.full(rows, 0.3))])
    if protocol != "livia":  # its zeros beyond the ends make any prediction vary
        assert math.isnan(result.valence)
        assert math.isnan(result.score)
        assert diagnostics(result)[0]["arousal"] is None
        smooth = scored(protocol, "box:25", [of(predictions, np.full(rows, 0.3))])
        assert math.isnan(smooth.arousal)
    varying = np.linspace(-1, 1, rows)
    constant = scored("official", "box:25", [of(predictions, varying)])
    assert constant.valence == pytest.approx(0, abs=1e-6)


def test_nothing_to_score_is_undefined() -> None:
    for tracks in ([], [of([0.1, 0.2], labelled=[False, False])]):
        result = scored("official", "none", tracks)
        assert result.rows == result.filled == 0
        assert math.isnan(result.score)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("none", (1, 1)), ("box:1", (1, 1)), ("box:20,50", (20, 50)), ("box:999999", (999999,) * 2)],
)
def test_smoothings(text: str, sizes: tuple[int, int]) -> None:
    assert parse_smoothing(text) == sizes


@pytest.mark.parametrize(
    "text",
    [
        *("", "box", "box:", "box:0", "box:-3", "box:2.5", "box:5,", "box:,5", "box:5,0"),
        *("box:5,6,7", "Box:5", " box:5", "box:5\n", "box: 5", "box:05", "box:1000000"),
        *("gauss:5", "NONE", "box:٣"),
    ],
)
def test_smoothings_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown smoothing .*'box:25'.*'box:20,50'") as caught:
        parse_smoothing(text)
    assert repr(text) in str(caught.value)
    for call in (lambda: check_protocol("sucv", text), lambda: scored("official", text, TRACKS)):
        with pytest.raises(ConfigError, match="unknown smoothing"):
            call()


def test_unknown_protocols_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'oficial'; did you mean 'official'\?; known: official, faces_only, liv"
    ):
        scored("oficial", "none", TRACKS)
    with pytest.raises(ConfigError, match=r"unknown protocol 'xyz'; known"):
        check_protocol("xyz")


def test_livia_is_not_smoothed_twice() -> None:
    check_protocol("livia")
    for call in (lambda: check_protocol("livia", "box:5"), lambda: scored("livia", "box:5", [])):
        with pytest.raises(ConfigError, match=r"'livia' smooths by itself; found .*'box:5' on top"):
            call()


def test_every_protocol_is_described_in_one_sentence() -> None:
    for told in PROTOCOLS.values():
        assert told == told.strip()
        assert "." not in told
        assert "one CCC with" in told


@pytest.mark.parametrize("field", ["labels", "labelled", "face", "times"])
def test_shapes_are_checked(field: str) -> None:
    with pytest.raises(ValueError, match=rf"track 't': {field} has shape \(3,"):
        of([0.1, 0.2], **{field: np.zeros((3, 2) if field == "labels" else 3)})
    with pytest.raises(ValueError, match="N at least 1"):
        of([])


@pytest.mark.parametrize("row", [(0.1, np.nan), (np.inf, 0.1), (-np.inf, np.nan)])
def test_predictions_are_two_numbers_or_none(row: tuple[float, float]) -> None:
    track = made(rows=4, gaps=0)
    track.predictions[2] = row
    with pytest.raises(ValueError, match=r"track 't', row 2: prediction .* neither two numbers"):
        TrackRows(
            track="t",
            family="t",
            predictions=track.predictions,
            labels=track.labels,
            labelled=track.labelled,
            face=track.face,
            times=track.times,
        )


def test_names_are_checked_without_torch() -> None:
    told = (
        "import sys; from concord.fuse.protocols import check_protocol;"
        "from concord.fuse.folds import check_fold; check_fold('six:1');"
        "check_protocol('official', 'box:5'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", told], timeout=60, check=False).returncode == 0
