"""Members trained at once equal runs on their own; what cannot be vectorised says so."""

import pytest
import torch
from concord.fuse.catalogue import HEADS
from concord.fuse.ensemble import Ensemble, cannot
from concord.fuse.groups import grouped, why_apart
from concord.fuse.run import Run
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings
from concord.fuse.state import State
from concord.fuse.training import Steps, build
from torch import nn

from .conftest import STREAMS, joined, planted, problem_of

PAPER = [name for name, info in HEADS.items() if info.variant == "paper"]


@pytest.fixture
def doubles():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def experiment(head, **own):
    training = own.pop("training", TrainingSettings(batch=8, lr=5e-3))
    settings = {"width": 6, "hidden": 12, "dropout": 0.0, "k": 4, "d": 4} | own
    return ExperimentSettings(
        head=head,
        streams=STREAMS,
        window=WindowSettings(length=10, hop=7),
        training=training,
        **settings,
    )


def trained(problem, runs, steps):
    state = State(runs, [build(problem, run.experiment, run.seed) for run in runs])
    todo = Steps.of(problem, runs[0].experiment)
    for _ in range(steps):
        todo.take(state)
    assert not any(run.failure for run in runs)
    return state


def away(problem, runs, steps=20):
    together = trained(problem, runs, steps)
    return max(
        float(
            (
                together.ensemble.weights.detach()[i]
                - trained(problem, [run], steps).ensemble.weights.detach()[0]
            )
            .abs()
            .max()
        )
        for i, run in enumerate(runs)
    )


def two_splits():
    return problem_of(joined(planted(seed=1), planted(tracks=3, seed=2, split="val")))


@pytest.mark.parametrize("head", PAPER)
def test_members_equal_runs_on_their_own(doubles, head):
    runs = [Run(experiment(head), seed) for seed in range(3)]
    assert away(two_splits(), runs) < 1e-9


@pytest.mark.parametrize("loss", ["batch", "window", "sequence"])
def test_members_have_their_own_settings(doubles, loss):
    own = [
        TrainingSettings(batch=8, loss=loss, lr=5e-3),
        TrainingSettings(batch=8, loss=loss, lr=1e-3, clip=0.05, weight_decay=0.5),
        TrainingSettings(batch=8, loss=loss, lr=1e-2, schedule="cosine", warmup=1, epochs=3),
    ]
    runs = [Run(experiment("jca", training=training), 5) for training in own]
    problem = two_splits()
    assert len(grouped(runs)) == 1
    assert away(problem, runs) < 1e-9
    weights = trained(problem, runs, 5).ensemble.weights.detach()
    assert (weights[0] - weights[1]).abs().max() > 1e-4


@pytest.mark.parametrize("encoder", ["tcn", "transformer"])
def test_encoders_are_vectorised(doubles, encoder):
    runs = [Run(experiment("concat", encoder=encoder, levels=2, kernel=3), s) for s in range(2)]
    assert away(two_splits(), runs, 5) < 1e-9


def why(settings, device="cpu"):
    problem = two_splits()
    heads = [build(problem, settings, seed) for seed in (0, 1)]
    return why_apart(settings, heads, problem.rows.dims(STREAMS), device)


@pytest.mark.parametrize("head", list(HEADS))
def test_every_head_is_vectorised_or_says_why_not(head):
    if head.startswith("leader_follower:model"):
        assert why(experiment(head))
        return
    told = why(experiment(head, width=8))
    assert not told or "batch" in told or "rule" in told or "vmap" in told.lower(), told
    if HEADS[head].variant == "paper":
        assert not told


def test_a_gru_falls_back_and_says_so():
    assert why(experiment("concat", encoder="gru", levels=1))


def test_wide_rows_are_trained_one_by_one_on_a_processor():
    problem = two_splits()
    settings = experiment("concat", width=400)
    heads = [build(problem, settings, seed) for seed in (0, 1)]
    dims = problem.rows.dims(STREAMS)
    assert "800 joined dimensions" in why_apart(settings, heads, dims, "cpu")
    assert why_apart(settings, heads, dims, "cuda:0") == ""
    always = experiment("concat", width=400, training=TrainingSettings(together="yes"))
    assert why_apart(always, heads, dims, "cpu") == ""
    never = experiment("concat", training=TrainingSettings(together="no"))
    assert "together is no" in why_apart(never, heads, dims, "cpu")


class Odd(nn.Module):
    """Its output depends on how many weights lie side by side: vectorising it would be wrong."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, features, valid, rows):
        del valid
        noise = torch.rand(()) * 10
        return features["visual/x"][..., :2] * self.w + noise * rows[..., None]


def test_a_head_that_differs_when_vectorised_is_found_out():
    assert "away from its own" in cannot([Odd(), Odd()], {"visual/x": 4}, 5)


def test_dropout_differs_between_members():
    problem = two_splits()
    runs = [Run(experiment("concat", dropout=0.5), 3) for _ in range(2)]
    heads = [build(problem, run.experiment, run.seed) for run in runs]
    ensemble = Ensemble(heads)
    rows = torch.ones(1, 6, dtype=torch.bool)
    given = {name: torch.randn(1, 6, 4) for name in STREAMS}, dict.fromkeys(STREAMS, rows), rows
    ensemble.train(True)
    out = ensemble(*given, shared=True)
    assert not torch.equal(out[0], out[1])
    ensemble.train(False)
    out = ensemble(*given, shared=True)
    assert torch.equal(out[0], out[1])


def test_runs_that_differ_in_structure_are_apart():
    runs = [
        Run(experiment("concat"), 0),
        Run(experiment("jca"), 0),
        Run(experiment("concat"), 1),
        Run(experiment("concat", hidden=13), 0),
        Run(experiment("concat", fold="six:1"), 0),
        Run(experiment("concat", training=TrainingSettings(batch=9)), 0),
        Run(experiment("concat", training=TrainingSettings(batch=8, optimiser="sgd")), 0),
    ]
    assert [[runs.index(run) for run in group] for group in grouped(runs)] == [
        [0, 2],
        [1],
        [3],
        [4],
        [5],
        [6],
    ]
    many = [Run(experiment("concat"), seed) for seed in range(40)]
    assert [len(group) for group in grouped(many)] == [16, 16, 8]
    long = experiment("concat", training=TrainingSettings(batch=1311))
    assert [len(group) for group in grouped([Run(long, seed) for seed in range(9)])] == [4, 4, 1]
