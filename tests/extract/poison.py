"""A backbone that kills its own process, outright, when it is shown a white picture."""

from __future__ import annotations

import os
import signal

import torch
from concord.extract import Preset


class MeanColour(torch.nn.Module):
    """Mean colour of a picture; the process does not live to see that of a white one."""

    dim, clip, takes, version = 3, 1, "pictures", 1
    preset = Preset(resize=32, antialias=True, crop=32, mean=(0, 0, 0), std=(1, 1, 1))

    def __init__(self, weights: str) -> None:  # noqa: ARG002
        super().__init__()

    def forward(self, x):
        colours = x.mean((2, 3))
        if bool((colours > 0.95).all(1).any()):
            os.kill(os.getpid(), signal.SIGKILL)
        return colours

    def cells(self, x):
        return self.forward(x)[:, None]

    def folded(self):
        return self


class StillBorn(MeanColour):
    """The process does not live to see it loaded."""

    def __init__(self, weights: str) -> None:  # noqa: ARG002
        os.kill(os.getpid(), signal.SIGKILL)
