"""Log-mel spectrograms of the sound that ends at each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from .media import follows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .media import Sound


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrogramPreset:
    """How a row's sound becomes a picture."""

    rate: int
    """Samples per second."""
    segment: int
    """Samples of sound per row, the last one at the row's time."""
    n_fft: int
    window: int
    hop: int
    mels: int
    floor_db: float
    """Decibels below the loudest cell of the segment at which values are cut off."""
    mean: float
    std: float

    @property
    def columns(self) -> int:
        """Width of a segment's spectrogram."""
        return 1 + self.segment // self.hop


PRESETS = {
    # The audio-visual line of JCA: 20 ms windows every 10 ms, constants of TSAV's training set.
    "livia": SpectrogramPreset(
        rate=44_100,
        segment=45_599,
        n_fft=1024,
        window=882,
        hop=441,
        mels=64,
        floor_db=80.0,
        mean=-14.8,
        std=19.895,
    )
}


@dataclass(frozen=True, slots=True)
class Waveform:
    """A source's sound on the container's clock."""

    start_s: float
    rate: int
    samples: Tensor
    """(samples,) float32 mono; silence where the container has a gap."""

    @property
    def end_s(self) -> float:
        """Time just after the last sample."""
        return self.start_s + len(self.samples) / self.rate


def join(sounds: Iterable[Sound], rate: int) -> Waveform:
    """Lay stretches of sound (at least one) on one time line at `rate`.

    A run of stretches without gaps is resampled as one, so that no seam is heard.
    """
    parts = [(run[0].start_s, _at_rate(run, rate)) for run in _runs(sounds)]
    start = min(begin for begin, _ in parts)
    places = [round((begin - start) * rate) for begin, _ in parts]
    samples = torch.zeros(max(at + len(p) for at, (_, p) in zip(places, parts, strict=True)))
    for at, (_, part) in zip(places, parts, strict=True):
        samples[at : at + len(part)] = part
    return Waveform(start, rate, samples)


def _runs(sounds: Iterable[Sound]) -> Iterator[list[Sound]]:
    run: list[Sound] = []
    for sound in sounds:
        if run and not follows(run, sound):
            yield run
            run = []
        run.append(sound)
    yield run


def _at_rate(run: Sequence[Sound], rate: int) -> Tensor:
    samples = torch.from_numpy(np.concatenate([sound.samples for sound in run]))
    own = run[0].rate
    return samples if own == rate else resample(samples, own, rate)


def segments(waveform: Waveform, times: NDArray[np.float64], length: int) -> Tensor:
    """Cut the `length` samples that end at each time: (rows, length), zeros outside the sound."""
    ends = np.rint((times - waveform.start_s) * waveform.rate).astype(np.int64)
    where = torch.from_numpy(ends)[:, None] + torch.arange(-length + 1, 1)
    inside = (where >= 0) & (where < len(waveform.samples))
    cut = waveform.samples[where.clamp(0, len(waveform.samples) - 1)]
    return torch.where(inside, cut, 0.0)


class LogMel(torch.nn.Module):
    """(rows, samples) of sound to (rows, 1, mels, columns) normalised log-mel spectrograms."""

    def __init__(self, preset: SpectrogramPreset) -> None:
        super().__init__()
        self.preset = preset
        self.mel = MelSpectrogram(
            sample_rate=preset.rate,
            n_fft=preset.n_fft,
            win_length=preset.window,
            hop_length=preset.hop,
            n_mels=preset.mels,
            power=2.0,
        )
        self.to_db = AmplitudeToDB("power", top_db=preset.floor_db)

    def forward(self, sound: Tensor) -> Tensor:
        """Transform; the floor lies below each segment's own maximum."""
        decibels = self.to_db(self.mel(sound)[:, None])
        return (decibels - self.preset.mean) / self.preset.std
