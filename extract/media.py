"""Media files: frames and sound with their numbers and times on the container's clock.

PyAV is the reference reader. It reads each file twice: once for its packets, which number and time
the frames, and once to decode. So a damaged part shifts no later frame: it leaves a hole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
import av.error
import numpy as np

from ..cache import MediaError
from .container import audio_stream, is_cut_short, open_container, reason, video_stream
from .conversion import display_matrix, rotation, to_image, to_mono
from .damage import DamagedError, damage
from .packets import demux, read_packets
from .sieve import Sieve, decode

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from .packets import Packets

__all__ = [
    "GAP_SECONDS",
    "DamagedError",
    "Frame",
    "Probe",
    "Reader",
    "Sound",
    "converted",
    "follows",
    "open_audio",
    "open_video",
    "probe",
    "require_video",
]

GAP_SECONDS = 0.002
"""Sound goes on across smaller gaps: Matroska rounds times to milliseconds."""

Reader = Literal["pyav", "decord"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame."""

    index: int
    """Its number in the presentation order of the whole file, damaged frames counted."""
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
    """What a container says of itself; None and zero where it has no such stream."""

    width: int | None
    """Pixels as displayed, after rotation."""
    height: int | None
    rotation: int
    """Degrees clockwise; already applied to width, height and every frame."""
    rate: float | None
    """Average frames per second; no substitute for the frames' own times."""
    frame_times: NDArray[np.float64]
    """(frames,) seconds, sorted, read from the packets without decoding."""
    video_codec: str | None
    video_start_s: float | None
    """Time of the first frame."""
    audio_codec: str | None
    audio_start_s: float | None
    """Time of the first sample, as the container has it."""
    audio_rate: int | None
    channels: int | None
    duration_s: float | None
    """Of the whole file, as the container has it."""

    @property
    def frames(self) -> int:
        """How many frames are shown."""
        return len(self.frame_times)


def follows(run: Sequence[Sound], sound: Sound) -> bool:
    """Whether a stretch begins where a run of stretches ends."""
    first = run[0]
    end = first.start_s + sum(len(part.samples) for part in run) / first.rate
    return sound.rate == first.rate and abs(sound.start_s - end) < GAP_SECONDS


def open_video(path: Path, reader: Reader = "pyav") -> Iterator[Frame]:
    """Decode a file's first video stream.

    Args:
        path: The file.
        reader: "decord" only takes files that pass its gate, and gives the same frames.

    Raises:
        MediaError: The file cannot be opened or has no frame that can be decoded; a GateError if
            decord cannot be trusted with it.
        DamagedError: At the end, if frames were damaged or the file is cut short.
    """
    if reader == "decord":
        from .decord_reader import decord_video

        yield from decord_video(path)
        return
    with closing(open_container(path)) as container:
        packets = read_packets(path, container, require_video(path, container))
    # Opened afresh: seeking back to the start is not exact in every format.
    with closing(open_container(path)) as container:
        yield from _frames(path, container, packets)


def _frames(path: Path, container: InputContainer, packets: Packets) -> Iterator[Frame]:
    stream = require_video(path, container)
    sieve = Sieve(packets)
    times = packets.times
    absent = np.ones(len(times), np.bool_)
    ranked = zip(range(len(packets.pts)), demux(container, stream), strict=False)
    for number, frame in decode(stream, ranked, sieve):
        if frame is not None:
            absent[number] = False
            yield Frame(number, float(times[number]), converted(path, number, frame))
    if absent.any() or packets.cut:
        why = (sieve.reason if absent.any() else packets.cut) or "a packet gives no frame"
        raise damage(path, np.flatnonzero(absent).tolist(), len(times), why)


def converted(path: Path, number: int, frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Convert a frame to an image; raises MediaError where its pixels cannot be converted."""
    try:
        return to_image(frame)
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(
            f"{path.name}: frame {number} cannot be converted: {reason(error)}"
        ) from error


def require_video(path: Path, container: InputContainer) -> VideoStream:
    """Find the video stream; raises MediaError where there is none."""
    stream = video_stream(container)
    if stream is None:
        raise MediaError(f"{path.name}: has no video stream that can be decoded")
    return stream


def open_audio(path: Path, rate: int | None = None) -> Iterator[Sound]:
    """Decode a file's first audio stream, mixed to mono.

    Args:
        path: The file.
        rate: Samples per second to resample to; by default the file's own. Each stretch between
            gaps is resampled as a whole, whatever the pieces it comes in.

    Raises:
        MediaError: The file cannot be opened or has no sound that can be decoded.
        DamagedError: At the end, if some of the sound was damaged; it leaves a gap.
    """
    sounds = _sounds(path)
    if rate is not None:
        from .resampling import resampled

        sounds = resampled(sounds, rate)
    yield from sounds


def _sounds(path: Path) -> Iterator[Sound]:
    faults: list[tuple[float, str]] = []
    given, end = 0, None
    with closing(open_container(path)) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(f"{path.name}: has no audio stream that can be decoded")
        for frame in _sound_frames(container, stream, faults):
            sound = _sound(path, frame, end)
            end = sound.start_s + len(sound.samples) / sound.rate
            given += 1
            yield sound
        if is_cut_short(path, container, stream):
            faults.append((end or 0.0, "the file is cut short"))
    if faults or not given:
        seconds, why = faults[0] if faults else (0.0, "it holds none")
        message = f"{path.name}: sound damaged after {seconds:.1f} s: {why}"
        raise DamagedError(message, given) if given else MediaError(message)


def _sound_frames(
    container: InputContainer, stream: AudioStream, faults: list[tuple[float, str]]
) -> Iterator[AudioFrame]:
    """Decode past all damage, noting where it is."""
    seconds = 0.0
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                seconds = float(packet.pts * packet.time_base)
            # An empty packet before the last would end the decoder.
            if not packet.size and packet.dts is not None:
                continue
            frames, fault = _try_decode(stream, packet)
            if fault or any(frame.is_corrupt for frame in frames):
                faults.append((seconds, fault or "a frame is damaged"))
            yield from (frame for frame in frames if not frame.is_corrupt)
    except av.error.FFmpegError as error:
        faults.append((seconds, reason(error)))


def _try_decode(
    stream: AudioStream, packet: Packet[AudioStream]
) -> tuple[list[AudioFrame], str | None]:
    try:
        return stream.decode(packet), None
    except (av.error.FFmpegError, ValueError) as error:
        return [], reason(error)


def _sound(path: Path, frame: AudioFrame, end: float | None) -> Sound:
    """Convert a frame; one without a time stamp goes on where the one before ended."""
    start = end if frame.pts is None or not frame.time_base else float(frame.pts * frame.time_base)
    if start is None:
        raise MediaError(f"{path.name}: its sound has no time stamps")
    try:
        return Sound(start, frame.sample_rate, to_mono(frame))
    except ValueError as error:
        raise MediaError(f"{path.name}: sound cannot be converted: {reason(error)}") from error


def probe(path: Path) -> Probe:
    """Read a container's streams and the times of its frames.

    One frame is decoded, for its display rotation.

    Raises:
        MediaError: The file cannot be opened, or its frames have no times.
    """
    with closing(open_container(path)) as container:
        video, audio = video_stream(container), audio_stream(container)
        turn = _first_rotation(container, video) if video else 0
        times = np.zeros(0)
        if video:
            with closing(open_container(path)) as again:
                times = read_packets(path, again, require_video(path, again)).times
        sides = (video.width, video.height) if video else (None, None)
        width, height = sides[::-1] if turn % 180 else sides
        return Probe(
            width=width,
            height=height,
            rotation=turn,
            rate=float(video.average_rate) if video and video.average_rate else None,
            frame_times=times,
            video_codec=video.codec_context.name if video else None,
            video_start_s=float(times[0]) if len(times) else None,
            audio_codec=audio.codec_context.name if audio else None,
            audio_start_s=_start(audio) if audio else None,
            audio_rate=audio.rate if audio else None,
            channels=audio.channels if audio else None,
            duration_s=container.duration / av.time_base if container.duration else None,
        )


def _start(stream: AudioStream) -> float | None:
    if stream.start_time is None or stream.time_base is None:
        return None
    return float(stream.start_time * stream.time_base)


def _first_rotation(container: InputContainer, stream: VideoStream) -> int:
    try:
        for frame in container.decode(stream):
            return rotation(display_matrix(frame))
    except (av.error.FFmpegError, ValueError):
        return 0
    return 0
