"""Backbones: seeds, checkpoints, and messages for what does not fit."""

from __future__ import annotations

import pytest
import torch
from concord.cache import ConfigError
from concord.extract.backbones import backbone_names, build_backbone, weights_digest
from concord.extract.presets import PRESETS
from safetensors.torch import save_file
from torch import nn
from torchvision.models import ResNet18_Weights
from torchvision.models import resnet18 as torchvision_resnet18
from torchvision.models.video import R3D_18_Weights, r3d_18

SEEDED = {
    ("seeded", 3): "46957ba1cb712365ca3e59c504755aa8b1b8c20f779af03a83d9377550e5592b",
    ("seeded", 1): "dd5cf0ab65707f5348aa86e36a2d9acfbb7d20f5ff94d965e53a88e612579682",
    ("seeded:7", 3): "64fad149ed67a1602628c242a7f923278ac63280a51d9d8fb084fced992ffec2",
    ("seeded:7", 1): "4eef8bf0fd04c4aa793f4aca1e7f51565c7661461a190d274d1c70d2001d9e2c",
}
"""Digests of tensors that stores and calibrated numbers depend on: they must never change."""


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


@pytest.mark.parametrize(("weights", "channels"), SEEDED)
def test_seeded_networks_stay_what_they_are(weights, channels):
    network = build_backbone("resnet18", weights, channels=channels)
    assert weights_digest(network) == SEEDED[weights, channels]


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
    with pytest.raises(ConfigError, match="unknown backbone 'vgg'; known: i3d, r3d18, resnet18"):
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


@pytest.mark.parametrize(
    ("name", "options", "shape", "facts"),
    [
        ("resnet18", {}, (2, 3, 64, 64), (512, PRESETS["imagenet"], "pictures", 1, 1)),
        ("resnet18", {"channels": 1}, (2, 1, 64, 104), (512, None, "spectrograms", 1, 1)),
        ("r3d18", {}, (2, 3, 9, 32, 32), (512, PRESETS["kinetics112"], "clips", 16, 2)),
        ("i3d", {}, (1, 3, 9, 193, 193), (1024, PRESETS["i3d"], "clips", 16, 2)),
    ],
)
@torch.inference_mode()
def test_what_every_backbone_has(name, options, shape, facts):
    network = build_backbone(name, "seeded:1", **options)
    dim, preset, takes, clip, cells = facts
    assert (network.dim, network.takes, network.clip) == (dim, takes, clip)
    assert preset in (None, network.preset)
    x = torch.rand(shape)
    features = network(x)
    assert features.shape == (shape[0], dim)
    found = network.cells(x)
    assert found.shape == (shape[0], cells, dim)
    torch.testing.assert_close(found.mean(dim=1), features, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_resnet18_is_torchvisions(tmp_path, whole):
    images = torch.randint(0, 256, (2, 3, 240, 320), dtype=torch.uint8)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    network = build_backbone("resnet18", str(tmp_path / "w.safetensors"))
    found = network(network.preset.normalise(network.preset.prepare(images)))
    expected = whole(ResNet18_Weights.IMAGENET1K_V1.transforms()(images))
    torch.testing.assert_close(whole.fc(found), expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_r3d18_is_torchvisions(tmp_path):
    torch.manual_seed(4)
    clips = r3d_18().eval()
    for name, value in clips.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    torch.save({"state_dict": clips.state_dict()}, tmp_path / "r3d.pth")
    network = build_backbone("r3d18", str(tmp_path / "r3d.pth"))
    frames = torch.randint(0, 256, (8, 3, 120, 160), dtype=torch.uint8)
    prepared = network.preset.prepare(frames).transpose(0, 1)[None]
    found = network(network.preset.normalise(prepared))
    expected = clips(R3D_18_Weights.KINETICS400_V1.transforms()(frames)[None])
    torch.testing.assert_close(clips.fc(found), expected, rtol=1e-5, atol=1e-5)
    folded = network.folded()
    assert not any(isinstance(module, nn.BatchNorm3d) for module in folded.modules())
    x = torch.rand(1, 3, 8, 32, 32)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stem", ["sum", "mean"])
@torch.inference_mode()
def test_stems_of_three_channels_become_one(tmp_path, whole, stem):
    path = tmp_path / "three.safetensors"
    save_file(whole.state_dict(), path)
    three = build_backbone("resnet18", str(path))
    one = build_backbone("resnet18", str(path), channels=1, stem=stem)
    spectrogram = torch.randn(2, 1, 64, 104, generator=torch.Generator().manual_seed(2))
    repeated = three(spectrogram.expand(-1, 3, -1, -1))
    distance = (one(spectrogram) - repeated).norm() / repeated.norm()
    assert distance < 2e-6 if stem == "sum" else distance > 0.05
    assert one.takes == "spectrograms"
    if stem == "mean":
        expected = three.state_dict()["conv1.weight"].mean(dim=1, keepdim=True)
        assert torch.equal(one.state_dict()["conv1.weight"], expected)


def test_options_are_checked(tmp_path, whole):
    for options, message in (
        ({"channels": 2}, "channels is 2; expected 3 or 1"),
        ({"channels": 1, "stem": "max"}, "stem is 'max'; expected one of load, sum, mean"),
        ({"stem": "sum"}, "stem 'sum' reduces to one channel; set channels to 1"),
        ({"variant": "tf_exact"}, "backbone 'resnet18': .*'variant'; it takes"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_backbone("resnet18", **options)
    one = build_backbone("resnet18", channels=1)
    save_file(one.state_dict(), tmp_path / "one.safetensors")
    with pytest.raises(ConfigError, match=r"conv1\.weight \(64, 1, 7, 7\) for \(64, 3, 7, 7\)"):
        build_backbone("resnet18", str(tmp_path / "one.safetensors"), channels=1, stem="sum")


class Thumbnail(nn.Module):
    """A user's backbone: mean colours."""

    dim = 3
    preset = PRESETS["imagenet"]
    takes = "pictures"
    clip = 1

    def __init__(self, weights, gain=1.0):
        super().__init__()
        self.weights = weights
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return self.gain * x.mean(dim=(2, 3))

    def cells(self, x):
        return self(x).unsqueeze(1)


class Vague(nn.Module):
    """A network without anything that stage one reads."""

    takes = "films"

    def __init__(self, weights):
        super().__init__()
        self.weights = weights


def no_network(weights):
    return [weights]


@pytest.fixture
def module(monkeypatch):
    """A module of that name that can be imported."""
    import sys
    from types import ModuleType

    found = ModuleType("my_networks")
    found.Thumbnail, found.Vague, found.NUMBER, found.LIST = Thumbnail, Vague, 3, no_network
    monkeypatch.setitem(sys.modules, "my_networks", found)


def test_a_class_of_ones_own(module):
    network = build_backbone("my_networks:Thumbnail", "seeded:3", gain=2.0)
    assert network.weights == "seeded:3"
    assert not network.training
    assert not network.gain.requires_grad
    assert torch.equal(network(torch.ones(1, 3, 2, 2)), torch.full((1, 3), 2.0))


def test_an_entry_point(module, monkeypatch):
    from importlib import metadata

    points = [
        metadata.EntryPoint("thumbnail", "my_networks:Thumbnail", "concord.backbones"),
        metadata.EntryPoint("resnet18", "my_networks:Vague", "concord.backbones"),
    ]

    def entry_points(group):
        return points if group == "concord.backbones" else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    assert backbone_names() == ["i3d", "r3d18", "resnet18", "thumbnail"]
    assert isinstance(build_backbone("thumbnail"), Thumbnail)
    assert build_backbone("resnet18").dim == 512
    with pytest.raises(ConfigError, match="known: i3d, r3d18, resnet18, thumbnail, or module:C"):
        build_backbone("thumbnails")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("my_networks:Gone", {}, "my_networks:Gone cannot be imported"),
        ("no_such_module:Class", {}, "No module named 'no_such_module'"),
        (":Class", {}, "cannot be imported"),
        ("my_networks:NUMBER", {}, "is not a class but 3"),
        ("my_networks:LIST", {}, "expected a torch module, found <class 'list'>"),
        ("my_networks:Thumbnail", {"size": 2}, "'size'; it takes"),
        (
            "my_networks:Vague",
            {},
            r"dim is None, .*; preset is None, .*; takes is 'films', .*; clip is None, .*; cells ",
        ),
    ],
)
def test_classes_that_do_not_serve(module, name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_backbone(name, **options)
