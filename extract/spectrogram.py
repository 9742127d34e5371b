"""Log-mel spectrograms: the presets, and the mathematics of a column and of a row's picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.functional import melscale_fbanks

BLOCK = 128
"""Columns per matrix product, always: padded, so that a column's bits depend on its sound alone."""
CELLS = 65_536
"""Cells of pictures put together at once, so that they stay in a processor's cache."""
LEAST_POWER = 1e-10
"""Powers below are taken for this one (-100 dB), as torchaudio's AmplitudeToDB does."""
HTK_BREAK_HZ = 700.0
HTK_SCALE = 1127.0
"""HTK's mel scale as VGGish writes it: 1127 ln(1 + f / 700)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrogramPreset:
    """How the sound around a row becomes a picture of it."""

    rate: int
    """Samples per second."""
    segment: int
    """Samples of sound per row."""
    ahead: int
    """How many of them lie after the row's own sample (the one nearest to the row's time)."""
    n_fft: int
    window: int
    """Length of the periodic Hann window in samples."""
    hop: int
    padding: Literal["reflect", "none"]
    """`reflect`: a window at every hop of the segment, which is mirrored at its ends; `none`: only
    windows that lie inside the segment."""
    power: Literal[1, 2]
    """What the mel bank weighs: magnitudes (1) or powers (2)."""
    mels: int
    low_hz: float
    high_hz: float
    triangles: Literal["hertz", "mel"]
    """The axis on which the bank's filters have straight flanks."""
    scale: Literal["decibel", "natural"]
    """10 log10(x), or ln(x + offset)."""
    offset: float = 0.0
    floor_db: float | None = None
    """Decibels below the loudest cell of the segment at which values are cut off."""
    mean: float = 0.0
    std: float = 1.0

    @property
    def columns(self) -> int:
        """Width of a row's picture."""
        inside = self.segment if self.padding == "reflect" else self.segment - self.window
        return 1 + inside // self.hop

    @property
    def lead(self) -> int:
        """Where column 0's `n_fft` samples begin, counted from the segment's first sample.

        The window stands in their middle; outside of it they are weighed with zero.
        """
        return -(self.n_fft // 2) if self.padding == "reflect" else -self._margin

    @property
    def behind(self) -> int:
        """How many of a segment's samples lie before the row's own."""
        return self.segment - 1 - self.ahead

    @property
    def edges(self) -> tuple[int, ...]:
        """Columns whose window reaches beyond the segment, and so sees its mirrored sound."""
        begins = [self.lead + self._margin + j * self.hop for j in range(self.columns)]
        return tuple(
            j for j, begin in enumerate(begins) if begin < 0 or begin + self.window > self.segment
        )

    @property
    def _margin(self) -> int:
        return (self.n_fft - self.window) // 2


def _emotion(segment: int, ahead: int) -> SpectrogramPreset:
    """The spectrogram of the audio-visual emotion line: windows of 20 ms every 10 ms, HTK mels."""
    return SpectrogramPreset(
        rate=44_100,
        segment=segment,
        ahead=ahead,
        n_fft=1024,
        window=882,
        hop=441,
        padding="reflect",
        power=2,
        mels=64,
        low_hz=0.0,
        high_hz=22_050.0,
        triangles="hertz",
        scale="decibel",
        floor_db=80.0,
        # Of the data that TSAV was trained on; the line's later networks kept them.
        mean=-14.8,
        std=19.895,
    )


PRESETS = {
    # JCA's: the sound of 32 frames that ends at the row, 45,599 samples (1.03 s), 64 x 104.
    "livia": _emotion(segment=45_599, ahead=0),
    # TSAV's: ten seconds, five of which lie after the row's frame, 64 x 1001.
    "tsav": _emotion(segment=441_000, ahead=220_500),
    # VGGish's: windows of 25 ms every 10 ms, 96 of them (15,600 samples). VGGish itself has no
    # rows; here its window is centred on the row: 7,799 samples lie before it and 7,800 after.
    "vggish": SpectrogramPreset(
        rate=16_000,
        segment=15_600,
        ahead=7_800,
        n_fft=512,
        window=400,
        hop=160,
        padding="none",
        power=1,
        mels=64,
        low_hz=125.0,
        high_hz=7_500.0,
        triangles="mel",
        scale="natural",
        offset=0.01,
    ),
}


class LogMel:
    """The transform of a preset, in float32 on one device."""

    def __init__(self, preset: SpectrogramPreset, device: torch.device) -> None:
        self.preset = preset
        window = torch.zeros(preset.n_fft)
        margin = (preset.n_fft - preset.window) // 2
        window[margin : margin + preset.window] = torch.hann_window(preset.window)
        self._window = window.to(device)
        self._bank = mel_bank(preset).to(device)

    def columns(self, line: Tensor, places: Tensor) -> Tensor:
        """Transform frames of a line of sound.

        Args:
            line: (samples,).
            places: (m,) where each frame of `n_fft` samples begins, or (m, n_fft) the place of
                each of its samples.

        Returns:
            (m, mels) normalised, without the floor.
        """
        if not len(places):
            return line.new_zeros(0, self.preset.mels)
        if places.ndim == 1:
            every = line.unfold(0, self.preset.n_fft, 1)
            blocks = [self._block(every.index_select(0, part)) for part in places.split(BLOCK)]
        else:
            blocks = [self._block(line[part]) for part in places.split(BLOCK)]
        return torch.cat(blocks)

    def _block(self, frames: Tensor) -> Tensor:
        preset = self.preset
        spectrum = torch.fft.rfft(frames.mul_(self._window))
        weighed = spectrum.real.square() + spectrum.imag.square()
        if preset.power == 1:
            weighed.sqrt_()
        if len(frames) < BLOCK:
            weighed = pad(weighed, (0, 0, 0, BLOCK - len(frames)))
        mels = (weighed @ self._bank)[: len(frames)]
        if preset.scale == "natural":
            scaled = mels.add_(preset.offset).log_()
        else:
            scaled = mels.clamp_(min=LEAST_POWER).log10_().mul_(10)
        return scaled.sub_(preset.mean).div_(preset.std)

    def pictures(self, columns: Tensor, index: Tensor) -> Tensor:
        """Put columns together to rows' pictures.

        The floor lies below each row's own maximum, so it comes after the slicing into rows.

        Args:
            columns: (k, mels).
            index: (n, columns) which of them a row has.

        Returns:
            (n, 1, mels, columns).
        """
        preset = self.preset
        pictures = columns.new_empty(len(index), 1, preset.mels, preset.columns)
        few = max(1, CELLS // pictures[:1].numel()) if len(index) else 1
        for part, picture in zip(index.split(few), pictures.split(few), strict=True):
            rows = columns.index_select(0, part.flatten()).view(*part.shape, -1)
            if preset.floor_db is not None:
                floor = rows.amax((1, 2), keepdim=True) - preset.floor_db / preset.std
                torch.maximum(rows.transpose(1, 2), floor, out=picture[:, 0])
            else:
                picture[:, 0] = rows.transpose(1, 2)
        return pictures


def mel_bank(preset: SpectrogramPreset) -> Tensor:
    """Give a preset's filters: (n_fft // 2 + 1, mels), peak 1, not normalised by area."""
    bins = preset.n_fft // 2 + 1
    if preset.triangles == "hertz":
        return melscale_fbanks(bins, preset.low_hz, preset.high_hz, preset.mels, preset.rate)
    at = _mel(torch.linspace(0, preset.rate / 2, bins, dtype=torch.float64))[:, None]
    low, high = (HTK_SCALE * math.log1p(f / HTK_BREAK_HZ) for f in (preset.low_hz, preset.high_hz))
    corners = torch.linspace(low, high, preset.mels + 2, dtype=torch.float64)
    below, peak, above = corners[:-2], corners[1:-1], corners[2:]
    rise, fall = (at - below) / (peak - below), (above - at) / (above - peak)
    return torch.minimum(rise, fall).clamp(min=0).float()


def _mel(hertz: Tensor) -> Tensor:
    return HTK_SCALE * torch.log1p(hertz / HTK_BREAK_HZ)
