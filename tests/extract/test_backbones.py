"""Backbones: seeds, checkpoints, and messages for what does not fit."""

from __future__ import annotations

import pytest
import torch
from concord.cache import ConfigError
from concord.extract.backbones import build_backbone, weights_digest
from safetensors.torch import save_file
from torchvision.models import resnet18 as torchvision_resnet18


@pytest.fixture(scope="module")
def whole():
    """torchvision's own network, classifier included, with weights of its own."""
    torch.manual_seed(99)
    return torchvision_resnet18().eval()


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def pooled(network, images):
    """ResNet18 up to its pooled vector, layer by layer."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = layer(x)
    return x.mean(dim=(2, 3))


def test_seeds_decide_the_weights_and_nothing_else():
    first = weights_digest(build_backbone("resnet18", "seeded"))
    before = torch.random.get_rng_state()
    torch.manual_seed(123)
    assert weights_digest(build_backbone("resnet18", "seeded:0")) == first
    torch.random.set_rng_state(before)
    others = {weights_digest(build_backbone("resnet18", f"seeded:{k}")) for k in (1, 2)}
    assert len(others | {first}) == 3
    assert weights_digest(build_backbone("resnet18", "seeded", channels=1)) != first


def test_building_leaves_the_callers_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build_backbone("resnet18", "seeded:5")
    assert torch.equal(torch.rand(3), expected)


def test_frozen_and_in_evaluation_mode(batch):
    network = build_backbone("resnet18")
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.modules())
    assert torch.equal(network(batch)[:1], network(batch)[:1])
    assert network(batch).shape == (2, 512)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("classifier", [True, False])
def test_files_of_tensors(tmp_path, whole, batch, suffix, classifier):
    state = whole.state_dict()
    if not classifier:
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    network = build_backbone("resnet18", str(path))
    assert torch.allclose(network(batch), pooled(whole, batch), atol=1e-5)
    assert weights_digest(network) != weights_digest(build_backbone("resnet18"))


def test_one_digest_whatever_the_file(tmp_path, whole):
    save_file(whole.state_dict(), tmp_path / "a.safetensors")
    torch.save(whole.state_dict(), tmp_path / "b.pt")
    digests = {
        weights_digest(build_backbone("resnet18", str(tmp_path / name)))
        for name in ("a.safetensors", "b.pt")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["conv1.weight", "layer3.1.bn2.running_var", "bn1.bias"])
def test_every_tensor_counts_in_the_digest(name):
    network = build_backbone("resnet18")
    before = weights_digest(network)
    network.state_dict()[name].view(-1)[-1] += 1e-3
    assert weights_digest(network) != before


def test_one_channel_stem(tmp_path):
    network = build_backbone("resnet18", "seeded:3", channels=1)
    assert network.conv1.weight.shape == (64, 1, 7, 7)
    spectrogram = torch.randn(2, 1, 64, 104)
    assert network(spectrogram).shape == (2, 512)
    save_file(network.state_dict(), tmp_path / "one.safetensors")
    again = build_backbone("resnet18", str(tmp_path / "one.safetensors"), channels=1)
    assert torch.equal(again(spectrogram), network(spectrogram))


def test_three_channels_do_not_pass_for_one(tmp_path, whole):
    path = tmp_path / "three.safetensors"
    save_file(whole.state_dict(), path)
    with pytest.raises(ConfigError, match=r"conv1\.weight \(64, 3, 7, 7\) for \(64, 1, 7, 7\)"):
        build_backbone("resnet18", str(path), channels=1)


def test_misfits_are_listed(tmp_path, whole):
    state = dict(whole.state_dict())
    del state["bn1.weight"], state["layer4.1.conv2.weight"]
    state["head.weight"] = torch.zeros(2, 512)
    state["layer1.0.bn1.bias"] = torch.zeros(7)
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(ConfigError, match="do not fit") as error:
        build_backbone("resnet18", str(tmp_path / "bad.safetensors"))
    text = str(error.value)
    assert "missing bn1.weight, layer4.1.conv2.weight;" in text
    assert "unexpected head.weight;" in text
    assert "of another shape layer1.0.bn1.bias (7,) for (64,)" in text


def test_a_training_checkpoint_is_unwrapped(tmp_path, whole):
    state = {f"module.{name}": value for name, value in whole.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "trained.pt")
    found = build_backbone("resnet18", str(tmp_path / "trained.pt"))
    torch.testing.assert_close(found.state_dict()["conv1.weight"], state["module.conv1.weight"])


def test_long_lists_are_cut(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"and \d+ more; unexpected a; of another shape none"):
        build_backbone("resnet18", str(tmp_path / "other.pt"))


@pytest.mark.parametrize("name", ["damaged.pt", "damaged.safetensors"])
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no tensors here")
    with pytest.raises(ConfigError, match=rf"{name}': not a file of tensors"):
        build_backbone("resnet18", str(tmp_path / name))


@pytest.mark.parametrize(
    "weights", ["IMAGENET", "seeded:", "seeded:x", "seeded:-1", "", "IMAGENET1K_V9"]
)
def test_unknown_weights(weights):
    with pytest.raises(
        ConfigError, match=r"expected seeded\[:N\], a file \(.*\), or a torchvision"
    ):
        build_backbone("resnet18", weights)


def test_unknown_backbone_and_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="unknown backbone 'vgg'; known: resnet18"):
        build_backbone("vgg")
    with pytest.raises(ConfigError, match=r"gone\.pt' does not exist"):
        build_backbone("resnet18", str(tmp_path / "gone.pt"))


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a checkpoint ran')",))


def test_a_checkpoint_cannot_run_code(tmp_path):
    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(Exception, match="Weights only load failed") as error:
        build_backbone("resnet18", str(tmp_path / "trap.pt"))
    assert not isinstance(error.value, SystemExit)
