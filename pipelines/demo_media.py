"""Writing of the demo data set's media: H.264 with AAC in mp4, JPEG crops, and broken files."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av import AudioFrame, VideoCodecContext, VideoFrame
from av.codec.context import Flags

from .demo_voice import SOUND_RATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from av.audio import AudioStream
    from av.container import OutputContainer
    from av.video import VideoStream

    from .demo_face import Pictures
    from .demo_voice import Wave

CLOCK = 90_000  # ticks per second of the video's time stamps
SOUND_FRAME = 1024  # samples, AAC's own frame length
SOUND_BITS = 96_000  # per second
VIDEO_OPTIONS = {
    "crf": "16",
    "preset": "veryfast",
    "bf": "0",
    "threads": "1",
    # x264's adaptive quantisation looks at memory that nobody wrote: on a used heap, 4 of 10 films
    # came out in other bytes; without it (and the macroblock tree that builds on it), 0 of 250.
    "x264-params": "aq-mode=0:mbtree=0",
}


def publish_file(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, then rename it: a kill leaves no half file.

    Without fsync, unlike the store: thousands of crops that can be made again at any time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_bytes(data)
    partial.replace(path)


def encode_mp4(pictures: Pictures, rate: Fraction, sound: Wave, sound_start: float) -> bytes:
    """Encode a film with sound.

    Args:
        pictures: (frames, height, width, 3), RGB; frame i is shown at i / rate.
        rate: Frames per second.
        sound: (samples,) at 44.1 kHz.
        sound_start: Seconds on the container's clock at which the sound begins.

    Returns:
        The bytes of an mp4 file, index last, the same for the same input.
    """
    target = io.BytesIO()
    with av.open(target, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = _video_stream(container, pictures, rate)
        audio = _audio_stream(container)
        film = (_video_frame(picture, index, rate) for index, picture in enumerate(pictures))
        sounds = _sound_frames(sound, round(sound_start * SOUND_RATE))
        mux_frames(container, video, film, audio, sounds)
    return target.getvalue()


def mux_frames(
    container: OutputContainer,
    video: VideoStream,
    film: Iterable[VideoFrame],
    audio: AudioStream | None,
    sounds: Iterator[AudioFrame],
) -> None:
    """Encode pictures and sound side by side, both to their ends; frames have their times."""
    heard = -1.0
    for picture in film:
        container.mux(video.encode(picture))
        while audio and heard < (picture.time or 0.0) and (frame := next(sounds, None)) is not None:
            heard = frame.time or 0.0
            container.mux(audio.encode(frame))
    if audio:
        for frame in sounds:
            container.mux(audio.encode(frame))
    container.mux([*video.encode(None), *(audio.encode(None) if audio else [])])


def encode_jpegs(pictures: Pictures) -> list[bytes]:
    """Encode pictures (rows, height, width, 3), RGB, as one JPEG each."""
    height, width = pictures.shape[1:3]
    encoder = VideoCodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    encoder.options = {"qmin": "2", "qmax": "3"}
    encoder.flags |= Flags.bitexact
    images: list[bytes] = []
    for index, picture in enumerate(pictures):
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuvj420p", dst_color_range="JPEG")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        images.extend(bytes(packet) for packet in encoder.encode(frame))
    return images


def _video_stream(container: OutputContainer, pictures: Pictures, rate: Fraction) -> VideoStream:
    stream = container.add_stream("libx264", rate=rate, options=dict(VIDEO_OPTIONS))
    stream.height, stream.width = pictures.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, CLOCK)
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _audio_stream(container: OutputContainer) -> AudioStream:
    stream = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
    stream.bit_rate = SOUND_BITS
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _video_frame(picture: Pictures, index: int, rate: Fraction) -> VideoFrame:
    frame = VideoFrame.from_ndarray(picture, format="rgb24")
    frame.pts, frame.time_base = round(index * CLOCK / rate), Fraction(1, CLOCK)
    return frame


def _sound_frames(sound: Wave, first: int) -> Iterator[AudioFrame]:
    """Cut a sound into encoder frames whose time stamps begin at sample `first`."""
    for start in range(0, sound.size, SOUND_FRAME):
        part = sound[start : start + SOUND_FRAME]
        frame = AudioFrame.from_ndarray(part[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SOUND_RATE, first + start
        frame.time_base = Fraction(1, SOUND_RATE)
        yield frame
