"""What every head promises: shapes, masks, lengths; and that all of it learns."""

import pytest
import torch
from concord.cache import ConfigError
from concord.fuse.heads import HEADS, build_head
from concord.fuse.settings import ExperimentSettings

LENGTH = 6
DIMS = {"audio/x": 5, "visual/y": 7}
HEAD_SETTINGS = [(name, width) for name in HEADS for width in (0, 4)]


def make(name, width=4, dims=DIMS, **kwargs):
    torch.manual_seed(0)
    settings = ExperimentSettings(
        head=name, streams=tuple(dims), width=width, hidden=8, k=3, **kwargs
    )
    return build_head(dims, LENGTH, settings)


def batch(dims=DIMS, size=4, seed=0):
    random = torch.Generator().manual_seed(seed)
    features = {n: torch.randn(size, LENGTH, d, generator=random) for n, d in dims.items()}
    valid = {n: torch.rand(size, LENGTH, generator=random) > 0.3 for n in dims}
    rows = torch.ones(size, LENGTH, dtype=torch.bool)
    rows[0, 4:] = False
    return features, {n: ok & rows for n, ok in valid.items()}, rows


@pytest.mark.parametrize(("name", "width"), HEAD_SETTINGS)
def test_gives_valence_and_arousal_per_row(name, width):
    out = make(name, width)(*batch())
    assert out.shape == (4, LENGTH, 2)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(("name", "width"), HEAD_SETTINGS)
@pytest.mark.parametrize("training", [False, True])
def test_values_in_invalid_rows_change_nothing(name, width, training):
    head = make(name, width).train(training)
    features, valid, rows = batch()
    other = {n: torch.where(valid[n][..., None], x, 99.0) for n, x in features.items()}
    torch.manual_seed(1)
    expected = head(features, valid, rows)
    torch.manual_seed(1)
    assert torch.equal(head(other, valid, rows), expected)


@pytest.mark.parametrize(("name", "width"), HEAD_SETTINGS)
def test_nan_in_invalid_rows_does_not_spread(name, width):
    head = make(name, width)
    features, valid, rows = batch()
    poisoned = {n: torch.where(valid[n][..., None], x, torch.nan) for n, x in features.items()}
    out = head(poisoned, valid, rows)
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("name", list(HEADS))
def test_permuting_the_batch_permutes_the_output(name):
    head = make(name).eval()
    features, valid, rows = batch()
    order = torch.tensor([2, 0, 3, 1])
    moved = head(
        {n: x[order] for n, x in features.items()},
        {n: ok[order] for n, ok in valid.items()},
        rows[order],
    )
    torch.testing.assert_close(moved, head(features, valid, rows)[order])


@pytest.mark.parametrize(("name", "width"), HEAD_SETTINGS)
def test_every_parameter_learns(name, width):
    head = make(name, width, dropout=0.0)
    features, _, rows = batch(size=16)
    everywhere = {n: torch.ones_like(rows) for n in features}
    head(features, everywhere, torch.ones_like(rows)).square().sum().backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_a_stream_absent_from_a_whole_window_is_fine():
    for name in HEADS:
        head = make(name)
        features, valid, rows = batch()
        valid["audio/x"][:] = False
        assert torch.isfinite(head(features, valid, rows)).all()


def test_jca_wants_its_length():
    features, valid, rows = batch()
    short = ({n: x[:, :3] for n, x in features.items()}, {n: x[:, :3] for n, x in valid.items()})
    with pytest.raises(ValueError, match=r"windows of 6 rows, got 3.*pad"):
        make("jca")(*short, rows[:, :3])


def test_concat_takes_any_length_row_by_row():
    head = make("concat").eval()
    features, valid, rows = batch()
    whole = head(features, valid, rows)
    part = head(
        {n: x[:, 2:5] for n, x in features.items()},
        {n: x[:, 2:5] for n, x in valid.items()},
        rows[:, 2:5],
    )
    torch.testing.assert_close(part, whole[:, 2:5])


def test_jca_wants_two_modalities():
    with pytest.raises(ConfigError, match=r"at least two modalities.*concat"):
        make("jca", dims={"visual/a": 3, "visual/b": 4})


def test_jca_joins_streams_of_one_modality():
    dims = {"audio/x": 5, "visual/a": 3, "visual/b": 4}
    head = make("jca", width=0, dims=dims)
    # X_v is the two visual streams side by side: d = 5 + 7.
    assert tuple(head.W["W_cv"].shape) == (3, 12)
    assert head(*batch(dims)).shape == (4, LENGTH, 2)


def test_jca_parameter_count():
    # Per modality L*L + k*L + k*d + L*k; read-out d*h + h + 2h + 2; no projection.
    L, k, d, h = LENGTH, 3, 12, 8
    expected = 2 * (L * L + k * L + k * d + L * k) + d * h + h + 2 * h + 2
    assert sum(p.numel() for p in make("jca", width=0).parameters()) == expected


def test_unknown_head():
    settings = ExperimentSettings(head="jcca", streams=("audio/x",))
    with pytest.raises(ConfigError, match="unknown head 'jcca'; known: concat, jca"):
        build_head(DIMS, LENGTH, settings)
