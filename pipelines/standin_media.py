"""Films of the stand-in: small pictures and a tone, in mp4 or avi, at any times."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
from av import AudioFrame, VideoFrame
from av.codec.context import Flags

from .demo_media import CLOCK, VIDEO_OPTIONS, mux_frames
from .demo_signal import GRID_RATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from .demo_face import Pictures
    from .demo_signal import FloatArray

SOUND_RATE = 16_000  # Hz
SOUND_FRAME = 1024  # samples
PITCH = 220.0  # Hz
RISE = 0.35  # octaves per sd of valence
SWELL = 6.0  # dB per sd of arousal
LEVEL = -22.0  # dB below full scale
HISS = 0.003


@dataclass(frozen=True, slots=True)
class Sound:
    """What is heard."""

    samples: NDArray[np.float32]
    """(channels, samples), -1 to 1."""
    start: int
    """Place of the first on the film's clock, in samples."""


def tone(
    rng: np.random.Generator, voice: FloatArray, frame_times: FloatArray, rate: float, end: float
) -> NDArray[np.float32]:
    """Sound a course of affect: valence moves a tone's pitch, arousal its loudness.

    Args:
        rng: Random numbers of this source: its own pitch, and noise.
        voice: (points, 2) at `GRID_RATE` from frame 0 on, as if frames had equal distances.
        frame_times: (frames,) seconds on the film's clock.
        rate: Frames per second, on average.
        end: Seconds on that clock.

    Returns:
        (samples,) from time 0 on.
    """
    times = np.arange(round(end * SOUND_RATE)) / SOUND_RATE
    even = np.arange(len(frame_times)) / rate
    # Beyond the first and last frame time goes on as it does everywhere.
    before, after = np.minimum(times - frame_times[0], 0), np.maximum(times - frame_times[-1], 0)
    told = np.interp(times, frame_times, even) + before + after
    valence, arousal = (np.interp(told * GRID_RATE, np.arange(len(v)), v) for v in voice.T)
    pitch = PITCH * 2 ** (rng.uniform(-0.2, 0.2) + RISE * valence)
    phase = 2 * np.pi * np.cumsum(pitch) / SOUND_RATE
    level = 10 ** (np.minimum(LEVEL + SWELL * arousal, -8.0) / 20)
    wave = level * (np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.25 * np.sin(3 * phase))
    return (wave + HISS * rng.standard_normal(len(times))).astype(np.float32)


def encode_film(kind: str, pictures: Pictures, times: FloatArray, sound: Sound | None) -> bytes:
    """Encode a film.

    Args:
        kind: mp4 (H.264 and AAC), or avi (MPEG-4 and plain samples), whose frames have equal
            distances and begin at 0 whatever `times` says.
        pictures: (frames, height, width, 3), RGB.
        times: (frames,) seconds on the film's clock, ascending.
        sound: None where the film is to have none.

    Returns:
        The bytes of the file, the same for the same input.
    """
    rate = Fraction((len(times) - 1) / float(times[-1] - times[0])).limit_denominator(1001)
    target = io.BytesIO()
    with av.open(target, "w", format=kind, options={"fflags": "+bitexact"}) as container:
        video, tick = _video(container, kind, rate, pictures)
        stamps = range(len(times)) if kind == "avi" else np.rint(times * CLOCK).astype(int).tolist()
        audio = _audio(container, kind, sound) if sound else None
        film = _frames(pictures, stamps, tick)
        mux_frames(container, video, film, audio, _sounds(sound) if sound else iter(()))
    return target.getvalue()


def _video(
    container: OutputContainer, kind: str, rate: Fraction, film: Pictures
) -> tuple[VideoStream, Fraction]:
    """Open a stream of pictures; give what its time stamps count, too."""
    if kind == "avi":
        tick = 1 / rate
        stream = container.add_stream("mpeg4", rate=rate, options={"threads": "1"})
    else:
        tick = Fraction(1, CLOCK)
        stream = container.add_stream("libx264", rate=rate, options=dict(VIDEO_OPTIONS))
    stream.height, stream.width = film.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = tick
    stream.codec_context.flags |= Flags.bitexact
    return stream, tick


def _audio(container: OutputContainer, kind: str, sound: Sound) -> AudioStream:
    codec: Literal["pcm_s16le", "aac"] = "pcm_s16le" if kind == "avi" else "aac"
    stream = container.add_stream(codec, rate=SOUND_RATE, layout=_layout(sound))
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _layout(sound: Sound) -> str:
    return "stereo" if len(sound.samples) == 2 else "mono"


def _frames(pictures: Pictures, stamps: range | list[int], tick: Fraction) -> Iterator[VideoFrame]:
    for picture, stamp in zip(pictures, stamps, strict=True):
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = stamp, tick
        yield frame


def _sounds(sound: Sound) -> Iterator[AudioFrame]:
    for first in range(0, sound.samples.shape[1], SOUND_FRAME):
        part = np.ascontiguousarray(sound.samples[:, first : first + SOUND_FRAME])
        frame = AudioFrame.from_ndarray(part, format="fltp", layout=_layout(sound))
        frame.sample_rate, frame.pts = SOUND_RATE, sound.start + first
        frame.time_base = Fraction(1, SOUND_RATE)
        yield frame
