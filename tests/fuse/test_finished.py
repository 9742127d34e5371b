"""The folder of a finished run: whole, or not there; read back as it was written."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from concord.cache import ConfigError
from concord.fuse.ensemble import Ensemble, load_member
from concord.fuse.evaluate import predict
from concord.fuse.finished import BEST, LAST, Finished, experiment_of, publish
from concord.fuse.run import Run
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings
from concord.fuse.training import build, train

from .conftest import STREAMS

SETTINGS = ExperimentSettings(
    head="concat",
    streams=STREAMS,
    width=8,
    hidden=16,
    encoder="tcn",
    levels=2,
    kernel=3,
    window=WindowSettings(length=16, hop=8),
    training=TrainingSettings(epochs=4, batch=8, lr=5e-2, tensorboard=True),
)


@pytest.fixture(scope="module")
def done(problem):
    (run,) = train(problem, [Run(SETTINGS, 3, together=(3,))])
    return run


@pytest.fixture(scope="module")
def folder(done, problem, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "abc"
    identity = {"experiment": dataclasses.asdict(SETTINGS), "seed": 3}
    publish(path, done, problem.scaling, identity)
    return path


def test_is_read_back(folder, done):
    found = Finished.read(folder)
    assert torch.equal(found.predictions, done.predictions)
    assert found.experiment() == SETTINGS
    assert found.identity()["seed"] == 3
    assert found.record["together"] == [3]
    assert found.record["curve"]["valence"] == [epoch.valence for epoch in done.curve]
    assert found.record["score"] == max(found.record["curve"]["score"])
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [dataclasses.asdict(e) for e in done.curve]


@pytest.mark.parametrize(("which", "name"), [("best", BEST), ("last", LAST)])
def test_weights_predict_what_they_predicted(folder, done, problem, which, name):
    """Convolutions with weight norm, which hold tensors under two names, among them."""
    state, scaling = Finished.read(folder).weights(name)
    assert all(torch.equal(x, state[each]) for each, x in getattr(done, which).items())
    again = dataclasses.replace(problem, scaling=scaling)
    head = load_member(build(again, SETTINGS, 99), state, name)
    found = predict(Ensemble([head]), again, again.validation, SETTINGS.window.resolved())
    if which == "best":
        assert torch.equal(found[0], done.predictions)
    assert done.best_epoch != len(done.curve) or torch.equal(found[0], done.predictions)


def test_events_are_those_of_the_curve(folder, done):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    assert "train_loss" in events.Tags()["scalars"]
    scalars = events.Scalars("valence")
    assert [scalar.step for scalar in scalars] == [epoch.epoch for epoch in done.curve]
    np.testing.assert_allclose(
        [scalar.value for scalar in scalars], [e.valence for e in done.curve], rtol=1e-6
    )


def test_a_folder_that_is_there_wins(folder, done, problem):
    before = (folder / "run.json").stat().st_mtime_ns
    other = dataclasses.replace(SETTINGS, training=TrainingSettings())
    changed = Run(other, 3, best=done.best, last=done.last, predictions=done.predictions)
    changed.curve, changed.best_epoch = done.curve, done.best_epoch
    publish(folder, changed, problem.scaling, {})
    assert (folder / "run.json").stat().st_mtime_ns == before
    assert [path.name for path in folder.parent.iterdir()] == ["abc"]


def test_another_folder_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="expected the folder of a finished run, found none"):
        Finished.read(tmp_path)


def test_settings_survive_json():
    told = json.loads(json.dumps(dataclasses.asdict(SETTINGS)))
    assert experiment_of(told) == SETTINGS
