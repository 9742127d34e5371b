"""Activations against torch's own."""

import pytest
import torch
from concord.fuse.activations import tanh
from torch.func import vmap


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-15), (torch.float32, 4e-7)])
def test_value_and_gradient_are_those_of_tanh(dtype, near):
    x = torch.linspace(-60, 60, 20_001, dtype=dtype).requires_grad_()
    factor = torch.rand(x.shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    found, expected = ((f(x) * factor).sum() for f in (tanh, torch.tanh))
    assert (tanh(x) - torch.tanh(x)).abs().max() <= near
    one, other = (torch.autograd.grad(y, x)[0] for y in (found, expected))
    assert (one - other).abs().max() <= near


def test_gradient_of_gradient_and_many_at_once():
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    assert torch.autograd.gradcheck(tanh, x)
    assert torch.autograd.gradgradcheck(tanh, x)
    torch.testing.assert_close(vmap(tanh)(x), torch.tanh(x))
