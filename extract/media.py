"""Media files through PyAV: frames and sound with their times on the container's clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import av.logging
import numpy as np

from ..cache import MediaError

if TYPE_CHECKING:
    from av.container import InputContainer
    from numpy.typing import NDArray

GAP_SECONDS = 0.002
"""Sound goes on across smaller gaps: Matroska rounds times to milliseconds."""

# FFmpeg's logging through Python can lock up threads (PyAV threads 751 and 2276).
av.logging.set_level(av.logging.PANIC)


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame."""

    index: int
    pts_s: float
    """Presentation time in seconds on the container's clock."""
    image: NDArray[np.uint8]
    """(H, W, 3) RGB, display rotation applied."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A stretch of decoded sound."""

    start_s: float
    """Time of the first sample in seconds on the container's clock."""
    rate: int
    """Samples per second."""
    samples: NDArray[np.float32]
    """(samples,) mono: the mean of the channels."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a container says of itself."""

    width: int | None
    height: int | None
    rate: float | None
    """Average frames per second; no substitute for the frames' own times."""
    frame_times: NDArray[np.float64]
    """(frames,) seconds, sorted, read from the packets without decoding."""
    audio_rate: int | None


def follows(run: Sequence[Sound], sound: Sound) -> bool:
    """Whether a stretch begins where a run of stretches ends."""
    first = run[0]
    end = first.start_s + sum(len(part.samples) for part in run) / first.rate
    return sound.rate == first.rate and abs(sound.start_s - end) < GAP_SECONDS


def _open(path: Path) -> InputContainer:
    try:
        return av.open(path, metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{path.name}: cannot be opened: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def open_video(path: Path) -> Iterator[Frame]:
    """Decode a file's first video stream, frame by frame in display order.

    Raises:
        MediaError: The file cannot be opened, has no video, or is damaged; in the last case all
            frames before the damage have been given.
    """
    with closing(_open(path)) as container:
        if not container.streams.video:
            raise MediaError(f"{path.name}: has no video stream")
        stream = container.streams.video[0]
        stream.thread_count = 1
        index = 0
        try:
            for frame in container.decode(stream):
                image = _upright(frame.to_ndarray(format="rgb24", threads=1), frame.rotation)
                yield Frame(index, _time(frame.pts, stream.time_base), image)
                index += 1
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(
                f"{path.name}: damaged after {index} frames: {_reason(error)}"
            ) from error


def open_audio(path: Path) -> Iterator[Sound]:
    """Decode a file's first audio stream at its own rate, mixed to mono.

    Raises:
        MediaError: As for `open_video`; also where there is no sound at all.
    """
    with closing(_open(path)) as container:
        if not container.streams.audio:
            raise MediaError(f"{path.name}: has no audio stream")
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp")
        seconds = 0.0
        try:
            for frame in container.decode(stream):
                for plain in resampler.resample(frame):
                    samples = plain.to_ndarray().mean(axis=0, dtype=np.float32)
                    start = _time(plain.pts, plain.time_base)
                    seconds = start + len(samples) / plain.sample_rate
                    yield Sound(start, plain.sample_rate, samples)
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(
                f"{path.name}: sound damaged after {seconds:.1f} s: {_reason(error)}"
            ) from error


def probe(path: Path) -> Probe:
    """Read a container's streams and the times of its frames, without decoding.

    Raises:
        MediaError: The file cannot be opened.
    """
    with closing(_open(path)) as container:
        video = container.streams.video[0] if container.streams.video else None
        audio = container.streams.audio[0] if container.streams.audio else None
        times: list[float] = []
        if video is not None:
            try:
                times = [
                    _time(packet.pts, video.time_base)
                    for packet in container.demux(video)
                    if packet.pts is not None and not packet.is_discard
                ]
            except av.error.FFmpegError as error:
                raise MediaError(f"{path.name}: index is damaged: {_reason(error)}") from error
        return Probe(
            width=video.width if video else None,
            height=video.height if video else None,
            rate=float(video.average_rate) if video and video.average_rate else None,
            frame_times=np.sort(np.array(times, np.float64)),
            audio_rate=audio.rate if audio else None,
        )


def _time(pts: int | None, base: Any) -> float:
    if pts is None or base is None:
        raise ValueError("a frame without a time stamp")
    return float(pts * base)


def _upright(image: NDArray[Any], degrees: float) -> NDArray[np.uint8]:
    """Turn an image counter-clockwise by the container's display rotation (multiples of 90)."""
    turns = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
