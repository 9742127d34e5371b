"""From predictions of windows to one value per row, against loops."""

import numpy as np
import pytest
import torch
from concord.fuse.ensemble import Ensemble
from concord.fuse.evaluate import Problem, predict, track_rows
from concord.fuse.scaling import Scaling
from concord.fuse.settings import WindowSettings
from concord.fuse.windows import OUTSIDE
from torch import nn

from .conftest import planted


class Echo(nn.Module):
    """Predicts the place in the window and the first visual feature, so that averages show."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, features, valid, rows):
        del valid
        place = torch.arange(rows.shape[-1]).expand(rows.shape).float()
        return torch.stack([place, features["visual/x"][..., 0]], -1) * self.factor


def unscaled(rows, streams=("visual/x",), tracks=(0, 1)):
    ones = {name: torch.ones(4) for name in streams}
    scaling = Scaling({name: torch.zeros(4) for name in streams}, ones)
    return Problem(rows, streams, tracks, tracks, scaling)


@pytest.mark.parametrize("tracks", [(0, 1), (1,), (1, 0)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_overlapping_windows_are_averaged(tracks, dilation):
    rows = planted(tracks=2, rows=23)
    window = WindowSettings(length=8, hop=3, hop_scoring=3, dilation=dilation).resolved()
    found = predict(Ensemble([Echo()]), unscaled(rows), tracks, window)
    assert found.shape == (1, 23 * len(tracks), 2)
    windows = rows.windows(tracks, window, scoring=True)
    sums, counts = np.zeros(46), np.zeros(46)
    for numbers in windows.rows(np.arange(len(windows))).tolist():
        for place, row in enumerate(numbers):
            if row != OUTSIDE:
                sums[row] += place
                counts[row] += 1
    at = rows.numbers(tracks)
    np.testing.assert_allclose(found[0, :, 0], (sums / np.maximum(counts, 1))[at], rtol=1e-6)
    torch.testing.assert_close(found[0, :, 1], rows.sources["visual/x"].x[at, 0])


def test_members_predict_side_by_side():
    rows = planted(tracks=2, rows=23)
    window = WindowSettings(length=8, hop=3).resolved()
    both = predict(Ensemble([Echo(1.0), Echo(-2.0)]), unscaled(rows), (0, 1), window)
    alone = predict(Ensemble([Echo(-2.0)]), unscaled(rows), (0, 1), window)
    torch.testing.assert_close(both[1], alone[0])
    torch.testing.assert_close(both[0] * -2, both[1])


@pytest.mark.parametrize("preset", ["short", "whole"])
def test_short_track_keeps_its_rows(preset):
    rows = planted(tracks=2, rows=5)
    window = WindowSettings(preset=preset).resolved()
    found = predict(Ensemble([Echo()]), unscaled(rows), (0, 1), window)
    assert found[0, :, 0].tolist() == [0, 1, 2, 3, 4] * 2


def test_rows_without_a_value_are_left_open():
    rows = planted(tracks=2, rows=23)
    rows.valid["visual/x"][5:9] = False
    rows.valid["audio/x"][7:30] = False
    window = WindowSettings(length=8, hop=3).resolved()
    one = predict(Ensemble([Echo()]), unscaled(rows), (0, 1), window)[0]
    assert torch.isnan(one).all(1).nonzero()[:, 0].tolist() == [5, 6, 7, 8]
    two = predict(Ensemble([Echo()]), unscaled(rows, ("visual/x", "audio/x")), (0, 1), window)[0]
    assert torch.isnan(two).all(1).nonzero()[:, 0].tolist() == [7, 8]


def test_tracks_come_with_their_own_rows():
    rows = planted(tracks=3, rows=10)
    rows.labelled[25] = False
    predictions = torch.arange(40.0).view(20, 2)
    problem = unscaled(rows, tracks=(2, 0))
    first, second = track_rows(problem, predictions)
    assert (first.track, second.track) == ("train2", "train0")
    assert first.predictions.tolist() == predictions[:10].tolist()
    assert second.predictions.tolist() == predictions[10:].tolist()
    np.testing.assert_array_equal(first.labels, rows.labels[20:])
    assert np.flatnonzero(~first.labelled).tolist() == [5]
    assert first.absent == ()
