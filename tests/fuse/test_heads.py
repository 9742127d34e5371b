"""What every head promises: shapes, masks, lengths, causality; and that all of it learns."""

import pytest
import torch
from concord.cache import ConfigError
from concord.fuse.catalogue import HEADS
from concord.fuse.heads import build_head
from concord.fuse.settings import ExperimentSettings
from torch import nn

LENGTH = 6
DIMS = {"audio/x": 5, "visual/y": 7}
PAPER = [name for name, info in HEADS.items() if info.variant == "paper"]
ONE_WIDTH = [name for name in HEADS if name.startswith("jmt")]
HEAD_SETTINGS = [
    *((name, {"width": 4}) for name in HEADS),
    *((name, {"width": 0}) for name in PAPER if name not in ONE_WIDTH),
    *(("jca_any", {"encoder": kind, "levels": 2}) for kind in ("tcn", "gru", "transformer")),
    ("jca", {"encoders": ("gru", "tcn"), "levels": 1}),
    ("jca_any", {"causal": True}),
    ("concat", {"hidden": 0}),
    ("rjcma", {"recursions": 1}),
]
DEAD = {
    # What these programs compute of the sound is thrown away, or has no part in the prediction.
    "jca:tbiom": ("affine_a", "W_a", "W_ca", "W_ha"),
    "jca:cvprw": ("affine_a", "W_a", "W_ca", "W_ha"),
}


def make(name, width=4, dims=DIMS, **kwargs):
    torch.manual_seed(0)
    told = {"hidden": 8, "k": 3, "d": 4, **kwargs}
    settings = ExperimentSettings(head=name, streams=tuple(dims), width=width, **told)
    return build_head(dims, LENGTH, settings)


def still(head):
    """Without dropout, whose draws depend on the place in the batch."""
    for module in head.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.GRU):
            module.dropout = 0.0
    return head


def batch(dims=DIMS, size=4, seed=0, length=LENGTH):
    random = torch.Generator().manual_seed(seed)
    features = {n: torch.randn(size, length, d, generator=random) for n, d in dims.items()}
    valid = {n: torch.rand(size, length, generator=random) > 0.3 for n in dims}
    rows = torch.ones(size, length, dtype=torch.bool)
    rows[0, 4:] = False
    return features, {n: ok & rows for n, ok in valid.items()}, rows


def every(test):
    return pytest.mark.parametrize(("name", "options"), HEAD_SETTINGS)(test)


@every
def test_gives_valence_and_arousal_per_row(name, options):
    out = make(name, **options)(*batch())
    assert out.shape == (4, LENGTH, 2)
    assert torch.isfinite(out).all()


@every
@pytest.mark.parametrize("training", [False, True])
def test_values_in_invalid_rows_change_nothing(name, options, training):
    head = make(name, **options)
    state = {n: x.clone() for n, x in head.state_dict().items()}
    features, valid, rows = batch()
    other = {n: torch.where(valid[n][..., None], x, 99.0) for n, x in features.items()}
    results = []
    for values in (features, other):
        head.load_state_dict(state)
        torch.manual_seed(1)
        results.append(head.train(training)(values, valid, rows))
    assert torch.equal(*results)


@every
def test_nan_in_invalid_rows_does_not_spread(name, options):
    head = make(name, **options)
    features, valid, rows = batch()
    poisoned = {n: torch.where(valid[n][..., None], x, torch.nan) for n, x in features.items()}
    out = head(poisoned, valid, rows)
    out.sum().backward()
    assert torch.isfinite(out).all()
    gradients = [p.grad for p in head.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@every
@pytest.mark.parametrize("training", [False, True])
def test_permuting_the_batch_permutes_the_output(name, options, training):
    head = still(make(name, **options)).train(training)
    features, valid, rows = batch()
    order = torch.tensor([2, 0, 3, 1])
    moved = head(
        {n: x[order] for n, x in features.items()},
        {n: ok[order] for n, ok in valid.items()},
        rows[order],
    )
    torch.testing.assert_close(moved, head(features, valid, rows)[order])


@every
def test_every_parameter_learns(name, options):
    if HEADS[name].variant == "code":
        options = {"width": 16}  # In a few dimensions a ReLU may well be 0 everywhere.
    head = still(make(name, **options)).train()
    features, _, rows = batch(size=16)
    everywhere = {n: torch.ones_like(rows) for n in features}
    head(features, everywhere, torch.ones_like(rows)).square().sum().backward()
    for parameter_name, parameter in head.named_parameters():
        if any(part in DEAD.get(name, ()) for part in parameter_name.split(".")):
            assert parameter.grad is None or not parameter.grad.any(), parameter_name
            continue
        assert parameter.grad is not None, parameter_name
        # A key's bias adds the same to all scores of a query: softmax cancels it, all but rounding.
        if parameter_name.endswith(("in_proj_bias", "qkv_proj.bias")):
            continue
        assert parameter.grad.abs().max() > 1e-9, parameter_name


@every
@pytest.mark.parametrize("absent", list(DIMS))
def test_a_track_without_a_modality_trains_and_predicts(name, options, absent):
    head = make(name, **options)
    features, valid, rows = batch()
    valid[absent][:2] = False
    before = {n: p.clone() for n, p in head.named_parameters()}
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    head.train()(features, valid, rows).square().mean().backward()
    optimiser.step()
    assert any((p != before[n]).any() for n, p in head.named_parameters())
    assert torch.isfinite(head.eval()(features, valid, rows)).all()


@every
def test_a_window_without_any_value_is_finite_and_the_same_for_all(name, options):
    head = still(make(name, **options)).eval()
    features, valid, rows = batch()
    nothing = {n: torch.zeros_like(ok) for n, ok in valid.items()}
    out = head(features, nothing, rows)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[1], out[2])


CAUSAL = [
    *((name, {}) for name, info in HEADS.items() if info.causal == "yes"),
    ("jca_any", {"causal": True}),
    ("jca_any", {"causal": True, "encoder": "transformer", "levels": 2}),
    ("jca_any", {"causal": True, "encoders": ("tcn", "gru"), "levels": 2}),
]


@pytest.mark.parametrize(("name", "options"), CAUSAL)
@pytest.mark.parametrize("training", [False, True])
def test_later_rows_change_nothing_in_a_causal_head(name, options, training):
    if training and name.endswith(":model"):
        pytest.skip("batch norm's statistics, while training, are of all rows of the batch")
    head = still(make(name, **options)).train(training)
    features, valid, rows = batch()
    other = {n: x.clone() for n, x in features.items()}
    changed = {n: ok.clone() for n, ok in valid.items()}
    for n in other:
        other[n][:, 3:] += 5
        changed[n][1, 3:] = ~changed[n][1, 3:]
    first = head(features, valid, rows)[:, :3]
    torch.testing.assert_close(head(other, changed, rows)[:, :3], first)
    assert not torch.equal(head(other, changed, rows)[1:, 3:], head(features, valid, rows)[1:, 3:])


@pytest.mark.parametrize("name", [name for name, info in HEADS.items() if info.causal == "no"])
def test_the_others_look_ahead(name):
    head = still(make(name)).eval()
    features, valid, rows = batch()
    other = {n: torch.cat([x[:, :3], x[:, 3:] + 5], 1) for n, x in features.items()}
    assert not torch.allclose(head(other, valid, rows)[:, :3], head(features, valid, rows)[:, :3])


@pytest.mark.parametrize("name", [name for name, info in HEADS.items() if info.length == "any"])
def test_padding_changes_nothing_for_heads_of_any_length(name):
    head = still(make(name)).eval()
    features, valid, rows = batch(length=4)
    longer = [
        {n: torch.cat([x, torch.full_like(x, 7.0)], 1) for n, x in features.items()},
        {n: torch.cat([ok, torch.zeros_like(ok)], 1) for n, ok in valid.items()},
        torch.cat([rows, torch.zeros_like(rows)], 1),
    ]
    if HEADS[name].variant == "code" and HEADS[name].causal == "no":
        pytest.skip("the program has no masks: rows of zeros are attended to")
    torch.testing.assert_close(head(*longer)[:, :4], head(features, valid, rows))


@pytest.mark.parametrize("name", [name for name, info in HEADS.items() if info.length == "fixed"])
def test_heads_of_a_fixed_length_want_it(name):
    features, valid, rows = batch()
    short = ({n: x[:, :3] for n, x in features.items()}, {n: x[:, :3] for n, x in valid.items()})
    with pytest.raises(ValueError, match=r"windows of 6 rows, got 3.*pad"):
        make(name)(*short, rows[:, :3])


MAPS = {
    "jca": {"C_a": (4, 4, 8), "C_v": (4, 4, 8)},
    "rjcma": {"C_a": (4, 4, 8), "C_v": (4, 4, 8)},
    "jca_any": {"C_a": (4, LENGTH, LENGTH), "C_v": (4, LENGTH, LENGTH)},
    "cross_attention": dict.fromkeys(("Z", "A_a", "A_v"), (4, LENGTH, LENGTH)),
    "leader_follower": {"A_m": (4, LENGTH, 2, 2)},
    "jmt": {
        **{f"A_{pair}": (4, LENGTH, LENGTH) for pair in ("va", "av", "jv", "vj", "ja", "aj")},
        "A_s": (4, LENGTH, 6, 6),
    },
    "concat": {},
}


@pytest.mark.parametrize("name", PAPER)
def test_maps_can_be_looked_at(name):
    maps = make(name).maps(*batch())
    assert {n: tuple(x.shape) for n, x in maps.items()} == MAPS[name]
    for n, x in maps.items():
        if n.startswith("A_") and name != "cross_attention":
            sums = x.sum(-1)
            assert torch.all((sums - 1).abs().lt(1e-5) | sums.eq(0)), n


@pytest.mark.parametrize("name", [*PAPER, "rjcma:code", "leader_follower:model"])
def test_three_modalities(name):
    dims = {"audio/x": 5, "visual/y": 7, "text/z": 3}
    if HEADS[name].most == 2:
        with pytest.raises(
            ConfigError, match=f"head '{name}': expected modalities: audio and visual"
        ):
            make(name, dims=dims)
    else:
        assert make(name, dims=dims)(*batch(dims)).shape == (4, LENGTH, 2)


@pytest.mark.parametrize("name", list(HEADS))
def test_one_modality(name):
    dims = {"visual/y": 7, "visual/z": 2}
    if HEADS[name].least > 1:
        with pytest.raises(
            ConfigError, match=r"expected modalities: .*found visual/y, visual/z; add or leave"
        ):
            make(name, dims=dims)
    else:
        assert make(name, dims=dims)(*batch(dims)).shape == (4, LENGTH, 2)


def test_jmt_wants_one_width():
    with pytest.raises(ConfigError, match=r"one width, found a 5, v 7; set `width`"):
        make("jmt", width=0)


def test_bfloat16():
    for name in HEADS:
        head = make(name)
        with torch.autocast("cpu", torch.bfloat16):
            out = head(*batch())
        out.float().sum().backward()
        assert torch.isfinite(out).all(), name


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
    with pytest.raises(
        ConfigError, match=r"unknown head 'jcca'; did you mean 'jca'\?; known: concat, "
    ):
        build_head(DIMS, LENGTH, settings)
