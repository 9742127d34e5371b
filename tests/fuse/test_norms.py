"""Batch norm with masks against torch's without."""

import pytest
import torch
from concord.fuse.norms import MaskedBatchNorm
from torch import Tensor, nn

DIM = 5


def pair() -> tuple[MaskedBatchNorm, nn.BatchNorm1d]:
    """Ours and torch's with the same tensors, none at its usual start."""
    torch.manual_seed(2)
    ours, theirs = MaskedBatchNorm(DIM).double(), nn.BatchNorm1d(DIM).double()
    state = {n: torch.rand_like(x) + 0.5 for n, x in theirs.state_dict().items() if x.ndim}
    state["num_batches_tracked"] = torch.tensor(4)
    ours.load_state_dict(state)
    theirs.load_state_dict(state)
    return ours, theirs


def rows(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x = 2 + 3 * torch.randn(3, 7, DIM, generator=random, dtype=torch.float64)
    return x, torch.rand(3, 7, generator=random) > 0.4


def buffers(norm: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in norm.named_buffers()}


def test_has_torchs_keys_and_start() -> None:
    ours, theirs = MaskedBatchNorm(DIM).state_dict(), nn.BatchNorm1d(DIM).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
        assert ours[name].dtype == tensor.dtype, name


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_is_torchs_where_all_is_valid(training: bool, masked: bool) -> None:
    ours, theirs = pair()
    ours.train(training)
    theirs.train(training)
    for step in range(3):
        x, valid = rows(step)
        mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        out = ours(mine, torch.ones_like(valid) if masked else None)
        expected = theirs(other.mT).mT
        torch.testing.assert_close(out, expected)
        for loss in (out, expected):
            (loss * x.cos()).sum().backward()
        torch.testing.assert_close(mine.grad, other.grad)
    torch.testing.assert_close(buffers(ours), buffers(theirs))
    assert int(ours.num_batches_tracked) == (7 if training else 4)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)


def test_statistics_are_of_valid_rows_only() -> None:
    ours, theirs = pair()
    x, valid = rows()
    expected = theirs(x[valid])
    out = ours(torch.where(valid[..., None], x, torch.nan), valid)
    torch.testing.assert_close(out[valid], expected)
    torch.testing.assert_close(buffers(ours), buffers(theirs))
    # Another value there changes nothing at all, and is scaled as its neighbours are.
    ours, _ = pair()
    assert torch.equal(ours(x, valid)[valid], out[valid])


@pytest.mark.parametrize("left", [0, 1])
def test_with_less_than_two_rows_the_running_statistics_serve(left: int) -> None:
    ours, theirs = pair()
    x, valid = rows()
    valid[:] = False
    valid[1, :left] = True
    before = buffers(ours)
    x.requires_grad_()
    out = ours(x, valid)
    torch.testing.assert_close(out, theirs.eval()(x.mT).mT)
    torch.testing.assert_close(buffers(ours), before)
    out.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_half_precision_keeps_full_statistics() -> None:
    norm = MaskedBatchNorm(DIM)
    x, valid = rows()
    out = norm(x.bfloat16(), valid)
    assert norm.running_mean.dtype == torch.float32
    torch.testing.assert_close(out, MaskedBatchNorm(DIM)(x.bfloat16().float(), valid))
