"""Media: every frame is the right one at the right time, and what is broken says so."""

from __future__ import annotations

import os
import runpy
import socket
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from concord.cache import MediaError
from concord.extract.media import open_audio, open_video, probe

clips = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("clips.py"))))

FRAMES = 23
BAD = [
    "garbage",
    "empty",
    "missing",
    "folder",
    "cut",
    "zeros",
    "text",
    "list",
    "pipe",
    "socket",
    "device",
]
VIDEOS = {
    "h264.mp4": {"codec": "libx264", "options": {"bf": "0"}},
    "h264-b.mp4": {
        "codec": "libx264",
        "options": {"bf": "3", "b_strategy": "0", "x264opts": "b-adapt=0"},
    },
    "h264-b.mkv": {
        "codec": "libx264",
        "options": {"bf": "3", "b_strategy": "0", "x264opts": "b-adapt=0"},
    },
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"qscale": "2"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"qscale": "2"}},
    "mjpeg.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "rate.mp4": {"rate": Fraction(30000, 1001)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module", params=VIDEOS)
def video(request, folder, media):
    settings = VIDEOS[request.param]
    pictures = [media.picture(k) for k in range(FRAMES)]
    path = media.write(folder / request.param, pictures, **settings)
    return path, settings.get("rate", Fraction(10))


def decoded(path):
    with av.open(path) as container:
        return [
            (float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]


def test_every_frame_in_order(video, media):
    path, rate = video
    frames = list(open_video(path))
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert [media.number_of(frame.image) for frame in frames] == list(range(FRAMES))
    times = np.array([frame.pts_s for frame in frames])
    assert np.allclose(times, np.arange(FRAMES) / float(rate), atol=1.1e-3)
    assert all(frame.image.dtype == np.uint8 for frame in frames)


def test_probe_times_are_the_decoded_times(video):
    path, rate = video
    found = probe(path)
    # An AVI's made-up times count the decoder's delay.
    times = np.array([time for time, _ in decoded(path)])
    assert found.frame_times.tolist() == [frame.pts_s for frame in open_video(path)]
    assert np.allclose(found.frame_times, times - (times[0] if path.suffix == ".avi" else 0))
    assert found.frames == FRAMES
    assert (found.width, found.height, found.audio_rate) == (64, 64, None)
    assert found.rate == pytest.approx(float(rate), rel=0.05)


def test_the_b_frame_files_have_b_frames(video):
    path, _ = video
    if "-b" in path.name:
        with av.open(path) as container:
            packets = [p.pts for p in container.demux(video=0) if p.pts is not None]
        assert packets != sorted(packets)


def test_variable_rate(folder, media):
    times = [0, 40, 200, 210, 1000, 1500]
    path = media.write(folder / "vfr.mkv", [media.picture(k) for k in range(6)], times=times)
    assert np.allclose([frame.pts_s for frame in open_video(path)], np.array(times) / 1000)
    assert np.allclose(probe(path).frame_times, np.array(times) / 1000)


def test_a_video_that_starts_late(folder, media):
    path = media.write(
        folder / "late.mkv", [media.picture(k) for k in range(5)], times=[700, 800, 900, 1000, 1100]
    )
    assert [frame.pts_s for frame in open_video(path)] == pytest.approx([0.7, 0.8, 0.9, 1.0, 1.1])


def upright(image, matrix):
    """Move each pixel by the display matrix: (x, y) -> (a x + c y, b x + d y)."""
    a, b, c, d = matrix
    height, width = image.shape[:2]
    ys, xs = np.mgrid[:height, :width]
    at_x, at_y = a * xs + c * ys, b * xs + d * ys
    at_x, at_y = at_x - at_x.min(), at_y - at_y.min()
    out = np.zeros((at_y.max() + 1, at_x.max() + 1, 3), image.dtype)
    out[at_y, at_x] = image
    return out


@pytest.mark.parametrize(
    "matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)], ids=["90", "180", "270"]
)
def test_display_rotation_is_applied(folder, media, matrix):
    path = media.write(folder / f"turned{matrix}.mp4", [media.picture(0b1011, 32, 64)] * 3)
    (plain, *_) = (frame.image for frame in open_video(path))
    media.rotate(path, matrix)
    images = [frame.image for frame in open_video(path)]
    assert images[0].shape == ((32, 64, 3) if matrix[0] else (64, 32, 3))
    assert np.array_equal(images[0], upright(plain, matrix))
    assert not np.array_equal(plain, plain[::-1, ::-1])


def content_starts(sounds, wave):
    """Time at which a known wave begins in decoded sound, by its content, and how far it is off."""
    heard = np.concatenate([sound.samples for sound in sounds])
    part = slice(5000, 25_000)
    padded = np.pad(heard, 3000)
    lag = int(np.argmax(np.correlate(padded, wave[part], "valid"))) - 3000 - part.start
    same = heard[part.start + lag : part.stop + lag]
    distance = np.linalg.norm(same - wave[part]) / np.linalg.norm(wave[part])
    return sounds[0].start_s + lag / sounds[0].rate, distance


@pytest.mark.parametrize("start", [0.0, 1.3])
@pytest.mark.parametrize(
    ("name", "codec", "off", "distance"),
    [
        # An mp4's edit list counts in milliseconds.
        ("a.mp4", "aac", 1.1e-3, 0.5),
        ("b.mkv", "aac", 1.1e-3, 0.5),
        ("c.mkv", "pcm_s16le", 1e-9, 1e-3),
        ("d.mov", "pcm_s16le", 1e-9, 1e-3),
    ],
)
def test_sound_lies_on_the_containers_clock(folder, media, name, codec, off, distance, start):
    wave = media.tone(1.5)
    path = media.write(
        folder / f"{start}{name}",
        [media.picture(k) for k in range(30)],
        sound=wave,
        sound_codec=codec,
        sound_start=start,
    )
    sounds = list(open_audio(path))
    assert {sound.rate for sound in sounds} == {44_100}
    begins, far = content_starts(sounds, wave[0])
    assert begins == pytest.approx(start, abs=off)
    assert far < distance
    assert next(frame.pts_s for frame in open_video(path)) == 0


def test_channels_are_averaged(folder, media):
    wave = media.tone(0.3, channels=2)
    wave[1] *= -0.5
    path = media.write(folder / "stereo.mkv", sound=wave, sound_codec="pcm_s16le")
    sounds = list(open_audio(path))
    heard = np.concatenate([sound.samples for sound in sounds])
    assert heard.dtype == np.float32
    assert np.abs(heard - wave.mean(axis=0)).max() < 1e-4


def test_audio_only_and_video_only(folder, media):
    audio = media.write(folder / "only.m4a", sound=media.tone(0.5), sound_rate=48_000)
    silent = media.write(folder / "silent.mp4", [media.picture(k) for k in range(5)])
    with pytest.raises(MediaError, match=r"only\.m4a: has no video stream"):
        next(open_video(audio))
    with pytest.raises(MediaError, match=r"silent\.mp4: has no audio stream"):
        next(open_audio(silent))
    found = probe(audio)
    assert (found.width, found.rate, len(found.frame_times)) == (None, None, 0)
    assert found.audio_rate == 48_000
    assert probe(silent).audio_rate is None


@pytest.fixture(params=BAD)
def bad(request, tmp_path, media):
    path = tmp_path / f"{request.param}.mp4"
    match request.param:
        case "garbage":
            path.write_bytes(np.random.default_rng(0).bytes(20_000))
        case "empty":
            path.touch()
        case "zeros":
            path.write_bytes(bytes(20_000))
        case "text":
            path.write_text("valence,arousal\n" * 50)
        case "list":
            media.write(tmp_path / "other.mp4", [media.picture(k) for k in range(3)])
            path.write_text("ffconcat version 1.0\nfile other.mp4\n")
        case "pipe":
            os.mkfifo(path)
        case "socket":
            server = socket.socket(socket.AF_UNIX)
            server.bind(str(path))
            server.close()
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "cut":
            media.write(path, [media.picture(k) for k in range(40)])
            path.write_bytes(path.read_bytes()[:2000])
    return path


def test_what_cannot_be_opened_says_so(bad):
    for action in (
        lambda: next(open_video(bad)),
        lambda: next(open_audio(bad)),
        lambda: probe(bad),
    ):
        with pytest.raises(MediaError, match=rf"^{bad.name}: cannot be opened: \w"):
            action()


def test_files_are_closed(folder, media, tmp_path):
    path = media.write(folder / "closed.mp4", [media.picture(0)] * 5, sound=media.tone(0.5))

    def open_files():
        return [p.resolve() for p in Path("/proc/self/fd").iterdir() if p.resolve() == path]

    frames = open_video(path)
    next(frames)
    assert open_files()
    frames.close()
    list(open_audio(path))
    probe(path)
    assert not open_files()


# Every kind of whole file


@pytest.fixture(scope="module", params=clips.WHOLE)
def whole(request, folder):
    return clips.WHOLE[request.param](folder / request.param)


def test_every_frame_has_its_number_and_time(whole):
    frames = list(open_video(whole.path))
    assert [frame.index for frame in frames] == list(range(len(whole.numbers)))
    assert [clips.number_of(frame.image) for frame in frames] == whole.numbers
    # Matroska and FLV count in milliseconds.
    assert [frame.pts_s for frame in frames] == pytest.approx(whole.times, abs=0.51e-3)
    found = probe(whole.path)
    assert found.frame_times.tolist() == [frame.pts_s for frame in frames]
    assert (found.height, found.width) == frames[0].image.shape[:2]
    assert found.video_start_s == frames[0].pts_s


def test_the_edit_list_file_is_one(folder):
    clip = clips.edit_list(folder / "is-edit.mp4")
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert stream.frames == 120 > len(packets) > 95
    assert packets[0].is_discard


@pytest.mark.parametrize("turn", clips.TURNS)
def test_probe_tells_the_rotation(folder, turn):
    clip = clips.film(folder / f"{turn}.mp4", 3, turn=clips.matrix(*clips.TURNS[turn]))
    found = probe(clip.path)
    assert found.rotation == int(turn)
    assert (found.height, found.width) == next(open_video(clip.path)).image.shape[:2]
    assert found.width == (128 if turn == "180" else 96)


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)])
def test_mirrors_are_applied(folder, matrix):
    plain = next(open_video(clips.film(folder / "plain0.mp4", 1).path)).image
    clip = clips.film(folder / f"m{matrix}.mp4", 1, turn=clips.matrix(*matrix))
    assert np.array_equal(next(open_video(clip.path)).image, upright(plain, matrix))


@pytest.mark.parametrize(
    "name", ["http:x.mp4", "concat:a|b.mp4", "100% %03d é.mp4", "-i.mp4", "a?b#c.mp4", "file:x.mp4"]
)
def test_any_name_is_a_plain_file(tmp_path, monkeypatch, name):
    clips.film(tmp_path / "a.mp4", 2).path.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        assert len(list(open_video(path))) == 2
        assert probe(path).frames == 2


# Sound and pictures together

AVI = {"codec": "mpeg4", "options": clips.MPEG4, "sound_codec": "pcm_s16le"}
BURSTS = {
    "burst.mp4": {},
    "burst-late.mp4": {"video_start": 0.5},
    "burst-late-sound.mp4": {"sound_start": 0.5},
    "burst.mkv": {},
    "burst-late.mkv": {"video_start": 0.5},
    "burst-late-sound.mkv": {"sound_start": 0.5},
    "burst.ts": {},
    "burst-late.ts": {"video_start": 0.5},
    "burst-late-sound.flv": {"sound_start": 0.5},
    "burst.avi": AVI,
}


@pytest.mark.parametrize("rate", [None, 16_000])
@pytest.mark.parametrize("name", BURSTS)
def test_a_burst_and_a_flash_at_once(folder, name, rate):
    clip = clips.burst(folder / name, **BURSTS[name])
    frames = list(open_video(clip.path))
    (flash,) = (f.pts_s for f in frames if clips.number_of(f.image) == clips.FLASH_NUMBER)
    sounds = [s for s in open_audio(clip.path, rate) if np.abs(s.samples).max() > 0.2]
    burst = sounds[0].start_s + np.argmax(np.abs(sounds[0].samples) > 0.2) / sounds[0].rate
    assert burst == pytest.approx(flash, abs=2e-3)
    if "late-sound" not in name and clip.path.suffix in {".mp4", ".mkv"}:
        assert flash == pytest.approx(clip.times[clips.FLASH], abs=1e-3)


def test_long_films_need_little_memory(folder):
    options = {"preset": "ultrafast"}
    path = clips.film(folder / "long.mp4", 600, size=(480, 640), options=options).path
    status = Path("/proc/self/status")

    def resident():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    frames = open_video(path)
    next(frames)
    before = resident()
    highest = max(resident() for frame in frames if frame.index % 50 == 0)
    assert highest - before < 150 < 600 * 480 * 640 * 3 / 2**20
