"""Code variants as heads: shapes, masks, modalities, and the same numbers as the variants alone."""

from typing import Any

import pytest
import torch
from concord.cache import ConfigError
from concord.fuse.parts import Readout
from concord.fuse.reference import REFERENCES
from concord.fuse.reference_head import ReferenceHead
from concord.fuse.settings import ExperimentSettings
from torch import Tensor, nn

LENGTH = 6
NAMES = [name for name in REFERENCES if name != "tcn"]
WANT = {
    "rjcma:code": {"text/z": 3, "audio/x": 5, "visual/y": 7},
    "leader_follower:encoder": {"text/z": 3, "audio/x": 5, "visual/y": 7, "visual/w": 2},
}
TWO = {"audio/x": 5, "visual/y": 7}
Batch = tuple[dict[str, Tensor], dict[str, Tensor], Tensor]


def make(name: str, dims: dict[str, int] | None = None, **told: Any) -> ReferenceHead:
    torch.manual_seed(0)
    dims = dims or WANT.get(name, TWO)
    told = {"width": 4, "hidden": 8, **told}
    settings = ExperimentSettings(head=name, streams=tuple(dims), **told)
    return ReferenceHead(dims, LENGTH, settings)


def batch(name: str, dims: dict[str, int] | None = None) -> Batch:
    dims = dims or WANT.get(name, TWO)
    random = torch.Generator().manual_seed(0)
    features = {n: torch.randn(5, LENGTH, d, generator=random) for n, d in dims.items()}
    valid = {n: torch.rand(5, LENGTH, generator=random) > 0.3 for n in dims}
    rows = torch.ones(5, LENGTH, dtype=torch.bool)
    rows[0, 4:] = False
    return features, valid, rows


def without_dropout(head: nn.Module) -> nn.Module:
    for module in head.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return head


every = pytest.mark.parametrize("name", NAMES)
either_mode = pytest.mark.parametrize("training", [False, True])


@every
@pytest.mark.parametrize("width", [0, 4])
def test_gives_valence_and_arousal_per_row(name: str, width: int) -> None:
    # JMT's programs join rows of one width.
    dims = {"audio/x": 5, "visual/y": 5} if name.startswith("jmt") else None
    out = make(name, dims, width=width)(*batch(name, dims))
    assert out.shape == (5, LENGTH, 2)
    assert torch.isfinite(out).all()
    assert not torch.allclose(out[..., 0], out[..., 1])


@every
def test_permuting_the_batch_permutes_the_output(name: str) -> None:
    head = make(name).eval()
    features, valid, rows = batch(name)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = head(
        {n: x[order] for n, x in features.items()},
        {n: ok[order] for n, ok in valid.items()},
        rows[order],
    )
    torch.testing.assert_close(moved, head(features, valid, rows)[order])


@every
@either_mode
def test_values_in_invalid_rows_change_nothing(name: str, training: bool) -> None:
    head = make(name)
    state = {n: x.clone() for n, x in head.state_dict().items()}
    features, valid, rows = batch(name)
    inside = {n: ok & rows for n, ok in valid.items()}
    results: list[Tensor] = []
    for value in (0.0, 99.0, torch.nan):
        head.load_state_dict(state)
        torch.manual_seed(1)
        given = {n: torch.where(inside[n][..., None], x, value) for n, x in features.items()}
        results.append(head.train(training)(given, valid, rows))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@every
@either_mode
def test_a_track_without_a_modality_is_finite(name: str, training: bool) -> None:
    for absent in WANT.get(name, TWO):
        head = make(name).train(training)
        features, valid, rows = batch(name)
        valid[absent][:3] = False
        out = head(features, valid, rows)
        out.square().sum().backward()
        assert torch.isfinite(out).all(), absent
        gradients = {n: p.grad for n, p in head.named_parameters() if p.grad is not None}
        assert gradients
        for parameter, gradient in gradients.items():
            assert torch.isfinite(gradient).all(), (absent, parameter)


@every
def test_a_batch_without_any_value_is_finite(name: str) -> None:
    head = make(name)
    features, valid, rows = batch(name)
    out = head(features, {n: torch.zeros_like(ok) for n, ok in valid.items()}, rows)
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", [name for name in NAMES if REFERENCES[name].NORM])
def test_statistics_are_of_rows_with_a_value(name: str) -> None:
    """Running statistics do not depend on how many rows without a value stand beside."""
    means: list[Tensor] = []
    for copies in (0, 3):
        head = without_dropout(make(name)).train()
        features, valid, rows = batch(name)
        head(
            {n: torch.cat([x, *[torch.ones_like(x)] * copies]) for n, x in features.items()},
            {n: torch.cat([ok, *[torch.zeros_like(ok)] * copies]) for n, ok in valid.items()},
            torch.cat([rows] * (copies + 1)),
        )
        means.append(torch.cat([b for n, b in head.named_buffers() if n.endswith("mean")]))
    assert means[0].abs().max() > 1e-3
    torch.testing.assert_close(means[0], means[1])


@pytest.mark.parametrize(
    ("name", "copies"),
    [(name, 2 if REFERENCES[name].OUTPUTS == ("prediction",) else 1) for name in NAMES],
)
def test_is_the_variant_behind_zeroed_streams(name: str, copies: int) -> None:
    """One copy per target where a program has one model per target, with weights of its own."""
    dims = {"audio/x": 4, "visual/y": 4} if name.startswith("jmt") else WANT.get(name, TWO)
    head = make(name, dims, width=0).eval()
    features, valid, rows = batch(name, dims)
    x = {n: f * (valid[n] & rows)[..., None] for n, f in features.items()}
    video = "video" if "video" in REFERENCES[name].INPUTS else "visual"
    given = {"audio": x["audio/x"], video: x["visual/y"]}
    if "visual/w" in x:
        given[video] = torch.cat([x["visual/y"], x["visual/w"]], dim=-1)
    if "text/z" in x:
        given["text"] = x["text/z"]
    models = list(head.models)
    assert len(models) == copies
    outs = [model(**given) for model in models]
    if REFERENCES[name].OUTPUTS == ("fused",):
        assert isinstance(head.readout, Readout)
        expected = head.readout(outs[0]["fused"])
    elif copies == 2:
        expected = torch.stack([out["prediction"] for out in outs], dim=-1)
    else:
        expected = torch.stack([outs[0]["valence"], outs[0]["arousal"]], dim=-1)
    if name == "jmt:fc":
        expected = expected.transpose(0, 1)
    torch.testing.assert_close(head(features, valid, rows), expected)


@pytest.mark.parametrize("name", ["leader_follower:encoder", "leader_follower:model"])
def test_the_visual_rows_lead_whatever_the_order_of_streams(name: str) -> None:
    head = make(name, {"text/z": 3, "audio/x": 5, "visual/y": 7}, width=0)
    assert list(head.inputs.values()) == ["video", "audio", "text"]
    if name.endswith(":model"):
        assert {model.leader for model in head.models} == {"video"}


@pytest.mark.parametrize("name", ["jca:tbiom", "jca:cvprw", "rjcma:code"])
def test_wants_windows_of_its_length(name: str) -> None:
    features, valid, rows = batch(name)
    short = ({n: x[:, :3] for n, x in features.items()}, {n: x[:, :3] for n, x in valid.items()})
    with pytest.raises(ValueError, match=rf"'{name}' was built for windows of 6 rows, got 3; pad"):
        make(name)(*short, rows[:, :3])


@pytest.mark.parametrize("name", [n for n in NAMES if n.partition(":")[0] not in ("jca", "rjcma")])
def test_takes_any_length(name: str) -> None:
    features, valid, rows = batch(name)
    short = ({n: x[:, :3] for n, x in features.items()}, {n: x[:, :3] for n, x in valid.items()})
    assert make(name)(*short, rows[:, :3]).shape == (5, 3, 2)


@pytest.mark.parametrize(
    ("name", "dims", "message"),
    [
        ("jca:tbiom", {"visual/y": 7}, r"audio and visual; .*found visual/y; "),
        ("jmt:fc", {"audio/x": 5, "text/z": 3}, r"audio and visual; .*audio/x, text/z; "),
        ("concat:jmt", {**TWO, "text/z": 3}, r"audio and visual; .*visual/y, text/z; "),
        ("leader_follower:model", {"audio/x": 5, "text/z": 3}, r"visual among them; .*audio/x, "),
        ("rjcma:code", {"visual/y": 7}, r"found visual/y; "),
        ("tcn", TWO, r"unknown head 'tcn'"),
    ],
)
def test_refuses_other_modalities(name: str, dims: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(name, dims)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("jmt")])
def test_jmt_wants_one_width(name: str) -> None:
    with pytest.raises(ConfigError, match=r"one width, found visual 7, audio 5; set `width`"):
        make(name, width=0)


@pytest.mark.parametrize("name", [name for name in NAMES if REFERENCES[name].HEADS])
def test_attention_heads(name: str) -> None:
    own, other = make(name).eval(), make(name, attention_heads=4).eval()
    same = make(name, attention_heads=REFERENCES[name].HEADS).eval()
    given = batch(name)
    assert torch.equal(own(*given), same(*given))
    assert not torch.allclose(own(*given), other(*given))
    with pytest.raises(ConfigError, match="3 heads do not divide it"):
        make(name, attention_heads=3)


def test_sizes_are_the_authors_where_the_streams_do_not_decide() -> None:
    head = make("jca:tbiom", width=0)
    assert tuple(head.models[0].get_parameter("encoder1.weight").shape) == (128, 5)
    assert tuple(head.models[0].get_parameter("encoder2.weight").shape) == (128, 7)
    lfan = make("leader_follower:model", width=0).models[0]
    channels = [
        [lfan.get_parameter(f"temporal.{m}.network.{n}.conv1.bias").numel() for n in range(4)]
        for m in ("video", "audio")
    ]
    assert channels == [[256, 256, 128, 128], [64, 64, 32, 32]]


def test_a_temporal_encoder_goes_in_front() -> None:
    head = make("concat:jmt", encoder="tcn", levels=2).eval()
    features, valid, rows = batch("concat:jmt")
    everywhere = {n: torch.ones_like(ok) for n, ok in valid.items()}
    before = head(features, everywhere, rows)
    features["audio/x"][:, 2] += 5
    after = head(features, everywhere, rows)
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert not torch.allclose(after[:, 3], before[:, 3])
