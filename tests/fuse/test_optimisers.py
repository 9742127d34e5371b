"""Optimisers, clipping and schedules against torch's own, member by member."""

import math

import pytest
import torch
from concord.fuse.optimisers import Optimiser, clip, column, rate
from concord.fuse.settings import TrainingSettings

MEMBERS = (
    TrainingSettings(lr=1e-2, weight_decay=0.1, momentum=0.9),
    TrainingSettings(lr=3e-3, weight_decay=0.0, momentum=0.5),
    TrainingSettings(lr=1e-1, weight_decay=0.3, momentum=0.0),
)


def theirs(kind, weights, settings):
    if kind == "sgd":
        return torch.optim.SGD(
            [weights],
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
    made = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    return made([weights], lr=settings.lr, weight_decay=settings.weight_decay)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_equals_torch_member_by_member(kind):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    weights = start.clone()
    alone = [row.clone().requires_grad_() for row in start]
    their = [theirs(kind, w, s) for w, s in zip(alone, MEMBERS, strict=True)]
    ours = Optimiser(kind)
    for _ in range(25):
        gradient = torch.randn(3, 7, generator=generator, dtype=torch.float64)
        lr = column([s.lr for s in MEMBERS], weights)
        for w, optimiser, g in zip(alone, their, gradient, strict=True):
            w.grad = g.clone()
            optimiser.step()
        ours.step(weights, gradient.clone(), lr, MEMBERS)
    torch.testing.assert_close(
        weights, torch.stack([w.detach() for w in alone]), atol=1e-13, rtol=0
    )


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_kept_members_go_on_as_before(kind):
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(3, 5, generator=generator)
    gradients = torch.randn(6, 3, 5, generator=generator)
    lr = column([s.lr for s in MEMBERS], start)
    every, some = start.clone(), start.clone()
    whole, part = Optimiser(kind), Optimiser(kind)
    kept = torch.tensor([0, 2])
    for gradient in gradients:
        whole.step(every, gradient.clone(), lr, MEMBERS)
    for gradient in gradients[:3]:
        part.step(some, gradient.clone(), lr, MEMBERS)
    part.keep(kept)
    some = some[kept]
    for gradient in gradients[3:]:
        part.step(some, gradient[kept], lr[kept], (MEMBERS[0], MEMBERS[2]))
    assert torch.equal(some, every[kept])


def test_clipping_equals_torch_member_by_member():
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4], [30.0, 40.0]])
    expected = []
    for row, most in zip(gradient, (1.0, 1.0, 2.0), strict=True):
        w = torch.zeros(2, requires_grad=True)
        w.grad = row.clone()
        torch.nn.utils.clip_grad_norm_([w], most)
        expected.append(w.grad)
    ours = gradient.clone()
    norms = clip(ours, column([1.0, 1.0, 2.0], gradient))
    torch.testing.assert_close(ours, torch.stack(expected))
    torch.testing.assert_close(norms[:, 0], gradient.norm(dim=1))


def test_warm_up_rises_to_the_rate():
    settings = TrainingSettings(lr=1.0, warmup=2, epochs=10)
    assert [rate(settings, step, 4) for step in range(9)] == [
        *(n / 8 for n in range(1, 9)),
        1.0,
    ]


def test_linear_and_cosine_end_near_zero():
    for kind, half in (("linear", 0.5), ("cosine", 0.5)):
        settings = TrainingSettings(lr=1.0, schedule=kind, epochs=10, warmup=2)
        rates = [rate(settings, step, 4) for step in range(8, 40)]
        assert rates[0] == 1.0
        assert rates == sorted(rates, reverse=True)
        assert rates[16] == pytest.approx(half)
        assert 0 < rates[-1] < 0.04
    cosine = rate(TrainingSettings(lr=1.0, schedule="cosine", epochs=4), 3, 4)
    assert cosine == pytest.approx((1 + math.cos(math.pi * 3 / 16)) / 2)


def test_steps_multiply_after_every_so_many_epochs():
    settings = TrainingSettings(lr=1.0, schedule="step", decay=0.1, every=3, epochs=20)
    by_epoch = [rate(settings, epoch * 7 + 6, 7) for epoch in range(9)]
    assert by_epoch == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_a_constant_rate_takes_the_factor_of_plateaus():
    settings = TrainingSettings(lr=0.2, schedule="plateau")
    assert rate(settings, 100, 7, 0.25) == 0.05
