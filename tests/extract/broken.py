"""A data set of 60 sources, 20 of which cannot be read, each for another reason."""

from __future__ import annotations

import io
import os
import socket
import zipfile

import av
import numpy as np

GOOD, BAD = 40, 20
ROWS = 12
LABELS = "VA_Set/Train_Set"
KILLED = "killed"
"""Source at whose first picture the run's decoder is killed, each time."""


def _zip():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("video.txt", "no video")
    return content.getvalue()


def _noise(whole):
    """Leave the index, and fill all that it points to with noise."""
    start = whole.index(b"mdat") + 4
    end = whole.index(b"moov") - 4
    return whole[:start] + np.random.default_rng(1).bytes(end - start) + whole[end:]


CONTENT = {
    "empty": lambda _: b"",
    "text": lambda _: b"frame 1\nframe 2\n" * 200,
    "random": lambda _: np.random.default_rng(0).bytes(20_000),
    "zeros": lambda _: bytes(100_000),
    "page": lambda _: b"<!DOCTYPE html><html><body>404</body></html>",
    "archive": lambda _: _zip(),
    "head": lambda whole: whole[:300],
    "unindexed": lambda whole: whole.replace(b"moov", b"zzzz"),
    "nocodec": lambda whole: whole.replace(b"avc1", b"zzzz"),
    "noise": _noise,
    "playlist": lambda _: b"#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/a.ts\n",
    "concat": lambda _: b"ffconcat version 1.0\nfile ../good0.mp4\n",
}
"""Name of a source to the bytes of its file, made of those of a sound one."""


def build(root, media):
    """Write the data set; gives the names of the bad sources."""
    batch = root / "batch1"
    batch.mkdir(parents=True)
    for k in range(GOOD):
        pictures = [media.picture(k + 7 * frame) for frame in range(ROWS)]
        media.write(batch / f"good{k}.mp4", pictures)
        media.labels(root / LABELS / f"good{k}.txt", ROWS, k)
    whole = (batch / "good0.mp4").read_bytes()
    for name, made in CONTENT.items():
        (batch / f"{name}.mp4").write_bytes(made(whole))
    os.mkfifo(batch / "pipe.mp4")
    (batch / "folder.mp4").mkdir()
    (batch / "link.mp4").symlink_to("nowhere.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        # A socket's path may have 107 characters only.
        here = os.open(batch, os.O_PATH)
        listening.bind(f"/proc/self/fd/{here}/socket.mp4")
        os.close(here)
    media.write(batch / "soundonly.mp4", sound=media.tone(1))
    media.write(batch / f"{KILLED}.mp4", [media.picture(k) for k in range(ROWS)])
    media.write(batch / "badlabels.mp4", [media.picture(k) for k in range(ROWS)])
    bad = [*CONTENT, "pipe", "folder", "link", "socket", "soundonly", KILLED, "missing"]
    for k, name in enumerate(bad):
        media.labels(root / LABELS / f"{name}.txt", ROWS, 100 + k)
    (root / LABELS / "badlabels.txt").write_text("valence,arousal\n0.1,0.2\n0.1;0.2\n")
    bad.append("badlabels")
    assert len(bad) == BAD
    assert av.open(str(batch / "good0.mp4")).streams.video
    return bad
