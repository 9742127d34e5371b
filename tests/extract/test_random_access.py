"""Random access: the frame that was asked for, whatever the container's seeking does."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from concord.cache import MediaError
from concord.extract.media import DamagedError, open_video
from concord.extract.packets import numbered
from concord.extract.random_access import FrameReader, SeekingFrames, read_frames, runs

clips = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("clips.py"))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("random")


@pytest.fixture(scope="module", params=[name for name in clips.WHOLE if name != "sizes.ts"])
def clip(request, folder):
    return clips.WHOLE[request.param](folder / request.param)


def test_any_frames_in_any_order(clip):
    expected = [frame.image for frame in open_video(clip.path)]
    generator = np.random.default_rng(0)
    with FrameReader(clip.path) as reader:
        assert len(reader) == len(clip.numbers)
        assert reader.frame_times == pytest.approx(clip.times, abs=0.51e-3)
        for count in (1, 3, 8, 20):
            numbers = generator.integers(0, len(reader), count).tolist()
            images = reader.read(numbers)
            assert [clips.number_of(image) for image in images] == [
                clip.numbers[n] for n in numbers
            ]
            assert np.array_equal(images, [expected[number] for number in numbers])


def test_clips_of_consecutive_frames(folder):
    clip = clips.film(folder / "long.mp4", 150)
    with FrameReader(clip.path) as reader:
        for start in (134, 0, 20, 47, 134, 133):
            images = reader.read(range(start, start + 16))
            assert [clips.number_of(image) for image in images] == list(range(start, start + 16))


def test_seeking_is_used(folder, monkeypatch):
    clip = clips.film(folder / "seek.mkv", 120)
    starts = []
    seek = SeekingFrames._seek

    def watched(self, rank):
        found = seek(self, rank)
        starts.append(found[0])
        return found

    monkeypatch.setattr(SeekingFrames, "_seek", watched)
    with FrameReader(clip.path) as reader:
        reader.read([100, 30, 101, 2])
    assert len(starts) == 3
    assert starts[0] == 0 < starts[1] <= 30 < 72 <= starts[2] <= 100


def test_runs():
    rows = [(k, k, 1, k % 10 == 0, False) for k in range(100)]
    packets = numbered(rows, clips.RATE)
    assert list(runs([1, 2, 3, 12, 29, 60, 99], packets)) == [[1, 2, 3, 12, 29], [60], [99]]


def test_one_call(folder):
    clip = clips.film(folder / "one.mkv", 20)
    images = read_frames(clip.path, [19, 0, 19, 7])
    assert images.shape == (4, 96, 128, 3)
    assert images.dtype == np.uint8
    assert [clips.number_of(image) for image in images] == [19, 0, 19, 7]


@pytest.mark.parametrize("numbers", [[20], [-1], [3, 99], []])
def test_numbers_that_are_none(folder, numbers):
    clip = clips.film(folder / "few.mkv", 20)
    with pytest.raises(IndexError, match=r"few\.mkv: (has frames 0 to 19|no frame was asked for)"):
        read_frames(clip.path, numbers)


def test_a_damaged_frame_is_named_and_others_are_given(folder):
    clip = clips.film(folder / "hole.mp4", 96)
    clips.spoil(clip.path, [25])
    numbers = [0, 23, 24, 48, 95]
    with FrameReader(clip.path) as reader:
        assert [clips.number_of(image) for image in reader.read(numbers)] == numbers
        with pytest.raises(DamagedError, match=r"hole\.mp4: frame 30 cannot be decoded"):
            reader.read([50, 30])
        assert [clips.number_of(image) for image in reader.read([95, 3])] == [95, 3]


def test_frames_of_two_sizes(folder):
    clip = clips.other_size(folder / "sizes.ts")
    with FrameReader(clip.path) as reader:
        assert reader.read([0, 11]).shape == (2, 96, 128, 3)
        assert [clips.number_of(image) for image in reader.read([23, 12])] == [23, 12]
        with pytest.raises(MediaError, match="frames are not of one size"):
            reader.read([3, 20])


def test_files_are_closed(folder):
    clip = clips.film(folder / "closed.mp4", 20)
    read_frames(clip.path, [3])
    assert not [p for p in Path("/proc/self/fd").iterdir() if p.resolve() == clip.path]
