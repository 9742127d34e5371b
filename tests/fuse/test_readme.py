"""What stage two's README shows works as it is written there."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from concord.fuse import build_head, train
from concord.fuse.catalogue import HEADS
from concord.fuse.reference_jca import JcaTbiom
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings

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


def test_a_head_of_ones_own(tmp_path, monkeypatch, training, validation):
    (tmp_path / "product.py").write_text(code("class Product"))
    monkeypatch.syspath_prepend(tmp_path)
    (experiment,) = yaml.safe_load(code("product:Product"))["fuse"]["experiments"]
    experiment["streams"] = ("audio/x", "visual/x")
    settings = ExperimentSettings(**experiment, hidden=8)
    chosen = [rows.of_streams(settings.streams) for rows in (training, validation)]
    window = WindowSettings(length=16)
    run = train(*chosen, settings, window, TrainingSettings(epochs=3, batch=8), seed=0)
    assert run.curve[-1].train_loss < run.curve[0].train_loss


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
