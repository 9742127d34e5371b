"""Random 16-frame clips through PyAV and decord: `python tests/benchmarks/random_access.py`."""

from __future__ import annotations

import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from concord.extract.random_access import FrameReader

RATE = 25
CLIP = 16
READERS = ("pyav", "decord")
ROUNDS = 3
"""The best of so many is kept."""
VIDEOS = [(320, 240, 20), (640, 360, 60)]
"""Width, height, seconds."""
GROUPS = [12, 250]


def film(path: Path, width: int, height: int, seconds: int, group: int) -> Path:
    """Write an ordinary H.264 film of moving texture."""
    texture = np.random.default_rng(0).integers(0, 256, (height // 8, width // 4, 3), np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    with av.open(path, "w") as container:
        options = {"g": str(group), "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=Fraction(RATE), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(seconds * RATE):
            shift = index * 2 % width
            image = np.ascontiguousarray(texture[:, shift : shift + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def clips_per_second(reader: FrameReader, starts: list[int]) -> float:
    """Read clips that begin at some frames; CPU time, for the machine may be shared."""
    began = time.process_time()
    for start in starts:
        reader.read(range(start, start + CLIP))
    return len(starts) / (time.process_time() - began)


def measure(path: Path, starts: list[int]) -> tuple[dict[str, float], dict[str, float]]:
    """Give clips per second and seconds to open, by reader; the readers take turns."""
    best, opening = dict.fromkeys(READERS, 0.0), dict.fromkeys(READERS, float("inf"))
    for _ in range(ROUNDS):
        for name in READERS:
            began = time.process_time()
            with FrameReader(path, name) as reader:
                opening[name] = min(opening[name], time.process_time() - began)
                best[name] = max(best[name], clips_per_second(reader, starts))
    return best, opening


def main() -> None:
    """Measure and print."""
    print(
        "film                 gop   pyav  decord  pyav/decord  (clips per CPU second; opening: s)"
    )
    with tempfile.TemporaryDirectory() as folder:
        for (width, height, seconds), group in ((v, g) for v in VIDEOS for g in GROUPS):
            path = film(Path(folder) / f"{width}-{group}.mp4", width, height, seconds, group)
            starts = np.random.default_rng(1).integers(0, seconds * RATE - CLIP, 40).tolist()
            best, opening = measure(path, starts)
            ratio = best["pyav"] / best["decord"]
            rates = f"{best['pyav']:7.1f} {best['decord']:7.1f} {ratio:8.2f}"
            opened = f"{opening['pyav']:.3f} {opening['decord']:.3f}"
            print(f"{width}x{height} {seconds:3} s {group:10} {rates}        {opened}")


if __name__ == "__main__":
    main()
