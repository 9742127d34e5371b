"""Decord behind its gate: the reference reader's very bytes, or a refusal that says why."""

from __future__ import annotations

import runpy
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import decord
import numpy as np
import pytest
from concord.cache import MediaError
from concord.extract.decord_reader import GateError, gate
from concord.extract.media import open_video
from concord.extract.random_access import FrameReader

clips = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("clips.py"))))

REFUSED = {
    "edit.mp4": "every packet has to be shown, found an edit list that",
    "stream.ts": "the container has to be MP4 or Matroska, found mpegts",
    "b.avi": "the container has to be MP4 or Matroska, found avi",
    "flash.flv": "the container has to be MP4 or Matroska, found flv",
    "av1.mp4": "the codec has to be H.264 or VP9, found libdav1d",
    "ten.mp4": "the codec has to be H.264 or VP9, found hevc",
    "sizes.ts": "the container has to be MP4 or Matroska, found mpegts",
}
PLAIN = {
    **{name: make for name, make in clips.WHOLE.items() if name not in REFUSED},
    **{
        f"turned{turn}.mp4": lambda path, turn=turn: clips.film(
            path, 30, turn=clips.matrix(*clips.TURNS[turn])
        )
        for turn in clips.TURNS
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("decord")


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_frames(folder, name):
    clip = PLAIN[name](folder / name)
    expected = list(open_video(clip.path))
    frames = list(open_video(clip.path, "decord"))
    assert [frame.index for frame in frames] == [frame.index for frame in expected]
    assert [frame.pts_s for frame in frames] == [frame.pts_s for frame in expected]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, expected, strict=True))
    with FrameReader(clip.path, "decord") as reader:
        for number in np.random.default_rng(0).permutation(len(expected))[:15].tolist():
            assert np.array_equal(reader.read([number])[0], expected[number].image)


@pytest.mark.parametrize("name", REFUSED)
def test_the_gate_names_the_rule(folder, name):
    clip = clips.WHOLE[name](folder / name)
    with pytest.raises(GateError, match=rf"^{name}: not for decord: {REFUSED[name]}"):
        gate(clip.path)
    with pytest.raises(GateError):
        next(open_video(clip.path, "decord"))
    assert [clips.number_of(frame.image) for frame in open_video(clip.path)] == clip.numbers


def two_pieces(path):
    """An edit list of two pieces, written over a file's own list by its own free space."""
    clips.film(path)
    content = path.read_bytes()
    at = content.index(b"elst") - 4
    entry = content[at + 16 : at + 28]
    size = int.from_bytes(content[at : at + 4])
    assert size == 28
    longer = (size + 12).to_bytes(4) + b"elst" + bytes(4) + (2).to_bytes(4) + entry + entry
    content = content[:at] + longer + content[at + size :]
    for kind in (b"edts", b"trak", b"moov"):
        place = content.index(kind) - 4
        grown = int.from_bytes(content[place : place + 4]) + 12
        content = content[:place] + grown.to_bytes(4) + content[place + 4 :]
    path.write_bytes(content)


FAULTS = {
    "two.mp4": (two_pieces, "(every packet|a track) has to be .*, found an edit list"),
    "cut.mkv": (
        lambda path: clips.halve(clips.film(path).path),
        "undamaged, found the file is cut",
    ),
    "noise.mp4": (
        lambda path: clips.spoil(clips.film(path).path, [30], 12),
        "undamaged, found damage: a frame is damaged",
    ),
    "broken.mp4": (
        lambda path: clips.spoil(clips.film(path).path, [30]),
        "undamaged, found damage: Invalid data",
    ),
    "mirror.mp4": (
        lambda path: clips.film(path, turn=clips.matrix(-1, 0, 0, 1)),
        "must not be mirrored",
    ),
    "four.mp4": (lambda path: clips.film(path, pixels="yuv444p"), "8-bit 4:2:0, found yuv444p"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_gate_refuses_faults(folder, name):
    make, rule = FAULTS[name]
    make(folder / name)
    with pytest.raises(GateError, match=rule):
        gate(folder / name)


def test_what_is_no_video(folder, tmp_path):
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(MediaError, match="cannot be opened"):
        gate(tmp_path / "text.mp4")


@pytest.mark.parametrize("name", ["edit.mp4", "stream.ts"])
def test_without_the_gate_decord_is_wrong(folder, name):
    clip = clips.WHOLE[name](folder / f"ungated-{name}")
    numbers = []
    with suppress(decord.DECORDError):
        reader = decord.VideoReader(str(clip.path), num_threads=1)
        numbers = [clips.number_of(reader.next().asnumpy()) for _ in range(len(reader))]
    assert numbers != clip.numbers
