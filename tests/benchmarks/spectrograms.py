"""Speed of row spectrograms against making every row's spectrogram by itself.

    python tests/benchmarks/spectrograms.py [--threads 1] [--ffmpeg PATH]

A clip of 20 s, preset `livia`, no network behind it. Two other ways, paired with ours in turns
within one process, so that a noisy machine changes both sides; the medians of five runs are
printed. All sides have the same number of threads.

- The loop: cut each row's segment out of the decoded sound, torchaudio's transforms, one at a time.
- The published way: one ffmpeg process and one wav file per row, read and transformed; the first
  50 rows with a whole segment before them. Ours then begins at the file too: it decodes all of it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from concord.extract.media import Sound, open_audio
from concord.extract.row_spectrograms import RowSpectrograms
from concord.extract.spectrogram import PRESETS
from torch import Tensor
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

SECONDS, RATE, LENGTH, PAIRS, FILES = 20, 44_100, 45_599, 5, 50
LOOP_BAR, FILES_BAR = 5, 30
mel = MelSpectrogram(RATE, n_fft=1024, win_length=882, hop_length=441, n_mels=64)
to_db = AmplitudeToDB("power", 80.0)


def ours(sounds: list[Sound], times: np.ndarray) -> Tensor:
    """All rows' pictures."""
    rows = RowSpectrograms(PRESETS["livia"], times)
    parts = []
    for sound in sounds:
        rows.feed(sound)
        parts += [part.values for part in rows.pictures()]
    rows.finish()
    return torch.cat(parts + [part.values for part in rows.pictures()])


def transformed(segment: Tensor) -> Tensor:
    """One segment's picture: (1, mels, columns)."""
    return (to_db(mel(segment)[None]) + 14.8) / 19.895


def loop(line: Tensor, times: np.ndarray) -> Tensor:
    """The same, row by row."""
    padded = torch.cat([torch.zeros(LENGTH), line])
    ends = np.rint(times * RATE).astype(int) + 1
    return torch.stack([transformed(padded[end : end + LENGTH]) for end in ends.tolist()])


def files(path: Path, times: np.ndarray, folder: Path, ffmpeg: str) -> Tensor:
    """The same of a file, by a process and a wav per row."""
    pictures = []
    for row, moment in enumerate(times.tolist()):
        out = folder / f"{row}.wav"
        begin = f"{moment - (LENGTH - 1) / RATE:.6f}"
        command = [ffmpeg, "-y", "-v", "error", "-ss", begin, "-i", str(path), "-t", "1.0340"]
        subprocess.run([*command, "-ac", "1", "-ar", str(RATE), str(out)], check=True)
        with wave.open(str(out)) as sound:
            data = np.frombuffer(sound.readframes(LENGTH), "<i2").astype(np.float32) / 32768
        segment = torch.zeros(LENGTH)
        segment[LENGTH - len(data) :] = torch.from_numpy(data)
        pictures.append(transformed(segment))
    return torch.stack(pictures)


def paired(*ways: Callable[[], object]) -> list[float]:
    """Median seconds of each way, in turns."""
    spent: list[list[float]] = [[] for _ in ways]
    for turn in range(PAIRS + 1):
        for way, seconds in zip(ways, spent, strict=True):
            begun = time.perf_counter()
            way()
            if turn:  # the first is for warming up
                seconds.append(time.perf_counter() - begun)
    return [statistics.median(seconds) for seconds in spent]


def verdict(ratio: float, bar: float) -> str:
    """A ratio with its bar."""
    return f"{ratio:6.1f}x (at least {bar} wanted{'' if ratio >= bar else ': MISSED'})"


def against_loop(line: np.ndarray) -> None:
    """Print the first comparison."""
    for name, fps in (("25", 25), ("30", 30), ("29.97", 30_000 / 1001)):
        times = np.arange(int(SECONDS * fps)) / fps
        sounds = [Sound(k / RATE, RATE, line[k : k + 10 * RATE]) for k in (0, 10 * RATE)]
        plain = torch.from_numpy(line)
        difference = float((ours(sounds, times) - loop(plain, times)).abs().max())
        fast, slow = paired(lambda: ours(sounds, times), lambda: loop(plain, times))  # noqa: B023
        ratio = slow / fast
        # At odd rates hardly two rows share a column, and there is little to be saved.
        shown = f"{ratio:6.1f}x (no bar)" if name == "29.97" else verdict(ratio, LOOP_BAR)
        print(
            f"{name:>6} fps: {len(times) / fast:8.0f} rows/s, loop {len(times) / slow:6.0f}, "
            f"{shown}, largest difference {difference:.1e}"
        )


def against_files(line: np.ndarray, ffmpeg: str) -> None:
    """Print the second comparison."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "clip.wav"
        with wave.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(RATE)
            out.writeframes((line * 32767).astype("<i2").tobytes())
        every = np.arange(SECONDS * 30) / 30
        some = every[every > LENGTH / RATE][:FILES]
        fast, slow = paired(
            lambda: ours(list(open_audio(path)), every),
            lambda: files(path, some, folder, ffmpeg),
        )
        fast, slow = len(every) / fast, len(some) / slow
        print(
            f"from the file, 30 fps: {fast:8.0f} rows/s, a process and a wav per row "
            f"{slow:6.1f} rows/s, {verdict(fast / slow, FILES_BAR)}"
        )


def main() -> None:
    """Print all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{asked.threads} threads, medians of {PAIRS} paired runs")
    random = np.random.default_rng(0)
    line = (0.1 * random.standard_normal(SECONDS * RATE)).astype(np.float32)
    against_loop(line)
    if asked.ffmpeg:
        against_files(line, asked.ffmpeg)
    else:
        print("a process and a wav per row: could not be measured, there is no ffmpeg command")


if __name__ == "__main__":
    main()
