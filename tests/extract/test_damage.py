"""Damage: what is given is right, what is not is named, and the rest of the file goes on."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from concord.cache import MediaError
from concord.extract.media import DamagedError, open_audio, open_video, probe

clips = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("clips.py"))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damage")


def given(path):
    """Frames of a damaged file, each checked to carry its own number, and the error."""
    frames = []
    with pytest.raises(
        DamagedError, match=rf"^{path.name}: damaged after \d+ frames: \w"
    ) as caught:
        # A list that is extended keeps what came before the error.
        frames.extend(open_video(path))
    assert [clips.number_of(frame.image) for frame in frames] == [frame.index for frame in frames]
    assert caught.value.given == len(frames)
    return frames, caught.value


HALVES = {
    "front.mp4": {"container": {"movflags": "faststart"}},
    "plain.mkv": {},
    "none.mkv": {"options": {"bf": "0"}},
    "cut.ts": {},
    "cut.flv": {},
    "cut.avi": {"codec": "mpeg4", "options": clips.MPEG4},
    "cut.webm": {"codec": "libvpx-vp9", "options": clips.VP9},
    "cut-fragments.mp4": {"container": clips.FRAGMENTS},
}


@pytest.mark.parametrize("share", [0.6, 0.77, 0.8])
@pytest.mark.parametrize("name", HALVES)
def test_a_cut_file_gives_what_is_left(folder, name, share):
    clip = clips.film(folder / name, 120, **HALVES[name])
    times = probe(clip.path).frame_times
    clips.halve(clip.path, share)
    try:
        frames = list(open_video(clip.path))
    except DamagedError:
        frames, _ = given(clip.path)
    else:
        # A format without a table may end between two frames.
        assert clip.path.suffix in {".ts", ".flv"}
    numbers = [frame.index for frame in frames]
    assert [clips.number_of(frame.image) for frame in frames] == numbers
    assert [frame.pts_s for frame in frames] == times[numbers].tolist()
    # In the last group of frames, one that is lost may lie between others that are not.
    assert numbers[:-3] == list(range(len(frames) - 3))
    assert 10 < len(frames) < 120


MIDDLES = {
    "middle.mp4": {},
    "middle.mkv": {},
    "middle.avi": {"codec": "mpeg4", "options": clips.MPEG4},
    "middle-hevc.mp4": {"codec": "libx265", "options": clips.X265},
}
DAMAGE = [(ranks, skip) for ranks in [(30,), (34, 35), (24,), (25,)] for skip in (0, 12)]


# HEVC has no checks in the inside of a picture: noise there is decoded as if it were meant.
@pytest.mark.parametrize(
    ("name", "ranks", "skip"),
    [
        (name, *damage)
        for name in MIDDLES
        for damage in DAMAGE
        if "hevc" not in name or not damage[1]
    ],
)
def test_a_damaged_middle_leaves_a_hole(folder, name, ranks, skip):
    clip = clips.film(folder / name, 96, **MIDDLES[name])
    clips.spoil(clip.path, ranks, skip)
    frames, error = given(clip.path)
    numbers = [frame.index for frame in frames]
    assert sorted([*numbers, *error.missing]) == list(range(96))
    assert set(range(20)) | set(range(48, 96)) <= set(numbers)
    assert 1 <= len(error.missing) <= 28
    assert [frame.pts_s for frame in frames] == pytest.approx([k / 25 for k in numbers])


def test_damage_costs_one_of_pictures_that_stand_alone(folder, media):
    pictures = [media.picture(k) for k in range(20)]
    path = media.write(folder / "damaged.mov", pictures, codec="png", pixels="rgb24")
    clips.spoil(path, [13])
    seen = []
    with pytest.raises(DamagedError, match=r"damaged\.mov: damaged after 13 frames: \w") as caught:
        seen.extend(open_video(path))
    assert [frame.index for frame in seen] == [k for k in range(20) if k != 13]
    assert caught.value.missing == (13,)
    assert all(np.array_equal(frame.image, pictures[frame.index]) for frame in seen)


def test_nothing_that_can_be_decoded(folder):
    clip = clips.film(folder / "nothing.mp4", 10)
    clips.spoil(clip.path, range(10))
    with pytest.raises(MediaError, match=r"none of its 10 frames can be decoded: \w") as caught:
        next(open_video(clip.path))
    assert not isinstance(caught.value, DamagedError)


def test_damaged_sound_leaves_a_gap(folder, media):
    path = media.write(folder / "gap.mka", sound=media.tone(1.0), sound_codec="flac")
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    content = path.read_bytes()
    path.write_bytes(content.replace(packets[5], b"\x55" * len(packets[5])))
    for rate in (None, 16_000):
        sounds = []
        with pytest.raises(DamagedError, match=r"gap\.mka: sound damaged after \d\.\d s: \w"):
            sounds.extend(open_audio(path, rate))
        ends = [sound.start_s + len(sound.samples) / sound.rate for sound in sounds]
        gaps = [b.start_s - end for end, b in zip(ends, sounds[1:], strict=False)]
        assert sum(gap > 0.05 for gap in gaps) == 1
        assert ends[-1] == pytest.approx(1.0, abs=2e-3)
