"""A causal temporal convolutional network with weight norm, under the authors' tensor names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, leaky_relu, pad

from .masking import zeroed


class CausalConv(nn.Module):
    """A convolution over time that sees no later row, with weight norm.

    The weight is w = g v / |v|, the norm taken over (in, kernel) for every output channel (Salimans
    and Kingma, 2016, equation 2). g and v start where w is torch's own start of a convolution.
    """

    def __init__(self, dim: int, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        start = nn.Conv1d(dim, width, kernel)
        assert start.bias is not None
        self.dilation = dilation
        self.bias = start.bias
        self.weight_g = nn.Parameter(_norm(start.weight.detach()))
        self.weight_v = start.weight

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, dim, T) to (B, width, T); rows before the first are zeros."""
        before = (self.weight_v.shape[-1] - 1) * self.dilation
        return conv1d(pad(x, (before, 0)), self.weight(), self.bias, dilation=self.dilation)

    def weight(self) -> Tensor:
        """Give the effective weight (width, dim, kernel)."""
        return self.weight_g * self.weight_v / _norm(self.weight_v)


class Level(nn.Module):
    """Two convolutions and what skips them: LeakyReLU(net(x) + x), x through 1 x 1 if it must."""

    def __init__(self, dim: int, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.conv1 = CausalConv(dim, width, kernel, dilation)
        self.conv2 = CausalConv(width, width, kernel, dilation)
        # Published checkpoints name each convolution twice: these are the second names.
        self.net = nn.ModuleDict({"0": self.conv1, "4": self.conv2})
        self.downsample = nn.Conv1d(dim, width, 1) if dim != width else None

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, dim, T) to (B, width, T)."""
        y = x
        for conv in (self.conv1, self.conv2):
            y = self.dropout(leaky_relu(conv(y)))
        return leaky_relu(y + (x if self.downsample is None else self.downsample(x)))


class TemporalConvNet(nn.Module):
    """Causal dilated convolutions (Bai et al., 2018, arXiv 1803.01271); any length.

    Numerically the temporal network of sucv/ABAW3 and praveena2j/RJCMA, with its state dict:
    `network.{level}.conv1.weight_g`, …, every convolution also under `network.{level}.net`.

    Args:
        dim: Channels at the input.
        channels: Channels of every level; the dilation doubles from level to level.
        kernel: Rows of a convolution.
        dropout: After every convolution, element by element.
    """

    def __init__(
        self, dim: int, channels: Sequence[int], kernel: int = 5, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.network = nn.ModuleList(
            Level(before, width, kernel, 2**number, dropout)
            for number, (before, width) in enumerate(
                zip([dim, *channels[:-1]], channels, strict=True)
            )
        )

    @property
    def receptive_field(self) -> int:
        """Rows that a row depends on, itself included."""
        return 1 + 2 * (self.kernel - 1) * (2 ** len(self.network) - 1)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map x (B, dim, T) to (B, channel, T).

        Args:
            x: Time is last, unlike elsewhere.
            valid: (B, T); rows without a value are zero at the input and after every level, so
                what stands there does not matter.
        """
        return self.levels(x, valid)[-1]

    def levels(self, x: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Give what leaves every level, with the arguments of `forward`."""
        out: list[Tensor] = []
        x = _zeroed(x, valid)
        for level in self.network:
            x = _zeroed(level(x), valid)
            out.append(x)
        return out


def _norm(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v, dim=(1, 2), keepdim=True)


def _zeroed(x: Tensor, valid: Tensor | None) -> Tensor:
    """`zeroed` with time last."""
    return zeroed(x.mT, valid).mT
