"""CCC against the formula in plain NumPy, and its edges: constants, masks, gradients."""

import math

import numpy as np
import pytest
import torch
from concord.fuse import ccc, ccc_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

VALUES = st.floats(-1, 1, width=32)


def by_pearson(p, y):
    """CCC = 2 r s_p s_y / (s_p^2 + s_y^2 + (m_p - m_y)^2), r from SciPy."""
    r = stats.pearsonr(p, y).statistic
    return 2 * r * p.std() * y.std() / (p.var() + y.var() + (p.mean() - y.mean()) ** 2)


def test_equals_pearson_form():
    random = np.random.default_rng(0)
    p, y = random.normal(size=500), random.normal(size=500) * 2 + 0.3
    assert ccc(torch.tensor(p), torch.tensor(y)).item() == pytest.approx(
        by_pearson(p, y), abs=1e-12
    )


def test_known_values():
    y = torch.tensor([0.0, 1.0, 2.0])
    assert ccc(y, y).item() == pytest.approx(1)
    assert ccc(-y + 2, y).item() == pytest.approx(-1)
    # cov = 2/3, variances 2/3 each, means differ by 1: 2 * 2/3 / (4/3 + 1) = 4/7
    assert ccc(y + 1, y).item() == pytest.approx(4 / 7)


@settings(deadline=None)
@given(
    arrays(np.float32, 20, elements=VALUES),
    arrays(np.float32, 20, elements=VALUES),
    arrays(np.bool_, 20),
)
def test_mask_is_leaving_out(p, y, keep):
    masked = ccc(torch.tensor(p), torch.tensor(y), torch.tensor(keep)).item()
    left = ccc(torch.tensor(p[keep]), torch.tensor(y[keep])).item()
    assert masked == left or (math.isnan(masked) and math.isnan(left))
    assert math.isnan(masked) or -1 - 1e-9 <= masked <= 1 + 1e-9


@settings(deadline=None)
@given(
    arrays(np.float32, (2, 8), elements=st.sampled_from([0.0, 0.25, -1.0, 1.0])),
    arrays(np.float32, (2, 8), elements=st.sampled_from([0.0, 0.25, -1.0, 1.0])),
    arrays(np.bool_, (2, 8)),
)
def test_loss_and_gradient_are_always_finite(p, y, keep):
    pred = torch.tensor(p, requires_grad=True)
    loss = ccc_loss(pred, torch.tensor(y), torch.tensor(keep))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(pred.grad).all()
    assert not pred.grad[~torch.tensor(keep)].any()


def test_constant_prediction_scores_zero_and_learns():
    y = torch.tensor([0.0, 0.5, 1.0, -0.5], dtype=torch.float64)
    pred = torch.full((4,), 0.3, dtype=torch.float64, requires_grad=True)
    assert ccc(pred, y).item() == 0
    ccc_loss(pred, y).backward()
    # d(1 - 2 c / s) / dp_i with c = 0: -2 (y_i - mean y) / (n s)
    s = y.var(correction=0) + (0.3 - y.mean()) ** 2
    torch.testing.assert_close(pred.grad, -2 * (y - y.mean()) / (4 * s))


def test_both_constant_is_undefined():
    pred = torch.full((4,), 0.3, requires_grad=True)
    for target in (torch.full((4,), 0.3), torch.full((4,), -0.2)):
        pred.grad = None
        assert math.isnan(ccc(pred, target).item())
        loss = ccc_loss(pred, target)
        loss.backward()
        assert loss.item() == 1
        assert not pred.grad.any()


def test_nothing_left_is_undefined():
    pred = torch.rand(3, requires_grad=True)
    nothing = torch.zeros(3, dtype=torch.bool)
    assert math.isnan(ccc(pred, torch.rand(3), nothing).item())
    loss = ccc_loss(pred, torch.rand(3), nothing)
    loss.backward()
    assert loss.item() == 1
    assert not pred.grad.any()


def test_gradcheck():
    random = torch.Generator().manual_seed(0)
    y = torch.rand(7, generator=random, dtype=torch.float64)
    pred = torch.rand(7, generator=random, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: ccc_loss(p, y), pred)


def test_a_value_that_is_not_finite_is_not_hidden():
    assert torch.isnan(ccc_loss(torch.tensor([0.0, torch.inf, 1.0]), torch.rand(3)))


def test_accumulates_in_float64():
    # In float32 the variance of numbers near 4096 with spread 1e-2 is lost.
    y = 4096 + torch.linspace(0, 0.03125, 64)
    assert ccc(y, y).item() == pytest.approx(1)
