"""From predictions of windows to one number: averaging, filling, pooling, against loops."""

import numpy as np
import pytest
import torch
from concord.fuse.evaluate import fill, predict, score
from concord.fuse.windows import OUTSIDE
from torch import nn

from .conftest import planted


class Echo(nn.Module):
    """Predicts the place in the window and the first visual feature, so that averages show."""

    def forward(self, features, _valid, rows):
        place = torch.arange(rows.shape[1]).expand(rows.shape).float()
        return torch.stack([place, features["visual/x"][..., 0]], -1)


def test_overlapping_windows_are_averaged():
    rows = planted(tracks=2, rows=23)
    numbers = rows.windows(8, 3)
    found = predict(Echo(), rows, numbers, batch=2)
    sums, counts = np.zeros(46), np.zeros(46)
    for window in numbers.tolist():
        for place, row in enumerate(window):
            if row != OUTSIDE:
                sums[row] += place
                counts[row] += 1
    np.testing.assert_allclose(found[:, 0], sums / counts, rtol=1e-6)
    torch.testing.assert_close(found[:, 1], rows.features["visual/x"][:, 0])


def test_short_track_keeps_its_rows():
    rows = planted(tracks=2, rows=5)
    found = predict(Echo(), rows, rows.windows(8, 3))
    assert found.shape == (10, 2)
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4] * 2


def by_loop(predictions, present, tracks):
    filled = predictions.copy()
    first = 0
    for rows in tracks:
        known = [i for i in range(first, first + rows) if present[i]]
        for i in range(first, first + rows):
            if present[i]:
                continue
            filled[i] = 0
            if known:
                filled[i] = predictions[min(known, key=lambda k: (abs(k - i), k))]
        first += rows
    return filled


@pytest.mark.parametrize("seed", range(8))
def test_rows_without_any_value_take_the_nearest(seed):
    random = np.random.default_rng(seed)
    rows = planted(tracks=3, rows=17)
    for ok in rows.valid.values():
        ok[:] = torch.tensor(random.random(51) > 0.6)
        ok[34:] = False
    present = np.any([ok.numpy() for ok in rows.valid.values()], axis=0)
    predictions = random.normal(size=(51, 2)).astype(np.float32)
    filled, count = fill(torch.tensor(predictions), rows)
    assert count == (~present).sum() > 0
    np.testing.assert_array_equal(filled.numpy(), by_loop(predictions, present, [17] * 3))
    assert not filled[34:].any()


def test_score_pools_labelled_rows_of_all_tracks():
    rows = planted(tracks=3, rows=20)
    rows.labelled[5:25] = False
    predictions = rows.labels + 0.1 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    found = score(predictions, rows)
    keep = rows.labelled.numpy()
    expected = []
    for i in range(2):
        p, y = (
            predictions.numpy()[keep, i].astype(float),
            rows.labels.numpy()[keep, i].astype(float),
        )
        c = np.mean((p - p.mean()) * (y - y.mean()))
        expected.append(2 * c / (p.var() + y.var() + (p.mean() - y.mean()) ** 2))
    assert (found.valence, found.arousal) == pytest.approx(expected, abs=1e-12)
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.rows == 40
