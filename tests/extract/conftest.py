"""Real media for the tests: written with PyAV, each frame's pixels tell its number."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from torchvision.io import encode_jpeg

from . import clips


def picture(number, height=64, width=64):
    """Squares, black or white, that spell a number in binary, row by row."""
    return clips.picture(number, height, width)


def write(
    path,
    pictures=(),
    rate=Fraction(10),
    codec="libx264",
    pixels="yuv420p",
    options=None,
    times=None,
    sound=None,
    sound_rate=44_100,
    sound_codec="aac",
    sound_start=0.0,
):
    """Write a media file.

    Args:
        path: Where; its suffix chooses the container.
        pictures: (H, W, 3) uint8 each; none for a file without video.
        rate: Frames per second.
        codec: Video encoder.
        pixels: Its pixel format.
        options: Its options.
        times: Presentation time of each picture in milliseconds; by default from the rate.
        sound: (channels, samples) float32; None for a file without sound.
        sound_rate: Samples per second.
        sound_codec: Sound encoder.
        sound_start: Seconds before the sound begins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        video = audio = None
        if len(pictures):
            video = container.add_stream(codec, rate=rate, options=options or {})
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt = pixels
            video.codec_context.time_base = Fraction(1, 1000) if times else 1 / rate
        if sound is not None:
            layout = "mono" if len(sound) == 1 else "stereo"
            audio = container.add_stream(sound_codec, rate=sound_rate, layout=layout)
        for index, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = video.codec_context.time_base
            frame.pts = times[index] if times else index
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode(None))
        if sound is not None:
            for packet in _sound_packets(audio, sound, sound_rate, sound_start):
                container.mux(packet)
    return path


def _sound_packets(audio, sound, rate, start):
    layout = "mono" if len(sound) == 1 else "stereo"
    for first in range(0, sound.shape[1], 1024):
        part = np.ascontiguousarray(sound[:, first : first + 1024], np.float32)
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = first + round(start * rate)
        yield from audio.encode(frame)
    yield from audio.encode(None)


def rotate(path, matrix):
    """Write a display matrix (a, b, c, d) into the first track header of an mp4."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    values = [matrix[0] << 16, matrix[1] << 16, 0, matrix[2] << 16, matrix[3] << 16, 0, 0, 0]
    numbers = np.array([*values, 0x40000000], ">i4")
    content[place : place + 36] = numbers.tobytes()
    path.write_bytes(content)


def tone(seconds, rate=44_100, hertz=440.0, channels=1):
    """A rising tone, so that no two stretches of it are alike."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.4 * np.sin(2 * np.pi * (hertz + 100 * t) * t)
    return np.repeat(wave[None], channels, axis=0).astype(np.float32)


def write_labels(path, rows, seed=0):
    """A label file of `rows` rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).uniform(-1, 1, (rows, 2)).round(3)
    lines = [f"{valence},{arousal}" for valence, arousal in values]
    path.write_text("\n".join(["valence,arousal", *lines]) + "\n")
    return path


def write_crops(folder, rows, height=70, width=80, quality=90):
    """Numbered JPEG face crops of noise for some rows (from 0)."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        generator = torch.Generator().manual_seed(row)
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        data = encode_jpeg(image, quality=quality)
        (folder / f"{row + 1:05}.jpg").write_bytes(data.numpy().tobytes())
    return folder


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Small networks on shared cores: threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def media():
    """Writers of real files."""
    return SimpleNamespace(
        write=write,
        picture=picture,
        number_of=clips.number_of,
        rotate=rotate,
        tone=tone,
        labels=write_labels,
        crops=write_crops,
    )
