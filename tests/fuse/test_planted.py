"""Planted truth: every head finds what only its streams together tell; a stream alone does not.

Shown with -sv: mean and spread over the seeds, and the interval of the mean over the families.
"""

import dataclasses
import functools

import numpy as np
import pytest
from concord.fuse.bootstrap import intervals
from concord.fuse.catalogue import HEADS
from concord.fuse.evaluate import track_rows
from concord.fuse.protocols import TARGETS, scored
from concord.fuse.run import Run
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings
from concord.fuse.training import train

from .planted import STREAMS, one_sided, product

PAPER = [name for name, info in HEADS.items() if info.variant == "paper"]
ROWS = 256
"""Per step, whatever the windows' length."""
HELD = 8
"""Rows over which a latent stays, in windows as long."""


def learnt(problem, head, streams=STREAMS, length=32, hidden=64, seeds=5, epochs=15, lr=5e-3):
    """Train with one set of settings for all heads; gives the means of both targets (2,)."""
    experiment = ExperimentSettings(
        head=head,
        streams=streams,
        width=16,
        hidden=hidden,
        dropout=0.0,
        k=16,
        d=16,
        window=WindowSettings(length=length, hop=length, hop_scoring=length, tail="pad"),
        training=TrainingSettings(
            epochs=epochs, patience=epochs, batch=ROWS // length, lr=lr, weight_decay=0.0
        ),
    )
    problem = dataclasses.replace(problem, streams=streams)
    runs = list(train(problem, [Run(experiment, seed) for seed in range(seeds)]))
    assert [run.failure for run in runs] == [""] * seeds
    results = [scored("official", "none", track_rows(problem, run.predictions)) for run in runs]
    values = np.array([[result.valence, result.arousal] for result in results])
    limits = intervals(results, 2000)
    print(f"\n{head} over {', '.join(streams)}:", end=" ")
    for target, column in zip(TARGETS, values.T, strict=True):
        low, high = limits[target]
        print(f"{target} {column.mean():.3f} ± {column.std(ddof=1):.3f}", end=" ")
        print(f"[{low:.3f}, {high:.3f}]", end="  ")
    return values.mean(axis=0)


def bar(head, others, of_jmt):
    """JMT's cross-attentions know a row by its query alone: no residual, no place in time."""
    return of_jmt if head == "jmt" else others


@functools.cache
def of_rows():
    return product()


@functools.cache
def of_windows():
    return product(hold=HELD)


@functools.cache
def sufficient(stream):
    """The problem, and what the stream reaches alone."""
    problem = one_sided(stream)
    return problem, learnt(problem, "concat", (stream,))


@pytest.mark.slow
@pytest.mark.parametrize("head", PAPER)
def test_every_head_finds_a_product_of_two_streams(head):
    assert learnt(of_rows(), head).min() >= bar(head, 0.8, 0.6)


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_alone_knows_no_product(stream):
    assert learnt(of_rows(), "concat", (stream,)).max() <= 0.2


@pytest.mark.slow
@pytest.mark.parametrize("head", ["jca", "rjcma"])
def test_joint_attention_multiplies_where_all_else_is_linear(head):
    assert learnt(of_windows(), head, length=HELD, hidden=0).min() >= 0.8


@pytest.mark.slow
def test_a_sum_over_both_streams_knows_no_product():
    assert learnt(of_windows(), "concat", length=HELD, hidden=0).max() <= 0.2


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("head", PAPER)
def test_noise_beside_a_sufficient_stream_does_no_harm(head, stream):
    problem, alone = sufficient(stream)
    assert alone.min() >= 0.8
    assert (alone - learnt(problem, head)).max() <= bar(head, 0.03, 0.1)


def test_attention_multiplies_in_seconds():
    problem = product(training=32, validation=16, rows=64, hold=HELD)
    quick = {"length": HELD, "hidden": 0, "seeds": 2, "lr": 1e-2}
    assert learnt(problem, "jca", **quick).min() >= 0.8
    assert learnt(problem, "concat", **quick).max() <= 0.2
