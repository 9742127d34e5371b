"""Training: learns what is planted, repeats itself, stops, and refuses what cannot be learnt."""

import dataclasses

import numpy as np
import pytest
import torch
from concord.cache import ConfigError, DataError, TrainingError
from concord.fuse.ensemble import load_member
from concord.fuse.evaluate import predict
from concord.fuse.run import Run
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings
from concord.fuse.sources import Resident
from concord.fuse.state import State
from concord.fuse.training import build, train

from .conftest import STREAMS, problem_of

WINDOW = WindowSettings(length=16, hop=8)
SETTINGS = TrainingSettings(epochs=25, patience=25, batch=8, lr=5e-3)
SHORT = dataclasses.replace(SETTINGS, epochs=3)


def experiment(head="concat", streams=STREAMS, settings=SETTINGS, window=WINDOW):
    return ExperimentSettings(
        head=head,
        streams=streams,
        width=8,
        hidden=16,
        dropout=0.1,
        k=4,
        window=window,
        training=settings,
    )


def run(problem, head="concat", seed=0, settings=SETTINGS, window=WINDOW):
    settings = experiment(head, problem.streams, settings, window)
    (done,) = train(problem, [Run(settings, seed)])
    return done


def changed(problem, **own):
    """The same problem with other rows."""
    return dataclasses.replace(problem, rows=dataclasses.replace(problem.rows, **own))


def best(done):
    return done.curve[done.best_epoch - 1]


@pytest.mark.parametrize("head", ["concat", "jca"])
def test_learns_both_targets_from_both_streams(problem, head):
    found = best(run(problem, head))
    assert found.valence > 0.7
    assert found.arousal > 0.7


def test_one_stream_tells_one_target(problem):
    alone = problem_of(problem.rows, ("visual/x",))
    found = best(run(alone))
    assert found.valence > 0.7
    assert found.arousal < 0.4


@pytest.mark.parametrize("preset", ["livia", "whole"])
def test_learns_by_other_windows(problem, preset):
    window = WindowSettings(
        preset=preset, **({"length": 8, "dilation": 4} if preset == "livia" else {})
    )
    settings = dataclasses.replace(SETTINGS, epochs=60, patience=60, loss="window")
    assert best(run(problem, settings=settings, window=window)).score > 0.6


@pytest.mark.parametrize("head", ["concat", "jca"])
def test_the_same_seed_gives_the_same_numbers(problem, head):
    first, again, other = (run(problem, head, seed=s, settings=SHORT) for s in (1, 1, 2))
    assert first.curve == again.curve
    for name in ("best", "last"):
        assert all(torch.equal(x, getattr(again, name)[n]) for n, x in getattr(first, name).items())
    assert first.curve != other.curve


def test_nothing_else_in_the_process_matters(problem):
    first = run(problem, settings=SHORT)
    torch.rand(5)
    before = torch.get_rng_state()
    assert run(problem, settings=SHORT).curve == first.curve
    assert torch.equal(torch.get_rng_state(), before)


def test_keeps_the_best_epoch_and_stops(problem):
    settings = dataclasses.replace(SETTINGS, epochs=40, patience=3)
    done = run(problem, settings=settings)
    scores = [epoch.score for epoch in done.curve]
    assert done.best_epoch == scores.index(max(scores)) + 1
    assert len(scores) == min(40, done.best_epoch + 3)
    assert [epoch.epoch for epoch in done.curve] == list(range(1, len(scores) + 1))


def test_members_stop_on_their_own(problem):
    settings = dataclasses.replace(SETTINGS, epochs=40, patience=3)
    runs = [Run(experiment(settings=settings), seed) for seed in range(4)]
    ended = list(train(problem, runs))
    assert sorted(map(id, ended)) == sorted(map(id, runs))
    lengths = [len(each.curve) for each in runs]
    assert len(set(lengths)) > 1
    assert [len(each.curve) for each in ended] == sorted(lengths)
    for each in runs:
        scores = [epoch.score for epoch in each.curve]
        assert each.best_epoch == scores.index(max(scores)) + 1
        assert len(scores) == min(40, each.best_epoch + 3)


def test_best_and_last_weights_give_what_the_curve_says(problem):
    done = run(problem, settings=dataclasses.replace(SETTINGS, epochs=12, lr=5e-2))
    window = WINDOW.resolved()
    for which, epoch in (("best", done.best_epoch), ("last", len(done.curve))):
        head = load_member(build(problem, done.experiment, 99), getattr(done, which), which)
        state = State([done], [head])
        found = predict(state.ensemble, problem, problem.validation, window)[0]
        if which == "best":
            assert torch.equal(found, done.predictions)
        p = found.numpy().astype(np.float64)
        y = problem.rows.labels[problem.rows.numbers(problem.validation)].numpy()
        cov = ((p - p.mean(0)) * (y - y.mean(0))).mean(0)
        ccc = 2 * cov / (p.var(0) + y.var(0) + (p.mean(0) - y.mean(0)) ** 2)
        assert done.curve[epoch - 1].valence == pytest.approx(ccc[0], abs=1e-6)
        assert done.curve[epoch - 1].arousal == pytest.approx(ccc[1], abs=1e-6)


def test_the_checkpoint_of_another_head_is_refused(problem):
    done = run(problem, settings=dataclasses.replace(SETTINGS, epochs=1))
    with pytest.raises(ConfigError, match=r"here: its weights do not fit.*W\."):
        load_member(build(problem, experiment("jca"), 0), done.best, "here")


def test_a_plateau_lowers_the_rate(problem):
    settings = TrainingSettings(
        epochs=12, batch=8, lr=1.0, clip=9.0, schedule="plateau", every=2, decay=0.5
    )
    rates = [epoch.lr for epoch in run(problem, settings=settings).curve]
    assert rates[0] == 1.0
    assert rates[-1] < 1.0
    assert set(rates) <= {0.5**n for n in range(8)}


def test_labels_outside_the_mask_do_not_matter(problem):
    labelled = problem.rows.labelled.clone()
    labelled[40:90] = False
    labels = problem.rows.labels.clone()
    labels[40:90] = 77.0
    expected = run(changed(problem, labelled=labelled), settings=SHORT)
    assert (
        run(changed(problem, labelled=labelled, labels=labels), settings=SHORT).curve
        == expected.curve
    )
    assert run(problem, settings=SHORT).curve != expected.curve


def test_validation_rows_do_not_reach_the_weights(problem):
    sources = {}
    for name, source in problem.rows.sources.items():
        x = source.x.clone()
        x[problem.rows.numbers(problem.validation)] *= 3
        sources[name] = Resident(x)
    other = problem_of(dataclasses.replace(problem.rows, sources=sources))
    first, second = run(problem, settings=SHORT), run(other, settings=SHORT)
    assert all(torch.equal(x, second.last[name]) for name, x in first.last.items())
    assert not torch.equal(first.predictions, second.predictions)


def with_bad_row(problem, row, value):
    x = problem.rows.sources["visual/x"].x.clone()
    x[row, 0] = value
    sources = {**problem.rows.sources, "visual/x": Resident(x)}
    return changed(problem, sources=sources)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_a_loss_that_is_not_finite_says_where(problem, value):
    done = run(with_bad_row(problem, 127, value))
    assert (
        "head 'concat' over visual/x, audio/x, fold official, seed 0: the loss is nan"
        in done.failure
    )
    assert "in epoch 1, step " in done.failure
    assert (
        "stream 'visual/x' holds a number that is not finite in row 7 of track 'train2'"
        in done.failure
    )
    assert done.curve == []


def test_training_that_diverges_says_so_and_spares_the_others(problem):
    wild = dataclasses.replace(SHORT, optimiser="sgd", lr=1e30, momentum=0.0)
    tame = dataclasses.replace(SHORT, optimiser="sgd", lr=1e-2)
    runs = [Run(experiment(settings=each), 0) for each in (wild, tame)]
    ended = list(train(problem, runs))
    assert ended == runs
    assert "training diverged; lower training.lr" in runs[0].failure
    assert not runs[1].failure
    (alone,) = train(problem, [Run(experiment(settings=tame), 0)])
    assert [e.score for e in runs[1].curve] == pytest.approx(
        [e.score for e in alone.curve], abs=0.02
    )


def test_a_validation_row_that_is_not_finite_says_where(problem):
    done = run(with_bad_row(problem, 361, torch.inf))
    assert "a prediction is not finite after epoch 1: stream 'visual/x'" in done.failure
    assert "row 1 of track 'val0'" in done.failure


def test_scaling_refuses_what_is_not_finite(problem):
    broken = with_bad_row(problem, 127, torch.inf)
    with pytest.raises(DataError, match=r"visual/x.*not finite.*train2"):
        problem_of(broken.rows)


def test_a_part_without_labels_stops(problem):
    empty = changed(problem, labelled=torch.zeros_like(problem.rows.labelled))
    with pytest.raises(TrainingError, match="no labelled row in the training tracks"):
        run(empty)


def test_no_window_at_all_stops(problem):
    window = WindowSettings(length=70, hop=70, tail="drop")
    with pytest.raises(
        TrainingError, match=r"no training track has a window of 70 rows.*tail: pad"
    ):
        run(problem, window=window)
