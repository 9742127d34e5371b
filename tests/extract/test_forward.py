"""Forward: folded, laid out and batched, a network gives what it gave before."""

from __future__ import annotations

import pytest
import torch
from concord.cache import ConfigError
from concord.extract import forward
from concord.extract.backbones import build_backbone
from concord.extract.forward import BATCHES, Forward
from concord.extract.presets import PRESETS
from torch import nn

CPU = torch.device("cpu")
CUDA = pytest.param(
    torch.device("cuda"),
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ],
)
SHAPES = {"resnet18": (3, 64, 64), "r3d18": (3, 8, 32, 32), "i3d": (3, 9, 193, 193)}


def inputs(name, count, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *SHAPES[name]), dtype=torch.uint8, generator=g)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module", params=["resnet18", "r3d18"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def networks():
    """Networks with statistics of their own, so that folding has something to fold."""
    built = {}
    for name in SHAPES:
        built[name] = build_backbone(name, "seeded:5")
        g = torch.Generator().manual_seed(1)
        for key, value in built[name].state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=g)
            elif key.endswith("running_mean"):
                value.normal_(0, 0.1, generator=g)
    return built


@torch.inference_mode()
def expected_of(network, images):
    return network(network.preset.normalise(images))


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_features_stay(networks, name, device):
    network, images = networks[name], inputs(name, 3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    run = Forward(network, network.preset, 4, device)
    found = run(images)
    assert found.dtype == torch.float32
    assert found.device == CPU
    assert found.shape == (3, network.dim)
    assert relative(found, expected_of(network, images)) < (1e-5 if device == CPU else 1e-3)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_batch_norms_are_folded(networks, name):
    network = networks[name]
    run = Forward(network, network.preset, 2, CPU)
    kinds = [type(module) for module in run._network.modules()]
    assert not {nn.BatchNorm2d, nn.BatchNorm3d} & set(kinds)


def test_i3d(networks):
    network, images = networks["i3d"], inputs("i3d", 2)
    run = Forward(network, network.preset, 2, CPU)
    found = run(images)
    assert relative(found, expected_of(network, images)) < 1e-5
    # Position, company and padding do not matter.
    assert torch.equal(run(images[1:])[0], found[1])


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_rows_do_not_depend_on_their_batch(networks, name, device):
    network, images = networks[name], inputs(name, 4)
    run = Forward(network, network.preset, 4, device)
    whole = run(images)
    assert torch.equal(run(images), whole)
    assert torch.equal(run(images.flip(0)), whole.flip(0))
    for row in range(4):
        assert torch.equal(run(images[row : row + 1])[0], whole[row])


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_frames_that_count_as_zero(networks, device):
    network, images = networks["r3d18"], inputs("r3d18", 3)
    zeros = torch.zeros(3, 8, dtype=torch.bool)
    zeros[0, :2] = zeros[2, 7] = True
    x = network.preset.normalise(images)
    x[0, :, :2] = x[2, :, 7] = 0
    with torch.inference_mode():
        expected = network(x)
    run = Forward(network, network.preset, 4, device)
    assert relative(run(images, zeros), expected) < (1e-5 if device == CPU else 1e-3)
    assert relative(run(images), expected) > 1e-3


def test_pictures_that_count_as_zero(networks):
    network, images = networks["resnet18"], inputs("resnet18", 2)
    run = Forward(network, network.preset, 4, CPU)
    found = run(images, torch.tensor([[False], [True]]))
    with torch.inference_mode():
        black = network(torch.zeros(1, 3, 64, 64))[0]
    assert torch.equal(found[0], run(images)[0])
    assert relative(found[1], black) < 1e-5


@torch.inference_mode()
def test_spectrograms_are_taken_as_they_are():
    network = build_backbone("resnet18", channels=1)
    x = torch.randn(2, 1, 64, 104)
    found = Forward(network, network.preset, BATCHES["resnet18"], CPU)(x)
    assert relative(found, network(x)) < 1e-5


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_batches_in_flight(networks, device):
    network = networks["resnet18"]
    run = Forward(network, network.preset, 2, device)
    batches = [inputs("resnet18", count, seed) for seed, count in enumerate((2, 2, 1, 2, 2))]
    pending = [run.submit(batch) for batch in batches]
    for batch, wait in zip(batches, pending, strict=True):
        assert torch.equal(wait(), run(batch))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_inputs_may_lie_on_the_device(networks):
    network, images = networks["resnet18"], inputs("resnet18", 2)
    run = Forward(network, network.preset, 2, torch.device("cuda"))
    assert torch.equal(run(images.cuda()), run(images))


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_bfloat16(networks, name, device, monkeypatch):
    if not forward.bf16_supported(device):
        # Emulated: slow, but the numbers are those of bfloat16.
        if name != "resnet18":
            pytest.skip("no bfloat16, and clips take minutes in emulation")
        monkeypatch.setattr(forward, "bf16_supported", bool)
    network, images = networks[name], inputs(name, 2)
    found = Forward(network, network.preset, 2, device, "bfloat16")(images)
    expected = expected_of(network, images)
    assert found.dtype == torch.float32
    assert 1e-5 < relative(found, expected) < 1e-2
    assert torch.cosine_similarity(found, expected).min() >= 0.9999


def test_precisions_are_checked(networks, monkeypatch):
    network = networks["resnet18"]
    with pytest.raises(ConfigError, match="precision is 'half'; expected one of float32, bfloat16"):
        Forward(network, network.preset, 2, CPU, "half")
    monkeypatch.setattr(forward, "BF16_FLAGS", frozenset({"no_such_flag"}))
    assert not forward.bf16_supported(CPU)
    with pytest.raises(ConfigError, match=r"precision bfloat16 on cpu: .*; set float32"):
        Forward(network, network.preset, 2, CPU, "bfloat16")
    monkeypatch.setattr(forward, "BF16_FLAGS", frozenset({"processor"}))
    assert forward.bf16_supported(CPU)


class Own(nn.Module):
    """A user's network whose layer may serve twice, and whose forward may resist tracing."""

    dim = 4

    def __init__(self, *, twice=False, branching=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Conv2d(3, 4, 1)
        self.twice, self.branching = twice, branching
        for value in (self.norm.running_mean, self.norm.running_var):
            value.uniform_(0.5, 1.5)

    def forward(self, x):
        x = self.norm(self.conv(x))
        if self.twice:
            x = self.norm(self.conv(x))
        if self.branching and x.sum() > 0:
            x = 2 * x
        return self.last(x).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("options", "folded"), [({}, True), ({"twice": True}, False), ({"branching": True}, False)]
)
@torch.inference_mode()
def test_networks_of_ones_own(options, folded):
    torch.manual_seed(0)
    network = Own(**options).eval().requires_grad_(False)
    images = inputs("resnet18", 2)
    run = Forward(network, PRESETS["i3d"], 2, CPU)
    expected = network(PRESETS["i3d"].normalise(images))
    assert relative(run(images), expected) < 1e-5
    kept = any(isinstance(module, nn.BatchNorm2d) for module in run._network.modules())
    assert kept != folded
    assert run._network is not network


def test_more_rows_than_a_batch(networks):
    network = networks["resnet18"]
    with pytest.raises(AssertionError, match="3 rows for a batch of 2"):
        Forward(network, network.preset, 2, CPU)(inputs("resnet18", 3))
    assert BATCHES["resnet18"] == 32
