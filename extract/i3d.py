"""Inception-I3D (Carreira and Zisserman, CVPR 2017, arXiv 1705.07750), exact to TF or to a port.

Shapes: B clips, T frames, T' cells of time (one per 8 frames), H and W pixels.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..cache import ConfigError
from .dense import Support
from .presets import PRESETS, Preset

Variant = Literal["tf_exact", "video_features"]
Edges = Literal["zero", "replicate"]
Triple = tuple[int, int, int]
Widths = tuple[int, int, int, int, int, int]

EPS: dict[str, float] = {"tf_exact": 1e-3, "video_features": 1e-5}
WIDTHS: dict[str, Widths] = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of each block: branch 0; branch 1 reduced, out; branch 2 likewise; pool projection."""
LAST_POOL: Triple = (2, 7, 7)
ONE: Triple = (1, 1, 1)
THREE: Triple = (3, 3, 3)


def same_padding(size: int, kernel: int, stride: int, *, dynamic: bool) -> tuple[int, int]:
    """Give the zeros before and after an axis: the smaller half goes in front.

    Args:
        size: Length of the axis.
        kernel: Length of the kernel.
        stride: Step of the kernel.
        dynamic: TensorFlow's SAME, which looks at the size. Otherwise the total comes from kernel
            and stride alone, which is right only for sizes that the stride divides.
    """
    rest = size % stride if dynamic else 0
    total = max(kernel - (rest or stride), 0)
    return total // 2, total - total // 2


class _Padded(nn.Module):
    """What every layer knows: its kernel, its stride, and the rule of padding."""

    def __init__(self, kernel: Triple, stride: Triple, *, dynamic: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.dynamic = dynamic

    def sides(self, x: Tensor) -> list[tuple[int, int]]:
        """(front, back) of time, height and width."""
        axes = zip(x.shape[2:], self.kernel, self.stride, strict=True)
        return [same_padding(n, k, s, dynamic=self.dynamic) for n, k, s in axes]


class Unit(_Padded):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Triple,
        stride: Triple = ONE,
        *,
        variant: Variant,
        edges: Edges,
    ) -> None:
        super().__init__(kernel, stride, dynamic=variant == "tf_exact")
        self.replicate = edges == "replicate"
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn: nn.Module = nn.BatchNorm3d(outputs, eps=EPS[variant], momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T, H, W) to (B, outputs, …)."""
        x, padding = self._pad(x)
        y = F.conv3d(x, self.conv3d.weight, self.conv3d.bias, self.stride, padding)
        # One thread computes small convolutions in a way that forgets the memory format; max pools
        # are ten times slower without it.
        if x.is_contiguous(memory_format=torch.channels_last_3d):
            y = y.contiguous(memory_format=torch.channels_last_3d)
        return F.relu(self.bn(y), inplace=True)

    def _pad(self, x: Tensor) -> tuple[Tensor, list[int]]:
        """Pad by hand where both sides differ; equal sides are left to the convolution."""
        sides = self.sides(x)
        if self.replicate and any(sides[0]):
            front, back = sides[0]
            x = torch.cat([x[:, :, :1]] * front + [x] + [x[:, :, -1:]] * back, dim=2)
            sides[0] = (0, 0)
        if all(front == back for front, back in sides):
            return x, [front for front, _ in sides]
        return F.pad(x, [n for side in reversed(sides) for n in side]), [0, 0, 0]

    def fold(self) -> None:
        """Put the batch norm's statistics into the convolution."""
        if isinstance(self.bn, nn.BatchNorm3d):
            self.conv3d = fuse_conv_bn_eval(self.conv3d, self.bn)
            self.bn = nn.Identity()


class MaxPool(_Padded):
    """Maximum over what lies inside; after a ReLU that equals padding with zeros.

    It equals padding time by replication too, since every window holds the frame at the edge.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W), no value below 0, to (B, C, …)."""
        sides = self.sides(x)
        uneven = [back - front for front, back in sides]
        # Rounding up stands for TF's zeros behind; the port rounds up on top of its zeros.
        if not self.dynamic and any(uneven):
            x = F.pad(x, [n for more in reversed(uneven) for n in (0, more)])
        padding = [front for front, _ in sides]
        return F.max_pool3d(x, self.kernel, self.stride, padding, ceil_mode=True)


class Mixed(nn.Module):
    """Four branches side by side; the third has a kernel of 3, not 5, as in DeepMind's code."""

    def __init__(self, inputs: int, widths: Widths, *, variant: Variant, edges: Edges) -> None:
        super().__init__()

        def unit(inputs: int, outputs: int, kernel: Triple) -> Unit:
            return Unit(inputs, outputs, kernel, variant=variant, edges=edges)

        self.b0 = unit(inputs, widths[0], ONE)
        self.b1a = unit(inputs, widths[1], ONE)
        self.b1b = unit(widths[1], widths[2], THREE)
        self.b2a = unit(inputs, widths[3], ONE)
        self.b2b = unit(widths[3], widths[4], THREE)
        self.b3a = MaxPool(THREE, ONE, dynamic=variant == "tf_exact")
        self.b3b = unit(inputs, widths[5], ONE)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T, H, W) to (B, outputs, T, H, W)."""
        branches = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))
        return torch.cat(branches, dim=1)


class Logits(nn.Module):
    """The classifier: a convolution of one cell, with bias, without batch norm."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1024, T', 1, 1) to (B, classes, T', 1, 1)."""
        return self.conv3d(x)


class I3D(nn.Module):
    """Inception-I3D over RGB clips (B, 3, T, H, W) in [-1, 1], best of 224 pixels.

    Its parameters have the names of piergiaj/pytorch-i3d, the classifier among them.

    Args:
        variant: `tf_exact` pads as TensorFlow does and has its batch norm's epsilon of 1e-3.
            `video_features` gives the numbers of that project: padding fixed when the network is
            built, with zeros behind where the stride does not divide, and an epsilon of 1e-5.
        edges: What lies before the first frame and after the last: `zero`, as the network was
            trained, or `replicate` in every layer, for inflated weights that were not trained on
            clips: zeros cost an end cell 33% of such a network's response and a clip of 16
            frames has no cell without loss, whereas a clip that stands still then gives the
            picture network's features in every cell.
        classes: Outputs of the classifier.

    Raises:
        ConfigError: An option is not among those above.
    """

    dim = 1024
    preset: Preset = PRESETS["i3d"]
    takes = "clips"
    clip = 16
    support = Support(step=8, before=44, after=54, centre=5)
    heads = ("logits.",)

    def __init__(
        self, variant: Variant = "tf_exact", edges: Edges = "zero", classes: int = 400
    ) -> None:
        super().__init__()
        _check("variant", variant, get_args(Variant))
        _check("edges", edges, get_args(Edges))
        self.variant: Variant = variant
        self.edges: Edges = edges
        self.steps: list[str] = []
        self._unit("Conv3d_1a_7x7", 3, 64, (7, 7, 7), (2, 2, 2))
        self._pool("MaxPool3d_2a_3x3", (1, 3, 3), (1, 2, 2))
        self._unit("Conv3d_2b_1x1", 64, 64, ONE)
        self._unit("Conv3d_2c_3x3", 64, 192, THREE)
        self._pool("MaxPool3d_3a_3x3", (1, 3, 3), (1, 2, 2))
        width = self._mixed(192, "3b", "3c")
        self._pool("MaxPool3d_4a_3x3", THREE, (2, 2, 2))
        width = self._mixed(width, "4b", "4c", "4d", "4e", "4f")
        self._pool("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2))
        self._mixed(width, "5b", "5c")
        self.logits = Logits(classes)

    def _add(self, name: str, layer: nn.Module) -> None:
        self.add_module(name, layer)
        self.steps.append(name)

    def _unit(
        self, name: str, inputs: int, outputs: int, kernel: Triple, stride: Triple = ONE
    ) -> None:
        layer = Unit(inputs, outputs, kernel, stride, variant=self.variant, edges=self.edges)
        self._add(name, layer)

    def _pool(self, name: str, kernel: Triple, stride: Triple) -> None:
        self._add(name, MaxPool(kernel, stride, dynamic=self.variant == "tf_exact"))

    def _mixed(self, width: int, *names: str) -> int:
        for name in names:
            widths = WIDTHS[name]
            layer = Mixed(width, widths, variant=self.variant, edges=self.edges)
            self._add(f"Mixed_{name}", layer)
            width = widths[0] + widths[2] + widths[4] + widths[5]
        return width

    def maps(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) to Mixed_5c, (B, 1024, T', H', W'); T' is T / 8 rounded up (TF)."""
        for name in self.steps:
            x = self.get_submodule(name)(x)
        return x

    def sections(self) -> list[tuple[int, nn.Module]]:
        """Give the parts of `maps`, each with its step in time, which its first layer takes."""
        layers = [self.get_submodule(name) for name in self.steps]
        steps = [layer.stride[0] if isinstance(layer, _Padded) else 1 for layer in layers]
        firsts = [place for place, step in enumerate(steps) if step > 1]
        return [
            (steps[first], nn.Sequential(*layers[first:stop]))
            for first, stop in pairwise([*firsts, len(layers)])
        ]

    def _pooled(self, x: Tensor) -> Tensor:
        """(B, 1024, cells, rows, columns) after the last pool, which pads nothing."""
        maps = self.maps(x)
        if any(size < need for size, need in zip(maps.shape[2:], LAST_POOL, strict=True)):
            raise ConfigError(
                f"i3d ({self.variant}): a clip of {tuple(x.shape[2:])} frames, rows and columns "
                f"leaves {tuple(maps.shape[2:])} cells where the last pool takes {LAST_POOL}; "
                "give at least 10 frames of 224 by 224 pixels"
            )
        return F.avg_pool3d(maps, LAST_POOL, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, 1024): Mixed_5c, average of (2, 7, 7), mean of what remains.

        With more than two cells of time, those at the ends count half: the convention of the
        features in the wild. `cells` gives them one by one.

        Raises:
            ConfigError: The clip is too short or too small for the last pool.
        """
        return self._pooled(x).mean(dim=(2, 3, 4))

    def cells(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, T', 1024): Mixed_5c's mean over space, before time is pooled.

        Cell j is centred on frame 8 j + 5 where the stride divides T.
        """
        return self.maps(x).mean(dim=(3, 4)).transpose(1, 2)

    def classes(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) to logits (B, classes), the mean over cells.

        Raises:
            ConfigError: The clip is too short or too small for the last pool.
        """
        return self.logits(self._pooled(x)).mean(dim=(2, 3, 4))

    def folded(self) -> I3D:
        """Give a copy for inference whose batch norms are part of the convolutions.

        Its features differ by rounding (2.5e-7 relative) and its state dict no longer has
        piergiaj's entries.
        """
        network = copy.deepcopy(self).eval()
        for module in network.modules():
            if isinstance(module, Unit):
                module.fold()
        return network.requires_grad_(requires_grad=False)


def _check(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"i3d: {option} is {value!r}; expected one of {', '.join(known)}")
