"""Clips: the frames that later windows may still want, prepared, and windows cut from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .boxes import Box, boxed
from .windows import OUTSIDE, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .dataset import Region
    from .presets import Preset


class Clips:
    """A sliding stretch of one track's frames.

    A frame that is missing (its face was not found, its bytes are damaged) is stood for by the one
    before it, or by the first that came; where the window's edge is black, by a black picture.
    """

    def __init__(self, preset: Preset, window: Window, stride: int, device: torch.device) -> None:
        self._preset = preset
        self._window = window
        self._stride = stride
        self._device = device
        self._region: Region = "whole"
        self._boxes: Mapping[int, Box] | None = None
        self._asked: frozenset[int] | None = None
        self._prepared: dict[int, Tensor] = {}
        self._raw: dict[int, NDArray[np.uint8]] = {}
        self._present: list[int] = []
        self.seen = 0
        """Frames that have come or been passed over."""

    def part(self, region: Region, boxes: Mapping[int, Box] | None) -> None:
        """Choose the part of each picture that shows the person."""
        self._region, self._boxes = region, boxes

    def only(self, asked: frozenset[int]) -> None:
        """Choose the frames whose windows will be asked for, instead of every `stride`-th."""
        self._asked = asked

    def _is_in_window(self, number: int) -> bool:
        if self._asked is None:
            return self._window.wants(number, self._stride)
        return any(number - offset in self._asked for offset in self._window.offsets)

    def add(self, numbers: NDArray[np.int64], images: NDArray[np.uint8]) -> list[int]:
        """Take the next frames.

        Args:
            numbers: (n,) ascending, above all that came before.
            images: (n, H, W, 3) RGB.

        Returns:
            Those numbers that show the person: all, but for rows without a box.
        """
        shown = [n for n in numbers.tolist() if self._boxes is None or n in self._boxes]
        at = {int(number): place for place, number in enumerate(numbers)}
        wanted = [n for n in shown if self._is_in_window(n)]
        for number in shown:
            # A copy, since a view would keep the whole chunk in memory.
            if number not in wanted:
                self._raw[number] = images[at[number]].copy()
        if wanted:
            pictures = self._prepare([(n, images[at[n]]) for n in wanted])
            self._prepared |= dict(zip(wanted, pictures, strict=True))
        self._present += shown
        self.seen = int(numbers[-1]) + 1
        return shown

    @property
    def latest(self) -> int:
        """Number of the last frame that has come."""
        return self._present[-1]

    def drop_before(self, number: int) -> None:
        """Forget what no later window wants; the last frame before a gap stands for it."""
        lower = [n for n in self._present if n <= number]
        if len(lower) < 2:
            return
        for gone in lower[:-1]:
            self._prepared.pop(gone, None)
            self._raw.pop(gone, None)
        self._present = self._present[len(lower) - 1 :]

    def clear(self) -> None:
        """Forget all."""
        self._prepared, self._raw, self._present = {}, {}, []

    def clip(self, numbers: NDArray[np.int64], row: int) -> tuple[Tensor, Tensor]:
        """Cut a window.

        Args:
            numbers: (T,) frame numbers; OUTSIDE for a blank.
            row: The row whose window it is; its frame is there.

        Returns:
            (3, T, crop, crop) uint8, blanks black; and (T,) which are blank.
        """
        own = self._picture(row)
        frames: list[Tensor] = []
        for number in numbers.tolist():
            found = None if number == OUTSIDE else self._standing_for(number)
            frames.append(torch.zeros_like(own) if found is None else self._picture(found))
        return torch.stack(frames, dim=1), torch.from_numpy(numbers == OUTSIDE)

    def _standing_for(self, number: int) -> int | None:
        if number in self._prepared or number in self._raw:
            return number
        if self._window.edge == "black":
            return None
        before = [n for n in self._present if n < number]
        return before[-1] if before else self._present[0]

    def _picture(self, number: int) -> Tensor:
        if number not in self._prepared:
            (self._prepared[number],) = self._prepare([(number, self._raw[number])])
        return self._prepared[number]

    def _prepare(self, frames: list[tuple[int, NDArray[Any]]]) -> Tensor:
        """Resize and crop some pictures of one size: (n, 3, crop, crop) uint8 on the device."""
        if self._boxes is None:
            stacked = np.stack([self._cut(image) for _, image in frames])
            pictures = torch.from_numpy(stacked).to(self._device).permute(0, 3, 1, 2)
            return self._preset.prepare(pictures)
        parts = [boxed(image, self._boxes[number]) for number, image in frames]
        pictures = [torch.from_numpy(part).to(self._device).permute(2, 0, 1) for part in parts]
        return torch.cat([self._preset.prepare(picture[None]) for picture in pictures])

    def _cut(self, image: NDArray[Any]) -> NDArray[Any]:
        half = image.shape[1] // 2
        cut = {"whole": slice(None), "left": slice(0, half), "right": slice(half, None)}
        return image[:, cut[self._region]]
