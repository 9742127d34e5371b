"""CCC and its loss against SciPy, torchmetrics, published programs, loops, and at their edges."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from concord.cache import ConfigError
from concord.fuse import ccc, ccc_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from .published import published

Array = NDArray[Any]

ESTIMATORS = ("biased", "unbiased", "mixed")
CORRECTIONS = {"biased": (0, 0), "unbiased": (1, 1), "mixed": (0, 1)}
OVERS = ("batch", "window", "sequence")
VALUES = st.floats(-1, 1, width=32)
# Eighths: constant series are frequent, and float64 sums exact.
EIGHTHS = st.integers(-8, 8).map(lambda i: i / 8)
FEW = st.sampled_from([0.0, 0.25, -1.0, 1.0])
SERIES = arrays(np.float32, 20, elements=VALUES)
KEEP = arrays(np.bool_, 20)
SEQUENCES = torch.tensor([4, -1, 4, 0, -1])

LOSSES: dict[str, dict[str, Any]] = {
    "livia_loss": {"estimator": "unbiased", "over": "batch"},
    "cvprw_loss": {"estimator": "unbiased", "over": "batch"},
    "sucv_loss": {"estimator": "mixed", "over": "window"},
    "sucv_abaw2_loss": {"estimator": "mixed", "over": "window"},
}
METRICS = {"livia_metric": "biased", "cvprw_metric": "biased", "sucv_metric": "mixed"}
CASES = (
    "random",
    "anticorrelated",
    "label_constant_one_row",
    "pred_constant_one_row",
    "label_constant_all",
    "pred_constant_all",
    "both_zero",
    "both_constant_different",
    "equal",
    "minus5_left_in",
    "zero_padded_row",
)
BOTH_CONSTANT = ("both_zero", "both_constant_different")


@pytest.fixture(scope="module")
def losses() -> dict[str, Array]:
    """Losses, gradients and metrics computed by the published programs."""
    return published("ccc_losses")


def by_pearson(p: Array, y: Array, estimator: str) -> float:
    """2 r s_p s_y / (s_p^2 + s_y^2 + (m_p - m_y)^2), r from SciPy."""
    r, _ = stats.pearsonr(p, y)
    of_covariance, of_variance = CORRECTIONS[estimator]
    covariance = r * p.std(ddof=of_covariance) * y.std(ddof=of_covariance)
    spread = p.var(ddof=of_variance) + y.var(ddof=of_variance)
    return 2 * covariance / (spread + (p.mean() - y.mean()) ** 2)


def by_sums(p: Array, y: Array, estimator: str) -> float:
    """CCC of a few numbers by its definition; 0 where both series are constant."""
    n, of = len(p), CORRECTIONS[estimator]
    if len(set(p)) == len(set(y)) == 1:
        return 0
    p_mean, y_mean = sum(p) / n, sum(y) / n
    covariance = sum((a - p_mean) * (b - y_mean) for a, b in zip(p, y, strict=True))
    spread = sum((a - p_mean) ** 2 for a in p) + sum((b - y_mean) ** 2 for b in y)
    total = spread / (n - of[1]) + (p_mean - y_mean) ** 2
    return 2 * covariance / (n - of[0]) / total


def by_loop(p: Array, y: Array, keep: Array, estimator: str, over: str) -> float:
    """The loss, group by group, from the elements that are kept."""
    numbers = SEQUENCES.tolist()
    groups = {
        "batch": [list(range(len(numbers)))],
        "window": [[w] for w in range(len(numbers))],
        "sequence": [[w for w, n in enumerate(numbers) if n == s] for s in set(numbers)],
    }[over]
    scores: list[float] = []
    for group in groups:
        kept = keep[group]
        if kept.any():
            scores.append(by_sums(p[group][kept], y[group][kept], estimator))
    return 1 - sum(scores) / max(len(scores), 1)


def loss_and_gradient(p: Tensor, y: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    pred = p.clone().requires_grad_()
    loss = ccc_loss(pred, y, **options)
    return loss.detach(), torch.autograd.grad(loss, pred)[0]


def random_windows(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions, targets and mask (5, 6); one window is empty, one has a single element."""
    random = torch.Generator().manual_seed(seed)
    p, y = torch.randn(2, 5, 6, generator=random, dtype=torch.float64)
    keep = torch.rand(5, 6, generator=random) < 0.7
    keep[1] = False
    keep[3] = torch.arange(6) == 2
    return p, y + p, keep


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equals_pearson_form(estimator: Any) -> None:
    random = np.random.default_rng(0)
    p, y = random.normal(size=12), random.normal(size=12)
    y = p + 2 * y + 0.3
    ours = ccc(torch.tensor(p), torch.tensor(y), estimator=estimator).item()
    assert ours == pytest.approx(by_pearson(p, y, estimator), abs=1e-14)


def test_equals_torchmetrics_which_is_unbiased() -> None:
    from torchmetrics.regression import ConcordanceCorrCoef

    p, y, _ = random_windows()
    p = p + 0.5  # the estimators differ where the means do
    metric = ConcordanceCorrCoef().set_dtype(torch.float64)
    for window in range(len(p)):
        metric.update(p[window], y[window])
    expected = metric.compute().item()
    assert ccc(p, y, estimator="unbiased").item() == pytest.approx(expected, abs=1e-14)
    assert abs(ccc(p, y).item() - expected) > 1e-3


def test_known_values() -> None:
    y = torch.tensor([0.0, 1.0, 2.0])
    assert ccc(y, y).item() == pytest.approx(1)
    assert ccc(-y + 2, y).item() == pytest.approx(-1)
    # cov = 2/3, variances 2/3 each, means differ by 1: 2 * 2/3 / (4/3 + 1) = 4/7
    assert ccc(y + 1, y).item() == pytest.approx(4 / 7)
    # cov = 1, variances 1 each: 2 / (2 + 1)
    assert ccc(y + 1, y, estimator="unbiased").item() == pytest.approx(2 / 3)
    # A population covariance over sample variances: 1 - 1/N at best.
    assert ccc(y, y, estimator="mixed").item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_equals_published_losses(losses: dict[str, Array], case: str, name: str) -> None:
    """Within their float32; ABAW2's 1e-8 in a denominator of about 0.3 and more is not seen."""
    p, y = (torch.tensor(losses[f"in.{case}.{x}"]) for x in ("pred", "label"))
    loss, gradient = loss_and_gradient(p, y, **LOSSES[name])
    out = f"out.{case}.{name}"
    if losses[f"{out}_is_nan"]:
        assert case == "both_zero"
        assert loss == 1
    else:
        assert loss.item() == pytest.approx(float(losses[out]), abs=1.5e-7)
    if losses[f"{out}_grad_is_nan"].any():
        # Ours is the analytic gradient, and zero where both series are constant.
        assert torch.isfinite(gradient).all()
        assert gradient.any() == (case not in BOTH_CONSTANT)
    else:
        np.testing.assert_allclose(gradient.numpy(), losses[f"{out}_grad"], rtol=0, atol=5e-8)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("case", CASES)
def test_equals_published_metrics(losses: dict[str, Array], case: str, name: str) -> None:
    """To the last digits of float64, but for a 1e-8 in a denominator (cvprw)."""
    p, y = (torch.tensor(losses[f"in.{case}.{x}"]) for x in ("pred", "label"))
    ours = ccc(p, y, estimator=METRICS[name]).item()  # pyright: ignore[reportArgumentType]
    if case in BOTH_CONSTANT:
        # Undefined; they give 0 or NaN.
        assert math.isnan(ours)
    elif losses[f"out.{case}.{name}_is_nan"]:
        assert ours == 0
    else:
        tolerance = 1e-7 if name == "cvprw_metric" else 1e-14
        assert ours == pytest.approx(float(losses[f"out.{case}.{name}"]), abs=tolerance)


@settings(deadline=None)
@given(
    arrays(np.float32, (5, 4), elements=EIGHTHS),
    arrays(np.float32, (5, 4), elements=EIGHTHS),
    arrays(np.bool_, (5, 4)),
    st.sampled_from(ESTIMATORS),
    st.sampled_from(OVERS),
)
def test_loss_equals_loop(p: Array, y: Array, keep: Array, estimator: Any, over: Any) -> None:
    ours = ccc_loss(
        torch.tensor(p), torch.tensor(y), torch.tensor(keep), estimator, over, SEQUENCES
    )
    expected = by_loop(p.astype(np.float64), y.astype(np.float64), keep, estimator, over)
    assert ours.item() == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(SERIES, SERIES, KEEP, st.sampled_from(ESTIMATORS))
def test_mask_is_leaving_out(p: Array, y: Array, keep: Array, estimator: Any) -> None:
    pred, target, mask = torch.tensor(p), torch.tensor(y), torch.tensor(keep)
    masked = ccc(pred, target, mask, estimator).item()
    left = ccc(pred[mask], target[mask], estimator=estimator).item()
    assert masked == pytest.approx(left, abs=1e-9, nan_ok=True)


@settings(deadline=None)
@given(SERIES, SERIES, KEEP, st.randoms(use_true_random=False), st.sampled_from(ESTIMATORS))
def test_bounded_symmetric_and_blind_to_order(
    p: Array, y: Array, keep: Array, random: Any, estimator: Any
) -> None:
    series = torch.tensor(p), torch.tensor(y), torch.tensor(keep)
    ours = ccc(*series, estimator).item()
    assert math.isnan(ours) or abs(ours) <= 1 + 1e-9
    swapped = ccc(series[1], series[0], series[2], estimator).item()
    assert swapped == pytest.approx(ours, abs=1e-12, nan_ok=True)
    order = random.sample(range(len(p)), len(p))
    shuffled = ccc(*(x[order] for x in series), estimator).item()
    assert shuffled == pytest.approx(ours, abs=1e-9, nan_ok=True)


@settings(deadline=None)
@given(
    arrays(np.float32, (5, 3), elements=st.one_of(FEW, VALUES)),
    arrays(np.float32, (5, 3), elements=st.one_of(FEW, VALUES)),
    arrays(np.bool_, (5, 3)),
    st.sampled_from(ESTIMATORS),
    st.sampled_from(OVERS),
)
def test_loss_and_gradient_are_always_finite(
    p: Array, y: Array, keep: Array, estimator: Any, over: Any
) -> None:
    mask = torch.tensor(keep)
    loss, gradient = loss_and_gradient(
        torch.tensor(p),
        torch.tensor(y),
        mask=mask,
        estimator=estimator,
        over=over,
        sequences=SEQUENCES,
    )
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert not gradient[~mask].any()


@pytest.mark.parametrize("over", OVERS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradient_equals_finite_differences(estimator: Any, over: Any) -> None:
    p, y, keep = random_windows()

    def loss(pred: Tensor, target: Tensor) -> Tensor:
        return ccc_loss(pred, target, keep, estimator, over, SEQUENCES)

    assert torch.autograd.gradcheck(loss, (p.requires_grad_(), y.requires_grad_()))


@pytest.mark.parametrize("over", OVERS)
def test_vmap_equals_loop(over: Any) -> None:
    _, y, keep = random_windows()
    p = torch.randn(3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    keeps = torch.stack([keep, ~keep, torch.zeros_like(keep)])

    def loss(pred: Tensor, mask: Tensor) -> Tensor:
        return ccc_loss(pred, y, mask, over=over, sequences=SEQUENCES)

    gradients, losses = torch.func.vmap(torch.func.grad_and_value(loss))(p, keeps)
    for i in range(3):
        expected, gradient = loss_and_gradient(
            p[i], y, mask=keeps[i], over=over, sequences=SEQUENCES
        )
        torch.testing.assert_close(losses[i], expected)
        torch.testing.assert_close(gradients[i], gradient)

    def score(pred: Tensor, mask: Tensor) -> Tensor:
        return ccc(pred, y, mask)

    scores = torch.func.vmap(score)(p, keeps)
    torch.testing.assert_close(scores[0], ccc(p[0], y, keep))
    assert torch.isnan(scores[2])


def test_constant_prediction_scores_zero_and_learns() -> None:
    y = torch.tensor([0.0, 0.5, 1.0, -0.5], dtype=torch.float64)
    pred = torch.full((4,), 0.3, dtype=torch.float64)
    assert ccc(pred, y).item() == 0
    loss, gradient = loss_and_gradient(pred, y)
    assert loss == 1
    # d(1 - 2 c / s) / dp_i with c = 0: -2 (y_i - mean y) / (n s)
    s = y.var(correction=0) + (0.3 - y.mean()) ** 2
    torch.testing.assert_close(gradient, -2 * (y - y.mean()) / (4 * s))


@pytest.mark.parametrize("over", OVERS)
@pytest.mark.parametrize("label", [0.3, -0.2, 0.0])
def test_both_constant_is_undefined(label: float, over: Any) -> None:
    pred, target = torch.full((5, 4), 0.3), torch.full((5, 4), label)
    assert math.isnan(ccc(pred, target).item())
    loss, gradient = loss_and_gradient(pred, target, over=over, sequences=SEQUENCES)
    assert loss == 1
    assert not gradient.any()


@pytest.mark.parametrize(
    ("dtype", "n"), [(torch.float64, 100_000), (torch.float32, 1000), (torch.bfloat16, 1000)]
)
def test_a_constant_that_was_rounded_stays_one(dtype: torch.dtype, n: int) -> None:
    """A constant computed several times differs in its last digits, in both series alike."""
    constant = torch.full((n,), 0.7, dtype=dtype)
    noise = torch.randint(-2, 3, (n,), generator=torch.Generator().manual_seed(3)).to(dtype)
    noisy = constant * (1 + noise * torch.finfo(dtype).eps)
    assert len(noisy.unique()) > 2
    assert math.isnan(ccc(constant, constant).item())
    assert math.isnan(ccc(noisy, noisy).item())
    loss, gradient = loss_and_gradient(noisy, noisy)
    assert loss == 1
    assert not gradient.any()
    visible = constant * (1 + 10 * noise * torch.finfo(dtype).eps)
    assert ccc(visible, visible).item() == pytest.approx(1)
    # One series is enough: the other's noise is then an error like any other.
    ramp = torch.linspace(0, 1, n, dtype=dtype)
    assert abs(ccc(noisy, ramp).item()) < 0.1
    assert loss_and_gradient(noisy, ramp)[1].any()


def test_numbers_whose_gradient_would_overflow_are_constant() -> None:
    smallest = torch.tensor([0.0, 1e-45, 2e-45, 1e-45])
    loss, gradient = loss_and_gradient(smallest, smallest)
    assert loss == 1
    assert not gradient.any()


@pytest.mark.parametrize("over", OVERS)
def test_nothing_left_is_undefined(over: Any) -> None:
    p, y, keep = random_windows()
    nothing = torch.zeros_like(keep)
    assert math.isnan(ccc(p, y, nothing).item())
    loss, gradient = loss_and_gradient(p, y, mask=nothing, over=over, sequences=SEQUENCES)
    assert loss == 1
    assert not gradient.any()
    assert ccc_loss(p[:0], y[:0], over=over, sequences=SEQUENCES[:0]) == 1
    assert math.isnan(ccc(p[:0], y[:0]).item())


def test_a_window_with_one_element_adds_one() -> None:
    p, y, _ = random_windows()
    first = torch.zeros(2, 6, dtype=torch.bool)
    first[0], first[1, 0] = True, True
    loss, gradient = loss_and_gradient(p[:2], y[:2], mask=first, over="window")
    assert loss.item() == pytest.approx((ccc_loss(p[0], y[0]).item() + 1) / 2)
    assert not gradient[1].any()
    assert ccc_loss(p[:, :1], y[:, :1], over="window") == 1


@pytest.mark.parametrize("over", OVERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_hidden_only_where_it_does_not_count(
    bad: float, over: Any
) -> None:
    p, y, keep = random_windows()
    options = {"mask": keep, "over": over, "sequences": SEQUENCES}
    expected, expected_gradient = loss_and_gradient(p, y, **options)
    loss, gradient = loss_and_gradient(
        p.masked_fill(~keep, bad), y.masked_fill(~keep, bad), **options
    )
    assert loss == expected
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=0)
    for row, column in keep.nonzero().tolist():
        spoilt = p.clone()
        spoilt[row, column] = bad
        assert torch.isnan(ccc_loss(spoilt, y, keep, over=over, sequences=SEQUENCES))
        assert math.isnan(ccc(spoilt, y, keep).item())


def test_accumulates_in_float64() -> None:
    # In float32 the variance of numbers near 4096 with spread 1e-2 is lost.
    y = 4096 + torch.linspace(0, 0.03125, 64)
    assert ccc(y, y).item() == pytest.approx(1)
    # In float64 so is that of numbers near 1e8 with spread 1e-2, but for the shift by their mean.
    y = 1e8 + torch.linspace(0, 0.03125, 64, dtype=torch.float64)
    assert ccc(y, y + 0.01).item() == pytest.approx(ccc(y - 1e8, y + 0.01 - 1e8).item(), abs=1e-6)


def test_refuses_what_it_does_not_know() -> None:
    p, y, keep = random_windows()
    with pytest.raises(ConfigError, match=r"estimator 'sample'.*biased, unbiased, mixed"):
        ccc(p, y, estimator="sample")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"over 'video'.*batch, window, sequence"):
        ccc_loss(p, y, over="video")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="pass `sequences`"):
        ccc_loss(p, y, over="sequence")
    with pytest.raises(ValueError, match=r"one sequence number per window, \(5,\), got \(6,\)"):
        ccc_loss(p, y, over="sequence", sequences=torch.arange(6))
    with pytest.raises(ValueError, match=r"target has shape \(6, 5\), the prediction \(5, 6\)"):
        ccc_loss(p, y.mT)
    with pytest.raises(ValueError, match=r"mask has shape \(6,\)"):
        ccc(p, y, keep[0])
