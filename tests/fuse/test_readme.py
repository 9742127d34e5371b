"""What stage two's README shows works as it is written there."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from concord.fuse import build_head, train
from concord.fuse.catalogue import HEADS
from concord.fuse.reference_jca import JcaTbiom
from concord.fuse.run import Run
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings
from concord.pipelines.config import parse_config

from .conftest import STREAMS, planted, write_store

README = Path(__file__).parents[2] / "fuse" / "README.md"


def code(marker):
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", README.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if marker in block]
    return found


def test_a_formula(capsys):
    exec(code("import jca"), {})
    assert capsys.readouterr().out == "torch.Size([16, 256]) torch.Size([512, 768])\n"


def test_a_checkpoint_of_the_field(capsys):
    names = {}
    exec(code("from_reference"), names)
    state = JcaTbiom().state_dict()
    valence, arousal = names["predict"](state, torch.randn(2, 16, 512), torch.randn(2, 16, 512))
    assert valence.shape == arousal.shape == (2, 16)
    assert capsys.readouterr().out == "never used by the program: ()\n"


def test_a_head_of_ones_own(tmp_path, monkeypatch, problem):
    (tmp_path / "product.py").write_text(code("class Product"))
    monkeypatch.syspath_prepend(tmp_path)
    (experiment,) = yaml.safe_load(code("product:Product"))["fuse"]["experiments"]
    experiment["streams"] = STREAMS
    settings = ExperimentSettings(
        **experiment,
        hidden=8,
        window=WindowSettings(length=16),
        training=TrainingSettings(epochs=3, batch=8),
    )
    runs = list(train(problem, [Run(settings, seed) for seed in (0, 1)]))
    for run in runs:
        assert run.curve[-1].train_loss < run.curve[0].train_loss


def test_a_grid_in_python(tmp_path, monkeypatch, capsys):
    write_store(tmp_path / "store", [planted(seed=1), planted(tracks=3, seed=2, split="val")])
    monkeypatch.chdir(tmp_path)
    text = code("Grid(").replace("results/demo/store", "store").replace('"demo"', '"made"')
    exec(text.replace("/resnet18", "/x").replace("jca = Exp", "jca = Exp"), {})
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0.3


def test_the_configuration_is_one():
    text = code("head: [concat, jca, rjcma]")
    streams = {"visual/i3d": {"weights": "seeded"}, "audio/resnet18": {"weights": "seeded"}}
    config = parse_config({**yaml.safe_load(text), "streams": streams})
    assert len(config.fuse.experiments) == 18
    assert len({experiment.fold for experiment in config.fuse.experiments}) == 6


# The table's formulas for two modalities of width 5 and 7 (jmt: 6), L 4, k 3, d 2, 3 recursions.
COUNTS = {
    "concat": 0,
    "cross_attention": 5 * 7,
    "leader_follower": 3 * 2 * (5 + 1) + 3 * 2 * (7 + 1) + 2 * 2 * 2,
    "jca": 2 * (4**2 + 2 * 3 * 4 + 3 * 12),
    "rjcma": 3 * (12**2 + 12 + 2 * 4**2 + 5**2 + 7**2 + 12 * 5 + 12 * 7),
    "jmt": 38 * 6**2 + 28 * 6,
    "jca_any": 5 * 12 + 7 * 12 + 2 * 3 * (5 + 7) + 2 * 12 * 3,
}


@pytest.mark.parametrize("name", [name for name, info in HEADS.items() if info.variant == "paper"])
def test_numbers_of_parameters(name):
    dims = {"audio/x": 6, "visual/x": 6} if name == "jmt" else {"audio/x": 5, "visual/x": 7}
    head = build_head(dims, 4, ExperimentSettings(head=name, streams=tuple(dims), k=3, d=2))
    whole = sum(p.numel() for p in head.parameters())
    assert whole - sum(p.numel() for p in head.readout.parameters()) == COUNTS[name]
