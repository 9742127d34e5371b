"""Samples of sound: a row's spectrogram by random access, as extraction would make it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..cache import MediaError
from .damage import DamagedError
from .kept import Kept
from .media import Sound, open_audio, probe
from .row_spectrograms import RowSpectrograms
from .rows import row_times
from .samples import Sample, have
from .sound_line import SoundLine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .sampling import LabelledTrack
    from .spectrogram import SpectrogramPreset

SOUND_BYTES = 2 << 30
"""Sound that is kept in memory: some three hours."""


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """A source's sound in one piece, and its clock."""

    line: SoundLine
    frame_times: NDArray[np.float64]


class SoundSamples:
    """Spectrograms of rows, from sound that stays in memory while it is used."""

    forward = False
    """See `Samples`."""

    def __init__(self, root: Path, preset: SpectrogramPreset) -> None:
        self._root, self._preset = root, preset
        self._sounds = Kept(self._load, lambda heard: 4 * heard.line.kept, SOUND_BYTES, _nothing)

    def read(self, each: LabelledTrack, rows: Sequence[int]) -> dict[int, Sample]:
        """See `Samples`."""
        path = self._root / have(each.track.media, each.track, "media file")
        with self._sounds.use(path) as heard:
            line = heard.line
            times = _times(each, heard.frame_times)[list(rows)]
            there = line.heard(times)
            if not there.any():
                return {}
            firsts = (line.places(times[there]) - self._preset.behind).tolist()
            segments = np.stack([line.cut(first, first + self._preset.segment) for first in firsts])
        kept = [row for row, is_there in zip(rows, there, strict=True) if is_there]
        pictures = spectrograms(self._preset, segments)
        return {row: Sample(picture) for row, picture in zip(kept, pictures, strict=True)}

    def close(self) -> None:
        """See `Samples`."""
        self._sounds.close()

    def _load(self, path: Path) -> _Heard:
        found = probe(path)
        line = SoundLine(self._preset.rate)
        if found.audio_rate is not None:
            # What was decoded before and after damage is kept; between lies silence.
            with suppress(DamagedError):
                for sound in open_audio(path, self._preset.rate):
                    line.add(sound)
        return _Heard(_in_one_piece(line), found.frame_times)


def _times(each: LabelledTrack, frame_times: NDArray[np.float64]) -> NDArray[np.float64]:
    if each.times is not None:
        return each.times
    if not len(frame_times):
        raise MediaError(f"{each.track.source}: holds no frame, so its rows have no time")
    return row_times(frame_times, each.total)


def _nothing(_: _Heard) -> None:
    """Memory is let go by itself."""


def _in_one_piece(line: SoundLine) -> SoundLine:
    """Give the same line in a form that is cut fast."""
    whole = SoundLine(line.rate)
    if line.start_s is not None:
        whole.add(Sound(line.start_s, line.rate, line.cut(0, line.length)))
    return whole


def spectrograms(preset: SpectrogramPreset, segments: NDArray[np.float32]) -> Tensor:
    """Give the pictures of segments of sound (n, segment): (n, 1, mels, columns) float32.

    The segments are laid end to end, as the sound of rows that lie one segment apart.
    """
    at = (np.arange(len(segments)) * preset.segment + preset.behind) / preset.rate
    rows = RowSpectrograms(preset, at)
    rows.feed(Sound(0.0, preset.rate, segments.reshape(-1)))
    rows.finish()
    return torch.cat([pictures.values for pictures in rows.pictures()])
