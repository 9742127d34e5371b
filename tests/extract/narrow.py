"""Narrow networks: I3D and R3D-18 with few channels, and all their kernels, steps and paddings."""

from __future__ import annotations

from concord.extract.backbones import R3D18
from concord.extract.i3d import I3D, WIDTHS, Mixed
from concord.extract.presets import Preset
from concord.extract.weights import randomise, seeding
from torch import nn

SIDE = 32


class NarrowI3D(I3D):
    """A sixteenth of the channels."""

    dim = 64
    preset = Preset(SIDE, True, SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def __init__(self, weights: str = "seeded") -> None:  # noqa: ARG002 - as all backbones
        with seeding("seeded"):
            super().__init__()
            randomise(self)
        self.eval()

    def _unit(self, name, inputs, outputs, *kernel):
        super()._unit(name, max(inputs // 16, 3), outputs // 16, *kernel)

    def _mixed(self, width, *names):
        for name in names:
            widths = tuple(max(w // 16, 1) for w in WIDTHS[name])
            block = Mixed(width // 16, widths, variant=self.variant, edges=self.edges)
            self._add(f"Mixed_{name}", block)
            width = 16 * (widths[0] + widths[2] + widths[4] + widths[5])
        return width


class NarrowR3D18(R3D18):
    """An eighth of the channels."""

    dim = 64
    preset = Preset(SIDE, True, SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def __init__(self, weights: str = "seeded") -> None:  # noqa: ARG002 - as all backbones
        with seeding("seeded"):
            super().__init__()
            first = nn.Conv3d(3, 8, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
            self.stem = nn.Sequential(first, nn.BatchNorm3d(8), nn.ReLU())
            randomise(self)
        self.eval()

    def _make_layer(self, block, builder, planes, blocks, stride=1):
        self.inplanes = max(self.inplanes, 64) // 8 if planes == 64 else self.inplanes
        return super()._make_layer(block, builder, planes // 8, blocks, stride)
