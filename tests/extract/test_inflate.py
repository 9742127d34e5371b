"""Inflation: a clip that stands still gives what the picture gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from concord.cache import ConfigError
from concord.extract.backbones import build_backbone
from concord.extract.i3d import I3D
from concord.extract.inflate import inflate, interior
from safetensors.torch import save_file
from torchvision.models import GoogLeNet

FRAMES = 8 * 13
"""13 cells, of which one is 6 away from either end."""


@pytest.fixture(scope="module")
def state():
    """GoogLeNet's tensors, auxiliary classifiers included, with statistics of their own."""
    torch.manual_seed(3)
    network = GoogLeNet(aux_logits=True, init_weights=False)
    for name, value in network.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.2)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(value)
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def picture():
    return 2 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(5)) - 1


def padded(x, kernel, stride):
    flat = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        flat += [total // 2, total - total // 2]
    return F.pad(x, flat)


def plain(state, x):
    """Inception v1 of pictures with TensorFlow's padding: the mean over space, (B, 1024)."""

    def unit(name, x, stride=1):
        weight = state[f"{name}.conv.weight"]
        x = F.conv2d(padded(x, weight.shape[-1], stride), weight, stride=stride)
        norm = [state[f"{name}.bn.{t}"] for t in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, *norm, eps=1e-3))

    def pool(x, kernel, stride):
        return F.max_pool2d(padded(x, kernel, stride), kernel, stride)

    def block(name, x):
        return torch.cat(
            [
                unit(f"{name}.branch1", x),
                unit(f"{name}.branch2.1", unit(f"{name}.branch2.0", x)),
                unit(f"{name}.branch3.1", unit(f"{name}.branch3.0", x)),
                unit(f"{name}.branch4.1", pool(x, 3, 1)),
            ],
            dim=1,
        )

    x = unit("conv3", unit("conv2", pool(unit("conv1", x, 2), 3, 2)))
    x = pool(x, 3, 2)
    for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        if name in ("4a", "5a"):
            x = pool(x, 3 if name == "4a" else 2, 2)
        x = block(f"inception{name}", x)
    return x.mean(dim=(2, 3))


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def inflated(state, edges="zero"):
    network = I3D(edges=edges, classes=1000).eval()
    network.load_state_dict(inflate(state), strict=True)
    return network


@torch.inference_mode()
def test_a_still_clip_equals_its_picture_inside(state, picture):
    expected = plain(state, picture)
    still = picture[:, :, None].expand(-1, -1, FRAMES, -1, -1)
    cells = inflated(state).cells(still)
    middle = interior(cells)
    assert middle.shape == (1, 1, 1024)
    assert relative(middle[:, 0], expected) < 1e-5
    assert relative(cells[:, 0], expected) > 0.05
    # Repeated without dividing, the first layer alone answers seven times as strongly.
    undivided = {
        name: value * value.shape[-1] if value.ndim == 4 else value for name, value in state.items()
    }
    assert relative(interior(inflated(undivided).cells(still))[:, 0], expected) > 1


@pytest.mark.parametrize("frames", [9, 16])
@torch.inference_mode()
def test_replicated_edges_leave_no_cell_out(state, picture, frames):
    expected = plain(state, picture)
    cells = inflated(state, "replicate").cells(picture[:, :, None].expand(-1, -1, frames, -1, -1))
    for cell in cells[0]:
        assert relative(cell, expected[0]) < 1e-5


def test_kernels_are_divided_and_norms_copied(state):
    found = inflate(state)
    assert len(found) == 344
    assert not any(name.startswith(("aux", "fc", "inception", "conv")) for name in found)
    kernels = found["Mixed_4f.b2b.conv3d.weight"]
    torch.testing.assert_close(kernels.sum(dim=2), state["inception4e.branch3.1.conv.weight"])
    torch.testing.assert_close(kernels[:, :, 0], kernels[:, :, 2])
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(
            found[f"Mixed_5b.b3b.bn.{name}"], state[f"inception5a.branch4.1.bn.{name}"]
        )
    assert torch.equal(found["logits.conv3d.weight"][:, :, 0, 0, 0], state["fc.weight"])


def test_interior():
    cells = torch.arange(15.0).view(1, 15, 1)
    assert interior(cells).flatten().tolist() == [6, 7, 8]
    assert interior(cells, 0).shape == (1, 15, 1)
    assert interior(cells[:, :12]).shape == (1, 0, 1)
    assert interior(cells[:, :5]).shape == (1, 0, 1)


def test_weights_that_are_named(tmp_path, state):
    path = tmp_path / "googlenet.safetensors"
    save_file(state, path)
    network = build_backbone("i3d", f"inflate:{path}", edges="replicate")
    expected = inflate(state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected[name]), name
    seeds = {
        float(build_backbone("i3d", weights).state_dict()["Mixed_3b.b0.conv3d.weight"].sum())
        for weights in ("inflate:seeded", "inflate:seeded:0", "inflate:seeded:1", "seeded")
    }
    assert len(seeds) == 3


def test_other_networks_are_not_inflated(tmp_path, state):
    path = tmp_path / "other.safetensors"
    kept = {n: v for n, v in state.items() if not n.startswith(("conv2.conv", "fc."))}
    save_file({**kept, "inception9a.branch1.conv.weight": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match=r"missing Conv3d_2b_1x1\.conv3d\.weight; unex") as error:
        build_backbone("i3d", f"inflate:{path}")
    assert "unexpected inception9a.branch1.conv.weight" in str(error.value)
    with pytest.raises(ConfigError, match="weights 'NO' of googlenet: expected seeded"):
        build_backbone("i3d", "inflate:NO")
