"""Clips: small media files of every kind and fault, whose pixels carry their own numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BLOCK = 16
"""Pixels per side of the squares that carry a number's bits; large enough to survive encoding."""
RATE = Fraction(25)
B_FRAMES = {"bf": "3", "b_strategy": "0", "g": "24", "preset": "veryfast"}
SOUND_RATE = 44_100
FLASH = 20
"""Number of the white frame of a film with a burst of sound."""
FLASH_NUMBER = (1 << 48) - 1


@dataclass(frozen=True)
class Clip:
    """A file and what is true of it."""

    path: Path
    numbers: list[int]
    """The number that each frame's pixels carry."""
    times: list[float]
    """Seconds at which each frame is to be shown."""


def picture(number, height=96, width=128):
    """Squares, black or white, that spell a number in binary, row by row."""
    per_line = width // BLOCK
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range((height // BLOCK) * per_line):
        y, x = BLOCK * (bit // per_line), BLOCK * (bit % per_line)
        image[y : y + BLOCK, x : x + BLOCK] = 255 * (number >> bit & 1)
    return image


def number_of(image):
    """Read the number back."""
    height, width = image.shape[:2]
    per_line = width // BLOCK
    number = 0
    for bit in range((height // BLOCK) * per_line):
        y, x = BLOCK * (bit // per_line), BLOCK * (bit % per_line)
        number |= int(image[y + 4 : y + 12, x + 4 : x + 12].mean() > 128) << bit
    return number


def steps(count, rate=RATE, start=0.0):
    """The times of a constant rate."""
    return [start + float(k / rate) for k in range(count)]


def write(
    path: Path,
    numbers: list[int],
    times: list[float],
    size: tuple[int, int] = (96, 128),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    rate: Fraction = RATE,
    sound: np.ndarray | None = None,
    sound_start: float = 0.0,
    sound_codec: str = "aac",
    turn: Callable | None = None,
) -> Clip:
    """Write a film; `sound` is (samples,) float32, `turn` gets the stream before it is written."""
    constant = bool(np.allclose(np.diff(times), float(1 / rate)))
    # AVI takes its frame rate from the tick, so a finer one is for late and uneven frames only.
    tick = 1 / rate if constant and not times[0] else 1 / (rate * 20)
    with av.open(str(path), "w", options=container or {}) as output:
        video = output.add_stream(
            codec, rate=rate, options=B_FRAMES if options is None else options
        )
        (video.height, video.width), video.pix_fmt = size, pixels
        video.codec_context.time_base = tick
        if turn:
            turn(video)
        audio = (
            output.add_stream(sound_codec, rate=SOUND_RATE, layout="mono")
            if sound is not None
            else None
        )
        packets = []
        for number, time in zip(numbers, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.time_base = tick
            frame.pts = round(time / tick)
            packets += video.encode(frame)
        packets += video.encode(None)
        if audio is not None:
            packets += sound_packets(audio, sound, sound_start)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return Clip(path, list(numbers), list(times))


def sound_packets(audio, sound, start):
    packets = []
    for first in range(0, len(sound), 1024):
        part = np.ascontiguousarray(sound[None, first : first + 1024], np.float32)
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
        frame.pts = first + round(start * SOUND_RATE)
        packets += audio.encode(frame)
    return packets + audio.encode(None)


def film(path, count=60, start=0.0, **more):
    """A film of frames 0, 1, 2 and so on at a constant rate."""
    rate = more.get("rate", RATE)
    return write(path, list(range(count)), steps(count, rate, start), **more)


def edit_list(path, count=120, cut=25):
    """A cut by copying packets: the first frames stay in the file, and an edit list hides them."""
    whole = film(path.with_name(f"whole-{path.name}"), count)
    with av.open(str(whole.path)) as source, av.open(str(path), "w") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                off = round(cut / RATE / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - off, packet.dts - off, copy
                output.mux(packet)
    return Clip(path, list(range(cut, count)), steps(count - cut))


def burst(path, video_start=0.0, sound_start=0.0, count=50, **more):
    """A white frame, and a burst of sound that begins at the same instant."""
    times = steps(count, start=video_start)
    numbers = [FLASH_NUMBER if k == FLASH else k for k in range(count)]
    sound = np.zeros(round(2.5 * SOUND_RATE), np.float32)
    at = round((times[FLASH] - sound_start) * SOUND_RATE)
    sound[at : at + 4000] = 0.8 * np.sin(np.arange(4000) * 0.3)
    return write(path, numbers, times, sound=sound, sound_start=sound_start, **more)


def matrix(a, b, c, d):
    """What sets a stream's display matrix."""
    one = 1 << 16
    values = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30]
    return lambda stream: stream.set_display_matrix(values)


def other_size(path, count=12):
    """A second encoder goes on in the same stream, with frames of another size."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options=B_FRAMES)
        (stream.height, stream.width), stream.pix_fmt = (96, 128), "yuv420p"
        second = av.CodecContext.create("libx264", "w")
        (second.height, second.width), second.pix_fmt = (64, 192), "yuv420p"
        second.framerate, second.time_base = RATE, 1 / RATE
        packets = []
        for encoder, numbers in ((stream, range(count)), (second, range(count, 2 * count))):
            for number in numbers:
                image = picture(number, encoder.height, encoder.width)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, 1 / RATE
                packets += encoder.encode(frame)
            packets += encoder.encode(None)
        for packet in packets:
            packet.stream, packet.time_base = stream, 1 / RATE
            output.mux(packet)
    return delayed(Clip(path, list(range(2 * count)), steps(2 * count)), 2)


def delayed(clip, frames):
    """Some muxers delay all streams, so that no decoding time is negative."""
    return replace(clip, times=[time + frames / float(RATE) for time in clip.times])


def spoil(path, ranks, skip=0):
    """Overwrite video packets with noise, but for their first bytes."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(p.pos, bytes(p)) for p in container.demux(video=0) if p.size]
    for rank in ranks:
        at, size = content.index(packets[rank][1], packets[rank][0]), len(packets[rank][1])
        content[at + skip : at + size] = np.random.default_rng(rank).bytes(size - skip)
    path.write_bytes(content)


def halve(path, share=0.5):
    """Cut a file's end off."""
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])


VFR = [0.0, 0.04, 0.2, 0.24, 1.0, 1.5, 1.54, 1.58, 3.0, 3.04]
X265 = {"x265-params": "keyint=24:log-level=none", "preset": "ultrafast"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "24"}
MPEG4 = {"bf": "2", "qscale": "3", "g": "24"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
TURNS = {"90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0)}

WHOLE: dict[str, Callable[[Path], Clip]] = {
    "plain.mp4": film,
    "edit.mp4": edit_list,
    "stream.ts": lambda path: delayed(film(path), 2),
    "b.avi": lambda path: film(path, codec="mpeg4", options=MPEG4),
    "vfr.mp4": lambda path: write(path, list(range(10)), VFR, options={}),
    "late.mp4": lambda path: burst(path, video_start=0.5),
    "late.mkv": lambda path: burst(path, video_start=0.5),
    "late-sound.mp4": lambda path: burst(path, sound_start=0.5),
    "alone.mp4": lambda path: film(path, start=0.5),
    "ntsc.mkv": lambda path: film(path, rate=Fraction(30_000, 1001)),
    "flash.flv": lambda path: delayed(film(path), 2),
    "av1.mp4": lambda path: film(path, codec="libsvtav1", options={"preset": "12", "g": "24"}),
    "vp9.webm": lambda path: film(path, codec="libvpx-vp9", options=VP9),
    "ten.mp4": lambda path: film(path, codec="libx265", pixels="yuv420p10le", options=X265),
    "odd.mp4": lambda path: film(path, size=(127, 225), codec="libvpx-vp9", options=VP9),
    "fragments.mp4": lambda path: delayed(film(path, container=FRAGMENTS), 2),
    "one.mp4": lambda path: film(path, 1),
    "five.mp4": lambda path: film(path, 5),
    "sizes.ts": other_size,
}
"""Files without damage: what writes each of them."""

GATE_PASSES = {
    "plain.mp4",
    "late.mp4",
    "late-sound.mp4",
    "ntsc.mkv",
    "vp9.webm",
    "one.mp4",
    "vfr.mp4",
}
"""What decord at least has to be allowed."""
