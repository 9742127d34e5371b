"""Stages of the backbones: each parameter in one, with its rate; and clip networks that learn."""

from __future__ import annotations

import json

import pytest
import torch
from concord.cache import ConfigError
from concord.extract.affwild2 import scan
from concord.extract.backbones import build_backbone
from concord.extract.finetune import finetune
from concord.extract.finetune_settings import FinetuneSettings
from concord.extract.settings import VisualSettings, WindowSettings
from concord.extract.stages import freeze, rates, stages_of


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [("resnet18", {}, 60), ("resnet18", {"channels": 1}, 60), ("r3d18", {}, 60), ("i3d", {}, 171)],
)
def test_every_parameter_has_one_stage_and_its_rate(name, options, count):
    network = build_backbone(name, **options)
    stages = stages_of(network)
    listed = [name for names in stages.values() for name in names]
    assert len(stages) == 5
    assert len(listed) == len(set(listed)) == count
    freeze(network, 2, statistics=False)
    found = rates(network, 0.1, 0.5)
    assert [rate for rate, _ in found] == pytest.approx([0.1, 0.05, 0.025])
    learning = {id(parameter) for _, group in found for parameter in group}
    expected = {id(p) for n, p in network.named_parameters() if n in listed and p.requires_grad}
    assert learning == expected
    last = dict(network.named_parameters())[list(stages.values())[-1][0]]
    assert id(last) in {id(parameter) for parameter in found[0][1]}
    assert not any(m.training for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    with pytest.raises(ConfigError, match="at most 5 stages"):
        freeze(network, 6, statistics=False)


CLIPS = {
    "i3d": (
        VisualSettings(weights="seeded", window=WindowSettings(length=10)),
        {"epochs": 5, "freeze": 3, "batch": 3, "accumulate": 2, "lr": 1e-3},
    ),
    "r3d18": (
        VisualSettings(weights="seeded", resize=48, crop=32, window=WindowSettings(length=8)),
        {"epochs": 10, "batch": 6, "accumulate": 1, "lr": 1e-4},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CLIPS))
def test_clip_networks_lower_their_loss(tmp_path, media, name):
    own, more = CLIPS[name]
    for split, track in (("Train_Set", "1"), ("Validation_Set", "2")):
        media.write(tmp_path / "batch1" / f"{track}.mp4", [media.picture(k) for k in range(6)])
        media.labels(tmp_path / "VA_Set" / split / f"{track}.txt", 6)
    out = tmp_path / "x.safetensors"
    settings = FinetuneSettings(
        head_lr=1e-2, warmup=0, schedule="constant",
        patience=99, flip=0, jitter=0, shift=0, validation_rows=1, **more,
    )  # fmt: skip
    finetune(scan(tmp_path), f"visual/{name}", own, settings, out)
    losses = [json.loads(line)["loss"] for line in out.with_suffix(".jsonl").open()]
    assert losses[-1] < losses[0] - 0.1, losses
