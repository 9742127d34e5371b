"""Training: learns what is planted, repeats itself, stops, and refuses what cannot be learnt."""

import copy
import dataclasses

import pytest
import torch
from concord.cache import TrainingError
from concord.fuse import train
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings

WINDOW = WindowSettings(length=16, hop=8)
SETTINGS = TrainingSettings(epochs=25, patience=25, batch=8, lr=5e-3)
STREAMS = ("visual/x", "audio/x")


def run(training, validation, head="concat", streams=STREAMS, seed=0, settings=SETTINGS):
    experiment = ExperimentSettings(
        head=head, streams=streams, width=8, hidden=16, dropout=0.1, k=4
    )
    chosen = training.of_streams(streams), validation.of_streams(streams)
    return train(*chosen, experiment, WINDOW, settings, seed)


@pytest.mark.parametrize("head", ["concat", "jca"])
def test_learns_both_targets_from_both_streams(training, validation, head):
    best = run(training, validation, head).best
    assert best.valence > 0.7
    assert best.arousal > 0.7
    assert best.rows == 180


def test_one_stream_tells_one_target(training, validation):
    best = run(training, validation, streams=("visual/x",)).best
    assert best.valence > 0.7
    assert best.arousal < 0.4


@pytest.mark.parametrize("head", ["concat", "jca"])
def test_the_same_seed_gives_the_same_numbers(training, validation, head):
    short = dataclasses.replace(SETTINGS, epochs=3)
    first, again, other = (
        run(training, validation, head, seed=s, settings=short) for s in (1, 1, 2)
    )
    assert first.curve == again.curve
    assert all(torch.equal(first.state[n], again.state[n]) for n in first.state)
    assert first.curve != other.curve


def test_nothing_else_in_the_process_matters(training, validation):
    short = dataclasses.replace(SETTINGS, epochs=2)
    first = run(training, validation, settings=short)
    torch.rand(5)
    before = torch.get_rng_state()
    assert run(training, validation, settings=short).curve == first.curve
    assert torch.equal(torch.get_rng_state(), before)


def test_keeps_the_best_epoch_and_stops(training, validation):
    settings = dataclasses.replace(SETTINGS, epochs=40, patience=3)
    done = run(training, validation, settings=settings)
    scores = [epoch.score for epoch in done.curve]
    assert done.best_epoch == scores.index(max(scores)) + 1
    assert done.best.mean == max(scores)
    assert len(scores) == min(40, done.best_epoch + 3)


def test_labels_outside_the_mask_do_not_matter(training, validation):
    short = dataclasses.replace(SETTINGS, epochs=2)
    masked = copy.copy(training)
    masked.labelled = training.labelled.clone()
    masked.labelled[40:90] = False
    garbled = copy.copy(masked)
    garbled.labels = masked.labels.clone()
    garbled.labels[40:90] = 77.0
    expected = run(masked, validation, settings=short)
    assert run(garbled, validation, settings=short).curve == expected.curve
    assert run(training, validation, settings=short).curve != expected.curve


def test_a_loss_that_is_not_finite_stops(training, validation):
    broken = copy.copy(training)
    broken.features = {n: x.clone() for n, x in training.features.items()}
    broken.features["visual/x"][7, 0] = torch.inf
    with pytest.raises(TrainingError, match=r"head 'concat', seed 0: the loss is nan in epoch 1"):
        run(broken, validation)


def test_a_split_without_labels_stops(training, validation):
    empty = copy.copy(training)
    empty.labelled = torch.zeros_like(training.labelled)
    with pytest.raises(TrainingError, match="no labelled row"):
        run(empty, validation)
