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
from concord.extract.decoder import (
    RECYCLED_AFTER,
    Decoder,
    DecoderCrashedError,
    DecoderLostError,
    Ended,
    FrameChunk,
    FrameTimes,
    Request,
    SoundChunk,
)
from concord.extract.decoding import CHUNK_BYTES, CHUNK_FRAMES
from concord.extract.media import open_audio, open_video, probe

FRAMES = 150
ENOUGH = 10**9


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


def video(path, frames=ENOUGH):
    return Request(kind="video", path=path, frames=frames)


def received(decoder, request):
    """All chunks, the times before them, and the problem at the end."""
    times, *chunks, ended = decoder.answers(request)
    assert isinstance(times, FrameTimes)
    assert isinstance(ended, Ended)
    return times.times, chunks, ended.problem


def numbers_in(media, chunks):
    return [media.number_of(image) for chunk in chunks for image in chunk.images]


def test_chunks_hold_the_same_frames(decoder, film):
    times, chunks, problem = received(decoder, video(film))
    frames = list(open_video(film))
    assert all(isinstance(chunk, FrameChunk) for chunk in chunks)
    assert [len(chunk.images) for chunk in chunks] == [CHUNK_FRAMES, CHUNK_FRAMES, 22]
    images = np.concatenate([chunk.images for chunk in chunks])
    assert np.array_equal(images, [frame.image for frame in frames])
    numbers = np.concatenate([chunk.numbers for chunk in chunks])
    assert numbers.tolist() == [frame.index for frame in frames] == list(range(FRAMES))
    assert times.tolist() == [frame.pts_s for frame in frames]
    assert problem == ""


def test_frames_beyond_what_is_wanted_are_not_sent(decoder, film):
    times, chunks, problem = received(decoder, video(film, 70))
    assert sum(len(chunk.images) for chunk in chunks) == 70
    assert (len(times), problem) == (FRAMES, "")


def test_large_pictures_come_in_small_chunks(decoder, folder, media):
    pictures = [media.picture(k, 720, 1280) for k in range(12)]
    path = media.write(folder / "wide.mp4", pictures, options={"preset": "ultrafast"})
    _, chunks, _ = received(decoder, video(path))
    assert max(chunk.images.nbytes for chunk in chunks) <= CHUNK_BYTES + pictures[0].nbytes
    assert numbers_in(media, chunks) == list(range(12))


def test_stretches_hold_the_same_sound(decoder, film):
    request = Request(kind="sound", path=film, rate=8000)
    times, stretches, problem = received(decoder, request)
    sounds = list(open_audio(film, 8000))
    assert all(isinstance(stretch, SoundChunk) for stretch in stretches)
    assert 2 <= len(stretches) < len(sounds) / 20
    assert stretches[0].start_s == sounds[0].start_s
    assert np.array_equal(
        np.concatenate([s.samples for s in stretches]), np.concatenate([s.samples for s in sounds])
    )
    for first, second in itertools.pairwise(stretches):
        end = first.start_s + len(first.samples) / first.rate
        assert second.start_s == pytest.approx(end, abs=1 / first.rate)
    assert times.tolist() == probe(film).frame_times.tolist()
    assert problem == ""


def test_a_file_without_sound_gives_its_times_alone(decoder, folder, media):
    path = media.write(folder / "silent.mp4", [media.picture(k) for k in range(5)])
    times, stretches, problem = received(decoder, Request(kind="sound", path=path, rate=8000))
    assert (len(times), stretches, problem) == (5, [], "")


def test_crops_come_with_their_rows(decoder, folder, media):
    crops = media.crops(folder / "faces", [0, 2, 5, 9])
    (crops / "00003.jpg").write_bytes(b"broken")
    request = Request(kind="faces", path=crops, frames=8)
    *chunks, ended = decoder.answers(request)
    assert [n for chunk in chunks for n in chunk.numbers.tolist()] == [0, 5]
    assert ended == Ended()


def test_one_child_serves_many_requests(decoder, film, folder):
    received(decoder, video(film))
    before = children()
    garbage = folder / "garbage.mp4"
    garbage.write_bytes(b"\0\1\2" * 5000)
    for _ in range(3):
        for kind in ("video", "sound"):
            (ended,) = decoder.answers(Request(kind=kind, path=garbage, rate=8000))
            assert ended.problem.startswith("garbage.mp4: cannot be opened")
        (ended,) = decoder.answers(Request(kind="faces", path=folder / "none", frames=3))
        assert ended.problem == "none: has no face folder"
        received(decoder, video(film))
    assert children() == before
    assert len(before) == 1


def test_a_child_is_recycled(film, monkeypatch):
    before = children()
    with Decoder() as decoder:
        received(decoder, video(film, 1))
        (first,) = children() - before
        decoder._asked = RECYCLED_AFTER
        received(decoder, video(film, 1))
        (second,) = children() - before
        assert second != first


def test_frames_around_damage_are_given_under_their_numbers(decoder, folder, media):
    pictures = [media.picture(k) for k in range(50)]
    path = media.write(folder / "damaged.mov", pictures, codec="png", pixels="rgb24")
    content = path.read_bytes()
    heads = [k for k in range(len(content)) if content.startswith(b"\x89PNG", k)]
    path.write_bytes(content[: heads[40]] + bytes(20) + content[heads[40] + 20 :])
    _, chunks, problem = received(decoder, video(path))
    numbers = [number for chunk in chunks for number in chunk.numbers.tolist()]
    assert numbers == [*range(40), *range(41, 50)]
    assert numbers_in(media, chunks) == numbers
    assert "damaged.mov" in problem


def test_a_caller_that_stops_early_gets_a_fresh_child(film, media):
    with Decoder() as decoder:
        answers = decoder.answers(video(film))
        next(answers)
        assert media.number_of(next(answers).images[0]) == 0
        answers.close()
        assert numbers_in(media, received(decoder, video(film))[1]) == list(range(FRAMES))


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
        answers = decoder.answers(video(path))
        next(answers)
        next(answers)
        (child,) = children() - before
        os.kill(child, signal.SIGKILL)
        with pytest.raises(DecoderCrashedError, match=r"large\.mp4: the decoder crashed"):
            list(answers)
        assert numbers_in(media, received(decoder, video(path))[1]) == list(range(150))
        (second,) = children() - before
        assert second != child
    assert children() == before


def test_a_child_killed_while_it_waits(film):
    before = children()
    with Decoder() as decoder:
        received(decoder, video(film, 1))
        (child,) = children() - before
        os.kill(child, signal.SIGKILL)
        wait_for(lambda: child not in children())
        assert len(received(decoder, video(film))[0]) == FRAMES


def test_a_child_that_hangs_costs_its_limit(film):
    before = children()
    with Decoder() as decoder:
        received(decoder, video(film, 1))
        (child,) = children() - before
        decoder._limit = 4
        os.kill(child, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(DecoderLostError, match=r"film\.mp4: .* no answer within 4 s"):
            list(decoder.answers(video(film)))
        assert 3.5 < time.monotonic() - began < 8
        assert child not in children()
        decoder._limit = 60  # On a busy machine the next child takes seconds to start.
        assert len(received(decoder, video(film))[0]) == FRAMES


def test_a_slow_parent_is_no_hang(film):
    with Decoder() as decoder:
        received(decoder, video(film, 1))
        decoder._limit = 1
        seen = 0
        for answer in decoder.answers(video(film)):
            time.sleep(1.2)
            seen += len(answer.images) if isinstance(answer, FrameChunk) else 0
    assert seen == FRAMES


ORPHAN = """
import os, sys
from pathlib import Path
from concord.extract.decoder import Decoder, Request
if __name__ == "__main__":
    import multiprocessing
    decoder = Decoder()
    list(decoder.answers(Request(kind="video", path=Path(sys.argv[1]), frames=1)))
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
