"""The causal temporal network against plain loops, torch's own weight norm, and its promises."""

from typing import Any

import numpy as np
import pytest
import torch
from concord.fuse.tcn import CausalConv, TemporalConvNet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Array = NDArray[Any]

SHAPES = [
    # dim, channels, kernel, rows
    (3, [4], 3, 7),
    (3, [3, 3], 2, 9),
    (2, [4, 4, 3], 5, 30),
    (4, [2, 3], 5, 2),
]


def network(dim: int, channels: list[int], kernel: int) -> TemporalConvNet:
    """A network in float64 with nothing at its usual start."""
    torch.manual_seed(7)
    net = TemporalConvNet(dim, channels, kernel).double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


def convolved(x: Array, W: dict[str, Array], dilation: int) -> Array:
    """One convolution: y[o, t] = b[o] + sum over i, j of w[o, i, j] x[i, t - (J - 1 - j) D]."""
    v = W["weight_v"]
    width, dim, kernel = v.shape
    y = np.zeros((width, x.shape[1]))
    for o in range(width):
        w = W["weight_g"][o, 0, 0] * v[o] / np.sqrt((v[o] ** 2).sum())
        for t in range(x.shape[1]):
            y[o, t] = W["bias"][o]
            for i in range(dim):
                for j in range(kernel):
                    at = t - (kernel - 1 - j) * dilation
                    y[o, t] += w[i, j] * x[i, at] if at >= 0 else 0
    return y


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.01 * x)


def by_loops(net: TemporalConvNet, x: Array, valid: Array) -> Array:
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    x = x * valid
    for number in range(len(net.network)):
        W = {n: w for n, w in state.items() if n.startswith(f"network.{number}.")}
        part = {
            conv: {n.rpartition(".")[2]: w for n, w in W.items() if f".{conv}." in n}
            for conv in ("conv1", "conv2", "downsample")
        }
        y = x
        for conv in ("conv1", "conv2"):
            y = leaky(convolved(y, part[conv], 2**number))
        if part["downsample"]:
            x = part["downsample"]["weight"][:, :, 0] @ x + part["downsample"]["bias"][:, None]
        x = leaky(y + x) * valid
    return x


@pytest.mark.parametrize(("dim", "channels", "kernel", "rows"), SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_equals_loops(dim: int, channels: list[int], kernel: int, rows: int, masked: bool) -> None:
    random = np.random.default_rng(rows)
    net = network(dim, channels, kernel)
    x = random.normal(size=(2, dim, rows))
    valid = random.random((2, rows)) > 0.3 if masked else np.ones((2, rows), bool)
    with torch.no_grad():
        ours = net(torch.tensor(x), torch.tensor(valid) if masked else None).numpy()
    for item in range(2):
        np.testing.assert_allclose(ours[item], by_loops(net, x[item], valid[item]), atol=1e-12)


def test_weight_norm_is_torchs() -> None:
    ours = network(3, [4], 5).network[0].get_submodule("conv1")
    theirs = weight_norm(nn.Conv1d(3, 4, 5).double())
    with torch.no_grad():
        theirs.get_parameter("bias").copy_(ours.get_parameter("bias"))
        norm = theirs.get_submodule("parametrizations.weight")
        norm.get_parameter("original0").copy_(ours.get_parameter("weight_g"))
        norm.get_parameter("original1").copy_(ours.get_parameter("weight_v"))
    x = torch.randn(2, 3, 9, dtype=torch.float64)
    ours(x).square().sum().backward()
    theirs(nn.functional.pad(x, (4, 0))).square().sum().backward()
    for name, other in (("weight_g", "original0"), ("weight_v", "original1")):
        assert ours.get_parameter(name).grad is not None
        torch.testing.assert_close(
            ours.get_parameter(name).grad, norm.get_parameter(other).grad, msg=name
        )


def test_starts_as_torch_starts_a_convolution() -> None:
    torch.manual_seed(3)
    ours = CausalConv(3, 4, 5, dilation=2)
    torch.manual_seed(3)
    theirs = nn.Conv1d(3, 4, 5)
    torch.testing.assert_close(ours.weight(), theirs.weight)
    assert theirs.bias is not None
    assert torch.equal(ours.bias, theirs.bias)


def test_state_dict_has_the_authors_names_both_times() -> None:
    net = TemporalConvNet(3, [4, 4], 2)
    tensors = ("bias", "weight_g", "weight_v")
    convs = ("conv1", "conv2", "net.0", "net.4")
    expected = {f"network.{n}.{c}.{t}" for n in (0, 1) for c in convs for t in tensors}
    expected |= {"network.0.downsample.weight", "network.0.downsample.bias"}
    state = net.state_dict()
    assert set(state) == expected
    assert tuple(state["network.0.conv1.weight_g"].shape) == (4, 1, 1)
    for first, second in (("conv1", "net.0"), ("conv2", "net.4")):
        for tensor in tensors:
            pair = (state[f"network.1.{name}.{tensor}"] for name in (first, second))
            assert len({one.data_ptr() for one in pair}) == 1
    assert sum(p.numel() for p in net.parameters()) == (4 * 3 * 2 + 8) + 3 * (4 * 4 * 2 + 8) + 16


@pytest.mark.parametrize(("channels", "kernel", "rows"), [([2], 5, 9), ([2, 2, 2, 2], 5, 121)])
def test_receptive_field_is_what_a_row_depends_on(
    channels: list[int], kernel: int, rows: int
) -> None:
    net = network(2, channels, kernel)
    assert net.receptive_field == rows
    x = torch.randn(1, 2, rows + 20, dtype=torch.float64, requires_grad=True)
    net(x)[..., rows + 10].sum().backward()
    assert x.grad is not None
    used = x.grad.abs().sum((0, 1)).ne(0).nonzero().flatten()
    assert (int(used.min()), int(used.max())) == (11, rows + 10)


def test_rows_without_a_value_neither_matter_nor_have_one() -> None:
    net = network(3, [4, 4], 3)
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 12, generator=random, dtype=torch.float64)
    valid = torch.rand(2, 12, generator=random) > 0.4
    poisoned = torch.where(valid[:, None], x, torch.nan).requires_grad_()
    out = net(poisoned, valid)
    assert torch.equal(out, net(x, valid))
    assert not out.mT[~valid].any()
    assert out.mT[valid].any()
    out.sum().backward()
    assert poisoned.grad is not None
    assert torch.isfinite(poisoned.grad).all()


def test_dropout_is_for_training() -> None:
    net = TemporalConvNet(3, [8, 8], dropout=0.5)
    x = torch.randn(2, 3, 20)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_every_parameter_learns() -> None:
    net = network(3, [4, 4, 2], 3)
    out: Tensor = net(torch.randn(2, 3, 20, dtype=torch.float64))
    out.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
