"""Weights: names of I3D checkpoints, refusals, and digests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from concord.cache import ConfigError
from concord.extract.backbones import build_backbone
from concord.extract.weights import piergiaj_names, weights_digest
from safetensors.torch import save_file

_spec = importlib.util.spec_from_file_location(
    "reference_i3d", Path(__file__).with_name("reference_i3d.py")
)
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)


def without_counters(state):
    return {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}


def parallel(state):
    return {f"module.{name}": value for name, value in state.items()}


NAMINGS = {
    "piergiaj": dict,
    "hassony2": reference.hassony_names,
    "parallel": parallel,
    "hassony2 parallel": lambda state: parallel(reference.hassony_names(state)),
    "no counters": without_counters,
    "hassony2, no counters": lambda s: without_counters(reference.hassony_names(s)),
    "tensorflow": lambda s: reference.tensorflow_names(without_counters(s)),
}


@pytest.fixture(scope="module")
def state():
    found = reference.random_state(2, classes=157)
    # TensorFlow's graph scales by 1.
    return {n: torch.ones_like(v) if n.endswith("bn.weight") else v for n, v in found.items()}


@pytest.fixture(scope="module")
def clip():
    return torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(8))


def build(tmp_path, state, suffix=".safetensors"):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    return build_backbone("i3d", str(path))


@pytest.mark.parametrize("naming", NAMINGS)
@torch.inference_mode()
def test_namings_of_i3d(tmp_path, state, clip, naming):
    network = build(tmp_path, NAMINGS[naming](state))
    expected = reference.maps(state, clip).mean(dim=(3, 4)).transpose(1, 2)
    torch.testing.assert_close(network.cells(clip), expected, rtol=1e-4, atol=1e-5)
    for name, value in without_counters(state).items():
        assert torch.equal(network.state_dict()[name], value), name
    assert weights_digest(network) == weights_digest(build(tmp_path, dict(state)))


def test_names_are_one_to_one(state):
    assert set(reference.hassony_names(state)).isdisjoint(set(state))
    for rename in (dict, reference.hassony_names):
        assert list(piergiaj_names(rename(state))) == list(state)
    assert any("Conv3d_0a_3x3" in name for name in reference.tensorflow_names(state))


@pytest.mark.parametrize("classes", [None, 2, 157, 400])
def test_any_number_of_classes(tmp_path, state, classes):
    given = {name: value for name, value in state.items() if not name.startswith("logits")}
    if classes:
        given["logits.conv3d.weight"] = torch.rand(classes, 1024, 1, 1, 1)
        given["logits.conv3d.bias"] = torch.rand(classes)
    network = build(tmp_path, given, ".pt")
    assert len(network.state_dict()["logits.conv3d.bias"]) == (classes or 400)
    if not classes:
        assert not network.state_dict()["logits.conv3d.weight"].any()
    assert weights_digest(network) == weights_digest(build(tmp_path, state, ".pt"))


def test_misfits_of_i3d_are_listed(tmp_path, state):
    bad = reference.hassony_names(state)
    del bad["mixed_4c.branch_1.1.batch3d.running_var"], bad["conv3d_2b_1x1.conv3d.weight"]
    bad["mixed_9a.weight"] = torch.zeros(1)
    bad["mixed_3b.branch_0.batch3d.bias"] = torch.zeros(3)
    with pytest.raises(ConfigError, match="do not fit") as error:
        build(tmp_path, bad)
    text = str(error.value)
    assert "missing Conv3d_2b_1x1.conv3d.weight, Mixed_4c.b1b.bn.running_var;" in text
    assert "unexpected Mixed_9a.weight;" in text
    assert "of another shape Mixed_3b.b0.bn.bias (3,) for (64,)" in text


def test_what_is_no_tensor_is_named(tmp_path, state):
    path = tmp_path / "run.pt"
    torch.save({"epoch": 3, **state}, path)
    with pytest.raises(ConfigError, match="expected a tensor under 'epoch', found int"):
        build_backbone("i3d", str(path))
    torch.save([1, 2], path)
    with pytest.raises(ConfigError, match="expected a dictionary of tensors, found list"):
        build_backbone("i3d", str(path))
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"run\.pt': not a file of tensors: "):
        build_backbone("i3d", str(path))


def test_i3d_has_no_name_in_torchvision():
    with pytest.raises(
        ConfigError, match=r"weights 'KINETICS400_V1' of i3d: expected seeded.*infl"
    ):
        build_backbone("i3d", "KINETICS400_V1")


@pytest.mark.parametrize("name", ["Conv3d_1a_7x7.bn.running_mean", "Mixed_5c.b3b.conv3d.weight"])
def test_the_digest_is_of_what_features_depend_on(name):
    network = build_backbone("i3d", "seeded")
    before = weights_digest(network)
    network.state_dict()["logits.conv3d.bias"].add_(1)
    network.state_dict()["Mixed_3b.b0.bn.num_batches_tracked"].add_(1)
    assert weights_digest(network) == before
    network.state_dict()[name].view(-1)[-1] += 1e-3
    assert weights_digest(network) != before


def test_types_that_numpy_lacks_have_a_digest():
    network = build_backbone("resnet18")
    assert weights_digest(network) != weights_digest(network.bfloat16())


def test_a_head_is_left_out_only_where_a_network_says_so():
    network = torch.nn.ModuleDict({"fc": torch.nn.Linear(2, 2)})
    before = weights_digest(network)
    network.state_dict()["fc.bias"].add_(1)
    assert weights_digest(network) != before
