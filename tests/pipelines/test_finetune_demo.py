"""What fine-tuning is for: on the demo, features of tuned backbones tell more than frozen ones."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from concord.extract.affwild2 import scan
from concord.extract.finetune import finetune
from concord.extract.finetune_inputs import Inputs
from concord.extract.finetune_problem import Problem
from concord.extract.finetune_settings import FinetuneSettings
from concord.extract.loading import Loader
from concord.extract.sampling import passes, spaced
from concord.extract.settings import AudioSettings, VisualSettings
from concord.pipelines.demo import make_demo

SECONDS = 4 * 60 * 2
"""Processor time: four minutes on two cores."""
GAIN = 0.15
RIDGE = 100.0
STREAMS = {
    "visual/resnet18": VisualSettings(reads="faces", resize=56, crop=56),
    "audio/resnet18": AudioSettings(),
}
SETTINGS = {
    "visual/resnet18": FinetuneSettings(epochs=10, batch=32, patience=10, validation_rows=300),
    "audio/resnet18": FinetuneSettings(epochs=6, batch=32, patience=6, validation_rows=200),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return scan(folder)


def features(data, stream, own):
    """Frozen features and labels of all labelled rows: of the training split, of validation."""
    problem = Problem.of(
        data, stream, own, FinetuneSettings(shift=0), Path(data.root) / "x.safetensors"
    )
    inputs, network = Inputs(problem, torch.device("cpu")), problem.network.eval()
    loader = Loader(problem.samples(margin=0), 1)
    for tracks in (problem.training, problem.validation):
        plan = passes(spaced(tracks, 0), 64)
        with torch.inference_mode():
            batches = [batch for batch in loader.batches(tracks, plan) if batch is not None]
            x = [network(inputs(batch)).numpy() for batch in batches]
        yield np.concatenate(x).astype(np.float64)
        yield np.concatenate([batch.labels.numpy() for batch in batches]).astype(np.float64)
    loader.close()


def read_out(x, y, x_val, y_val):
    """Validation CCC, mean of valence and arousal, of a ridge on standardised features."""
    mean, std = x.mean(0), x.std(0) + 1e-8
    x, x_val = (x - mean) / std, (x_val - mean) / std
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (y - y.mean(0)))
    scores = []
    for p, t in zip((x_val @ weights + y.mean(0)).T, y_val.T, strict=True):
        covariance = np.mean((p - p.mean()) * (t - t.mean()))
        scores.append(2 * covariance / (p.var() + t.var() + (p.mean() - t.mean()) ** 2))
    return float(np.mean(scores))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stream", list(STREAMS))
def test_tuned_features_tell_more_than_frozen_ones(data, tmp_path, stream, seed, record_property):
    own = replace(STREAMS[stream], weights=f"seeded:{seed}")
    frozen = read_out(*features(data, stream, own))
    out = tmp_path / "tuned.safetensors"
    begun = time.process_time()
    finetune(data, stream, own, replace(SETTINGS[stream], seed=seed), out)
    spent = time.process_time() - begun
    tuned = read_out(*features(data, stream, replace(own, weights=str(out))))
    print(f"{stream} seed {seed}: frozen {frozen:.3f}, tuned {tuned:.3f}, {spent:.0f} s")
    assert tuned >= frozen + GAIN
    assert spent <= SECONDS
