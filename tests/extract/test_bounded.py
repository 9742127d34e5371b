"""Memory stays bounded, whatever the length of a video."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from concord.cache import FeatureStore

RATE, SOUND = 25, 44_100
MOST_BYTES = 2 << 30

RUN = """
import sys
from pathlib import Path
import torch
from concord.cache import FeatureStore
from concord.extract.affwild2 import scan
from concord.extract.compute import Workers
from concord.extract.engine import extract
from concord.extract.settings import AudioSettings, VisualSettings

if __name__ == "__main__":
    streams = {
        "visual/resnet18": VisualSettings(weights="seeded", stride=500),
        "audio/resnet18": AudioSettings(stride=500),
    }
    loaded = Workers(streams, "cpu")
    print("loaded", flush=True)
    sys.stdin.readline()
    extract(scan(Path(sys.argv[1])), streams, FeatureStore.create(sys.argv[2]))
"""


def write_film(path, seconds):
    """A 360p film with sound, packet by packet: no longer in memory than a frame."""
    path.parent.mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    images = [np.roll(picture, 8 * k, axis=1) for k in range(16)]
    frames = [
        av.VideoFrame.from_ndarray(i, format="rgb24").reformat(format="yuv420p") for i in images
    ]
    tone = np.sin(np.arange(SOUND) * 0.06).astype(np.float32)[None] * 0.3
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "crf": "45", "g": "250"}
        video = container.add_stream("libx264", rate=Fraction(RATE), options=options)
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        audio = container.add_stream("aac", rate=SOUND, layout="mono")
        for second in range(seconds):
            for k in range(RATE):
                frame = frames[(second * RATE + k) // 50 % 16]
                frame.pts, frame.time_base = second * RATE + k, Fraction(1, RATE)
                container.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            sound.sample_rate, sound.pts = SOUND, second * SOUND
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def anonymous(process):
    """Anonymous memory of a process and its children, in bytes."""
    total, todo = 0, [process]
    while todo:
        number = todo.pop()
        try:
            status = Path(f"/proc/{number}/status").read_text()
            todo += map(int, Path(f"/proc/{number}/task/{number}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(
            int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon")
        )
    return total


@pytest.mark.parametrize("seconds", [120, pytest.param(7200, marks=pytest.mark.slow)])
def test_anonymous_memory_of_all_processes_is_bounded(tmp_path, media, seconds):
    write_film(tmp_path / "data" / "batch1" / "1.mp4", seconds)
    media.labels(tmp_path / "data" / "VA_Set" / "Train_Set" / "1.txt", seconds * RATE)
    script = tmp_path / "run.py"
    script.write_text(RUN)
    words = [sys.executable, str(script), str(tmp_path / "data"), str(tmp_path / "store")]
    run = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "loaded\n"
    before, highest = anonymous(run.pid), [0]

    def watch():
        while run.poll() is None:
            highest[0] = max(highest[0], anonymous(run.pid))
            time.sleep(0.02)

    watching = threading.Thread(target=watch)
    watching.start()
    begun = time.monotonic()
    run.communicate("go\n")
    watching.join()
    assert run.returncode == 0
    beyond = highest[0] - before
    print(
        f"\n{seconds} s of video in {time.monotonic() - begun:.0f} s: {beyond >> 20} MiB beyond "
        f"the models' {before >> 20} MiB, all processes together"
    )
    assert beyond < MOST_BYTES
    store = FeatureStore(tmp_path / "store")
    for stream in store.streams():
        (item,) = stream.items.values()
        assert len(item.rows) == seconds * RATE
        assert item.valid.all()
        assert (item.flags == 0).sum() == -(-seconds * RATE // 500) + 1
