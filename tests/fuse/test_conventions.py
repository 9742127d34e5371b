"""Published evaluations: numbers of the authors' programs, and plain loops."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from concord.cache import ConfigError
from concord.fuse.conventions import (
    average_windows,
    box_filter,
    clip,
    livia_scores,
    livia_track,
    sucv_scores,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from .published import published

Array = NDArray[Any]

TARGETS = ("valence", "arousal")
VARIANTS = ("tbiom", "jmt")
VIDEOS = ("vid0", "vid1")
TRIALS = ("trial0", "trial1", "trial2")


@pytest.fixture(scope="module")
def livia() -> dict[str, Array]:
    return published("livia_evaluation")


@pytest.fixture(scope="module")
def sucv() -> dict[str, Array]:
    return published("sucv_window_average")


def livia_video(stored: Mapping[str, Array], video: str) -> tuple[Array, Array]:
    """Predictions and labels (N, 2) of a published video."""
    pred, label = (
        np.stack([stored[f"in.{video}.{what}_{target}"] for target in TARGETS], axis=1)
        for what in ("pred", "label")
    )
    return pred, label


def assert_equal_in_its_type(ours: Array, theirs: Array) -> None:
    """To 1e-15 where the program returned float64, to 1e-7 where it returned float32."""
    tolerance = 1e-15 if theirs.dtype == np.float64 else 1e-7
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("video", VIDEOS)
def test_livia_rows_equal_published(livia: dict[str, Array], video: str, variant: Any) -> None:
    pred, label = livia_video(livia, video)
    smoothed, labels = livia_track(pred, label, variant)
    skipped = label[:, :1] == -5 if variant == "tbiom" else (label == -5).any(1, keepdims=True)
    clipped = clip(np.where(skipped, 0, pred))
    first = 0 if video == "vid0" else 530
    for i, target in enumerate(TARGETS):
        out = f"out.{variant}.{video}.{target}"
        assert_equal_in_its_type(clipped[:, i], livia[f"{out}_clipped"])
        assert_equal_in_its_type(smoothed[:, i], livia[f"{out}_smoothed"])
        pooled = livia[f"out.{variant}.pooled_label_{target}"]
        np.testing.assert_array_equal(labels[:, i], pooled[first : first + len(labels)])


@pytest.mark.parametrize("variant", VARIANTS)
def test_livia_scores_equal_published(livia: dict[str, Array], variant: Any) -> None:
    ours = livia_scores([livia_video(livia, video) for video in VIDEOS], variant)
    theirs = [livia[f"out.{variant}.ccc_{target}"] for target in TARGETS]
    # One of the two videos was smoothed in float32 there.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)


def test_livia_variants_differ_in_what_skips_a_frame() -> None:
    pred = np.full((5, 2), 0.5)
    label = np.array([[0.1, 0.2], [-5, 0.3], [0.4, -5], [-5, -5], [0.6, 0.7]])
    tbiom, jmt = (livia_track(pred, label, variant) for variant in VARIANTS)
    np.testing.assert_array_equal(tbiom[1], [[0.1, 0.2], [0, 0], [0.4, -5], [0, 0], [0.6, 0.7]])
    np.testing.assert_array_equal(jmt[1], [[0.1, 0.2], [0, 0], [0, 0], [0, 0], [0.6, 0.7]])
    # Windows of 20 and 50 frames see all five: 3 and 2 predictions of 0.5 are left.
    np.testing.assert_allclose(tbiom[0], np.tile([3 * 0.5 / 20, 3 * 0.5 / 50], (5, 1)))
    np.testing.assert_allclose(jmt[0], np.tile([2 * 0.5 / 20, 2 * 0.5 / 50], (5, 1)))


def test_livia_pools_all_videos() -> None:
    random = np.random.default_rng(2)
    tracks = [(random.normal(size=(n, 2)), random.uniform(-1, 1, (n, 2))) for n in (40, 70)]
    rows = [livia_track(*track) for track in tracks]
    p, y = (np.concatenate([row[i] for row in rows]) for i in range(2))
    for i, ours in enumerate(livia_scores(tracks)):
        cov = np.cov(p[:, i], y[:, i], ddof=0)
        offset = p[:, i].mean() - y[:, i].mean()
        assert ours == pytest.approx(2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + offset**2))


def test_sucv_equals_published(sucv: dict[str, Array]) -> None:
    """The authors' program computes in float32."""
    tracks: list[tuple[Array, Array]] = []
    for trial in TRIALS:
        labels, starts = sucv[f"in.{trial}.label"], sucv[f"out.{trial}.window_start"]
        averaged = average_windows(sucv[f"in.{trial}.window_pred"], starts, len(labels))
        assert_equal_in_its_type(averaged, sucv[f"out.{trial}.averaged_pred"])
        tracks.append((averaged, labels))
    overall, each = sucv_scores(tracks)
    for name, ours in zip(("overall", *TRIALS), (overall, *each), strict=True):
        for measure in ("ccc", "rmse", "pcc"):
            theirs = float(sucv[f"out.{name}.{measure}"])
            assert getattr(ours, measure) == pytest.approx(theirs, abs=1.5e-7), (name, measure)


def test_sucv_scores_are_mixed_moments_and_pearson() -> None:
    random = np.random.default_rng(4)
    p, y = random.normal(size=9), random.normal(size=9) + 0.4
    overall, each = sucv_scores([(p[:5], y[:5]), (p[5:], y[5:])])
    r, _ = stats.pearsonr(p, y)
    covariance = r * p.std() * y.std()
    spread = p.var(ddof=1) + y.var(ddof=1) + (p.mean() - y.mean()) ** 2
    assert overall.ccc == pytest.approx(2 * covariance / spread)
    assert overall.pcc == pytest.approx(r)
    assert overall.rmse == pytest.approx(((p - y) ** 2).mean() ** 0.5)
    assert each == [sucv_scores([(p[:5], y[:5])])[0], sucv_scores([(p[5:], y[5:])])[0]]


@pytest.mark.filterwarnings("error")
def test_a_constant_prediction_scores_zero_and_does_not_correlate() -> None:
    zeros, labels = np.zeros((30, 2)), np.random.default_rng(0).uniform(-1, 1, (30, 2))
    assert livia_scores([(zeros, labels)]) == (0, 0)
    overall, _ = sucv_scores([(zeros[:, 0], labels[:, 0])])
    assert overall.ccc == 0
    assert np.isnan(overall.pcc)


def test_clip() -> None:
    np.testing.assert_array_equal(clip(np.array([-1.2, -1, 0.3, 1, 7])), [-1, -1, 0.3, 1, 1])


@settings(deadline=None)
@given(
    arrays(np.float32, st.integers(1, 12), elements=st.floats(-4, 4, width=32)),
    st.integers(1, 30),
)
def test_box_filter_equals_loop(x: Array, size: int) -> None:
    n = len(x)
    for ends in ("zero", "edge"):
        expected: list[float] = []
        for i in range(n):
            window = range(i - size // 2, i - size // 2 + size)
            values = [
                float(x[min(max(j, 0), n - 1)]) if ends == "edge" or 0 <= j < n else 0.0
                for j in window
            ]
            expected.append(sum(values) / size)
        np.testing.assert_allclose(box_filter(x, size, ends), expected, rtol=0, atol=1e-13)


def test_box_filter_takes_columns_apart_and_gives_float64() -> None:
    x = np.random.default_rng(1).normal(size=(9, 2, 3)).astype(np.float32)
    both = box_filter(x, 4, "edge")
    assert both.dtype == np.float64
    np.testing.assert_array_equal(both[:, 1, 2], box_filter(x[:, 1, 2], 4, "edge"))


def test_box_filter_costs_no_more_for_wide_windows() -> None:
    # 10^12 additions one by one; only sums of all rows so far end within a test.
    x = np.ones(1_000_000)
    np.testing.assert_allclose(box_filter(x, 1_000_000)[::250_000], [0.5, 0.75, 1, 0.75])


@settings(deadline=None)
@given(st.integers(1, 15), st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_average_windows_equals_loop(rows: int, length: int, hop: int, seed: int) -> None:
    starts = np.arange(-1, rows, min(hop, length))  # the first and last windows leave the track
    predictions = np.random.default_rng(seed).normal(size=(len(starts), length, 2))
    expected = np.zeros((rows, 2))
    for row in range(rows):
        covering = [
            predictions[w, row - start]
            for w, start in enumerate(starts)
            if start <= row < start + length
        ]
        expected[row] = np.mean(covering, axis=0)
    np.testing.assert_allclose(average_windows(predictions, starts, rows), expected, atol=1e-14)


def test_refuses_what_it_does_not_know() -> None:
    x = np.zeros((6, 2))
    with pytest.raises(ConfigError, match=r"0 rows .* use at least 1 row"):
        box_filter(x, 0)
    with pytest.raises(ConfigError, match=r"'mirror' ends: .* zero or edge"):
        box_filter(x, 3, "mirror")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"variant 'icassp' .* tbiom or jmt"):
        livia_scores([(x, x)], "icassp")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="row 3 of 6 lies in none of 2 windows"):
        average_windows(np.zeros((2, 3)), np.array([0, 4]), 6)
