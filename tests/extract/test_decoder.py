"""The decoding child: the same frames through a pipe, and a parent that survives its death."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from concord.cache import MediaError
from concord.extract.decoder import CHUNK_FRAMES, Decoder
from concord.extract.media import open_audio, open_video, probe

FRAMES = 70


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("decoder")


@pytest.fixture(scope="module")
def film(folder, media):
    pictures = [media.picture(k) for k in range(FRAMES)]
    return media.write(folder / "film.mp4", pictures, sound=media.tone(25, 8000), sound_rate=8000)


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as decoder:
        yield decoder


def children():
    return {child.pid for child in multiprocessing.active_children()}


def test_chunks_hold_the_same_frames(decoder, film):
    chunks = list(decoder.video(film))
    frames = list(open_video(film))
    assert [len(chunk.images) for chunk in chunks] == [CHUNK_FRAMES, CHUNK_FRAMES, 6]
    assert [chunk.first for chunk in chunks] == [0, CHUNK_FRAMES, 2 * CHUNK_FRAMES]
    images = np.concatenate([chunk.images for chunk in chunks])
    assert np.array_equal(images, [frame.image for frame in frames])
    times = np.concatenate([chunk.times for chunk in chunks])
    assert times.tolist() == [frame.pts_s for frame in frames]


def test_stretches_hold_the_same_sound(decoder, film):
    stretches = list(decoder.audio(film))
    sounds = list(open_audio(film))
    assert 2 < len(stretches) < len(sounds) / 20
    assert stretches[0].start_s == sounds[0].start_s
    assert np.array_equal(
        np.concatenate([s.samples for s in stretches]), np.concatenate([s.samples for s in sounds])
    )
    for first, second in itertools.pairwise(stretches):
        end = first.start_s + len(first.samples) / first.rate
        assert second.start_s == pytest.approx(end, abs=1 / first.rate)


def test_probe(decoder, film):
    found, expected = decoder.probe(film), probe(film)
    assert found.frame_times.tolist() == expected.frame_times.tolist()
    assert (found.width, found.rate, found.audio_rate) == (64, expected.rate, 8000)


def test_one_child_serves_many_requests(decoder, film, folder):
    list(decoder.video(film))
    before = children()
    garbage = folder / "garbage.mp4"
    garbage.write_bytes(b"\0\1\2" * 5000)
    for _ in range(3):
        with pytest.raises(MediaError, match=r"garbage\.mp4: cannot be opened"):
            list(decoder.video(garbage))
        with pytest.raises(MediaError, match="cannot be opened"):
            decoder.probe(garbage)
        decoder.probe(film)
        list(decoder.audio(film))
    assert children() == before
    assert len(before) == 1


def test_chunks_before_damage_are_given(decoder, folder, media):
    pictures = [media.picture(k) for k in range(50)]
    path = media.write(folder / "damaged.mov", pictures, codec="png", pixels="rgb24")
    content = path.read_bytes()
    heads = [k for k in range(len(content)) if content.startswith(b"\x89PNG", k)]
    path.write_bytes(content[: heads[40]] + bytes(20) + content[heads[40] + 20 :])
    chunks = []
    with pytest.raises(MediaError, match="damaged after 40 frames"):
        # A list that is extended keeps what came before the error.
        chunks.extend(decoder.video(path))
    images = np.concatenate([chunk.images for chunk in chunks])
    assert np.array_equal(images, pictures[:40])


def test_a_caller_that_stops_early_gets_a_fresh_child(film, media):
    with Decoder() as decoder:
        answers = decoder.video(film)
        first = next(answers)
        assert media.number_of(first.images[0]) == 0
        answers.close()
        numbers = [media.number_of(i) for chunk in decoder.video(film) for i in chunk.images]
        assert numbers == list(range(FRAMES))


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_child_killed_while_it_answers(folder, media):
    # More than the pipe holds, so that the child is in the middle of its work.
    pictures = [media.picture(k, 256, 256) for k in range(150)]
    path = media.write(folder / "large.mp4", pictures, options={"preset": "ultrafast"})
    before = children()
    with Decoder() as decoder:
        answers = decoder.video(path)
        next(answers)
        (child,) = children() - before
        os.kill(child, signal.SIGKILL)
        with pytest.raises(MediaError, match=r"large\.mp4: the decoder crashed"):
            list(answers)
        assert sum(len(chunk.images) for chunk in decoder.video(path)) == 150
        (second,) = children() - before
        assert second != child
    assert children() == before


def test_a_child_killed_while_it_waits(film):
    before = children()
    with Decoder() as decoder:
        decoder.probe(film)
        (child,) = children() - before
        os.kill(child, signal.SIGKILL)
        wait_for(lambda: child not in children())
        assert len(decoder.probe(film).frame_times) == FRAMES
        assert sum(len(chunk.images) for chunk in decoder.video(film)) == FRAMES


def test_a_child_that_hangs_costs_its_limit(folder, film):
    fifo = folder / "fifo.mp4"
    os.mkfifo(fifo)
    before = children()
    with Decoder(answer_seconds=4) as decoder:
        decoder.probe(film)
        (child,) = children() - before
        began = time.monotonic()
        with pytest.raises(MediaError, match=r"fifo\.mp4: the decoder gave no answer within 4 s"):
            list(decoder.video(fifo))
        assert 3.5 < time.monotonic() - began < 8
        assert child not in children()
        assert len(decoder.probe(film).frame_times) == FRAMES


def test_a_slow_parent_is_no_hang(film):
    with Decoder(answer_seconds=4) as decoder:
        seen = 0
        for chunk in decoder.video(film):
            time.sleep(0.05)
            seen += len(chunk.images)
    assert seen == FRAMES


ORPHAN = """
import os, sys
from pathlib import Path
from concord.extract.decoder import Decoder
if __name__ == "__main__":
    import multiprocessing
    decoder = Decoder()
    decoder.probe(Path(sys.argv[1]))
    print(multiprocessing.active_children()[0].pid, flush=True)
    sys.stdin.read()
"""


def test_a_killed_parent_leaves_no_child(film, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(ORPHAN)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(film)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()

    def gone():
        try:
            stat = Path(f"/proc/{child}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return stat.rpartition(")")[2].split()[0] == "Z"

    wait_for(gone)
