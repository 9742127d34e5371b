"""Samples: a row's picture, clip or spectrogram by random access, as extraction would make it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..cache import MediaError
from .boxes import read_boxes
from .clips import Clips
from .damage import DamagedError
from .faces import list_crops, read_crop
from .kept import Kept
from .random_access import FrameReader
from .rows import frames_of_rows
from .windows import OUTSIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .boxes import Box
    from .dataset import Track
    from .presets import Preset
    from .sampling import LabelledTrack
    from .settings import VisualSettings
    from .windows import Window

    Images = dict[int, NDArray[np.uint8]]

OPEN_FILES = 32
"""Videos that are kept open."""
READ_FRAMES = 64
"""Frames that are read from a video at once, so that memory stays bounded."""


class Sample(NamedTuple):
    """What a network is given for one row."""

    values: Tensor
    """(3, side, side) or (3, T, side, side) uint8; or (1, mels, columns) float32."""
    zeros: Tensor | None = None
    """(T,) frames that are zero after normalisation; None for none."""


class Samples(Protocol):
    """What rows look or sound like."""

    @property
    def forward(self) -> bool:
        """Whether a source's rows are read much faster in their order."""
        ...

    def read(self, each: LabelledTrack, rows: Sequence[int]) -> dict[int, Sample]:
        """Give samples of some rows; those that are not to be had are left out.

        Args:
            each: The track.
            rows: Ascending.

        Raises:
            MediaError: Nothing can be had of this track.
        """
        ...

    def close(self) -> None:
        """Let go of all files."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """The frames in which a track's person is seen."""

    present: NDArray[np.int64]
    """Ascending."""
    frames: int
    """How many there are, with those that do not show the person."""
    boxes: Mapping[int, Box] | None = None

    def stand_ins(self, wanted: NDArray[np.int64], *, black: bool) -> NDArray[np.int64]:
        """Replace frames without the person by the one before, or the first; or by a black one."""
        place = np.searchsorted(self.present, wanted, "right") - 1
        found = self.present[place.clip(0)]
        if black:
            return np.where(found == wanted, wanted, OUTSIDE)
        return np.where(wanted == OUTSIDE, OUTSIDE, found)


class VisualSamples:
    """Pictures or clips, from videos or from folders of face crops."""

    def __init__(
        self,
        root: Path,
        settings: VisualSettings,
        preset: Preset,
        window: Window,
        *,
        clips: bool,
        margin: int = 0,
    ) -> None:
        """Prepare.

        Args:
            root: The data set's root.
            settings: The stream's: what it reads.
            preset: How a picture is resized and cropped.
            window: Which frames a clip has.
            clips: Whether samples have an axis of time.
            margin: Pixels by which the crop is larger on every side, for one that is moved.
        """
        self._root, self._reads, self._window, self._clips = root, settings.reads, window, clips
        self._preset = replace(preset, crop=preset.crop + 2 * margin)
        self._videos = Kept(FrameReader, lambda _: 1, OPEN_FILES, FrameReader.close)
        self.forward = self._reads != "faces"
        """See `Samples`."""

    def read(self, each: LabelledTrack, rows: Sequence[int]) -> dict[int, Sample]:
        """See `Samples`."""
        track = each.track
        if self._reads == "faces":
            folder = self._root / have(track.faces, track, "face folder")
            crops = list_crops(folder, each.total)
            present = np.array(list(crops), np.int64)
            shown = _Shown(present, int(present[-1]) + 1)
            return self._samples(track, shown, {row: row for row in rows}, _Crops(folder, crops))
        with self._videos.use(self._root / have(track.media, track, "media file")) as video:
            clocked = each.times is not None
            shown = self._shown(track, len(video) if clocked else min(len(video), each.total))
            return self._samples(track, shown, _frames(each, rows, shown, video), video)

    def close(self) -> None:
        """See `Samples`."""
        self._videos.close()

    def _shown(self, track: Track, frames: int) -> _Shown:
        if self._reads == "video":
            return _Shown(np.arange(frames), frames)
        boxes = read_boxes(self._root / have(track.boxes, track, "box file"), frames)
        return _Shown(np.array(sorted(boxes), np.int64), frames, boxes)

    def _samples(
        self,
        track: Track,
        shown: _Shown,
        frames: Mapping[int, int],
        source: _Crops | FrameReader,
    ) -> dict[int, Sample]:
        """Read samples of rows, each given with its own frame."""
        there = sorted(set(frames.values()) & set(shown.present.tolist()))
        black = self._window.edge == "black"
        numbers = {
            frame: shown.stand_ins(self._window.numbers(frame, shown.frames), black=black)
            for frame in there
        }
        found: dict[int, Sample] = {}
        for group in _groups(numbers):
            images = _images(source, numbers, group)
            found |= self._cut(track, shown, images, {frame: numbers[frame] for frame in group})
        return {row: found[frame] for row, frame in frames.items() if frame in found}

    def _cut(
        self,
        track: Track,
        shown: _Shown,
        images: Images,
        numbers: Mapping[int, NDArray[np.int64]],
    ) -> dict[int, Sample]:
        """Cut windows out of frames; those that lack a frame are left out."""
        clips = Clips(self._preset, self._window, 1, torch.device("cpu"))
        # A face folder and a box file show the person already.
        clips.part(track.region if self._reads == "video" else "whole", shown.boxes)
        for number in sorted(images):
            clips.add(np.array([number]), images[number][None])
        found: dict[int, Sample] = {}
        for frame, wanted in numbers.items():
            if set(wanted.tolist()) - {OUTSIDE} <= set(images):
                clip, blank = clips.clip(wanted, frame)
                zeros = blank if self._window.edge == "zero" and bool(blank.any()) else None
                found[frame] = Sample(clip if self._clips else clip[:, 0], zeros)
        return found


class _Crops:
    """A folder of face crops, read as a video is."""

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self._folder, self._names = folder, names

    def images(self, numbers: Sequence[int]) -> Images:
        read = {number: read_crop(self._folder / self._names[number]) for number in numbers}
        return {number: image for number, image in read.items() if image is not None}


def _frames(
    each: LabelledTrack, rows: Sequence[int], shown: _Shown, video: FrameReader
) -> dict[int, int]:
    """Give the frame of each row; on a clock of their own rows take the one that is shown."""
    if each.times is None:
        return {row: row for row in rows}
    own = np.zeros(len(video), np.bool_)
    own[shown.present] = True
    taken, _ = frames_of_rows(own, video.frame_times, each.times)
    return {row: int(taken[row]) for row in rows if taken[row] >= 0}


def have(path: str | None, track: Track, what: str) -> str:
    """Give a track's path; raises MediaError where it has none."""
    if path is None:
        raise MediaError(f"{track.name}: has no {what}")
    return path


def _groups(numbers: Mapping[int, NDArray[np.int64]]) -> Iterator[list[int]]:
    """Gather rows whose frames are read at once."""
    group: list[int] = []
    for row, wanted in numbers.items():
        if group and (len(group) + 1) * len(wanted) > READ_FRAMES:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _images(
    source: _Crops | FrameReader, numbers: Mapping[int, NDArray[np.int64]], rows: Sequence[int]
) -> Images:
    """Read the frames of some rows' windows; around damage, those of each row by itself."""
    wanted = np.unique(np.concatenate([numbers[row] for row in rows]))
    frames: list[int] = wanted[wanted != OUTSIDE].tolist()
    if isinstance(source, _Crops):
        return source.images(frames)
    with suppress(DamagedError):
        return dict(zip(frames, source.read(frames), strict=True))
    if len(rows) == 1:
        return {}
    alone = [_images(source, numbers, [row]) for row in rows]
    return {number: image for images in alone for number, image in images.items()}
