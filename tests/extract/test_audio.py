"""Audio streams against torchaudio's transforms and the plain network, row by row."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from concord.cache import ConfigError
from concord.extract.audio import BATCH, AudioStream
from concord.extract.backbones import build_backbone
from concord.extract.media import Sound
from concord.extract.settings import AudioSettings
from concord.extract.spectrogram import PRESETS
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

RATE = 44_100
LENGTH = 45_599


@pytest.fixture(scope="module")
def stream():
    return make()


def make(name="audio/resnet18", weights="seeded:2", dtype="float32", **more):
    chosen = AudioSettings(weights=weights, dtype=dtype, **more)
    return AudioStream(name, chosen, torch.device("cpu"))


def plain_features(line, start, time):
    """The segment that ends at a time, sample by sample; then torchaudio and the plain network."""
    last = round((time - start) * RATE)
    segment = np.zeros(LENGTH, np.float32)
    for k in range(LENGTH):
        where = last - (LENGTH - 1) + k
        if 0 <= where < len(line):
            segment[k] = line[where]
    mel = MelSpectrogram(RATE, n_fft=1024, win_length=882, hop_length=441, n_mels=64)
    decibels = AmplitudeToDB("power", 80.0)(mel(torch.from_numpy(segment))[None])
    network = build_backbone("resnet18", "seeded:2", channels=1)
    with torch.inference_mode():
        return network((decibels[None] + 14.8) / 19.895)[0].numpy()


def distance(found, expected):
    """Relative distance of two vectors."""
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.fixture(scope="module")
def film(tmp_path_factory, media):
    path = tmp_path_factory.mktemp("audio") / "film.mov"
    pictures = [media.picture(k) for k in range(40)]
    sound = media.tone(1.6)
    return media.write(path, pictures, sound=sound, sound_codec="pcm_s16le", sound_start=1.3)


def test_rows_equal_the_loop(stream, film, media):
    with av.open(film) as container:
        frames = list(container.decode(audio=0))
    sounds = [
        Sound(float(frame.pts * frame.time_base), RATE, np.float32(frame.to_ndarray()[0] / 32768))
        for frame in frames
    ]
    line = np.concatenate([sound.samples for sound in sounds])
    assert np.abs(line - media.tone(1.6)[0]).max() < 1e-4
    item = stream.begin("key", "track", 40, np.arange(40) / 10)
    for sound in sounds:
        item.add(sound)
    found = item.finish()
    for row in (13, 14, 20, 34):
        assert distance(found.rows[row], plain_features(line, 1.3, row / 10)) < 1e-5
    # Sound begins at 1.3 s and ends at 2.9 s; rows to 0.5 s later still hear its end.
    assert found.valid.tolist() == [13 <= row <= 34 for row in range(40)]
    assert not found.rows[~found.valid].any()
    assert found.rows.shape == (40, 512)
    assert np.allclose(found.times, np.arange(40) / 10)


def test_a_faulty_row_would_be_seen(media):
    line = media.tone(1.6)[0]
    right = plain_features(line, 0.0, 1.2)
    assert distance(plain_features(line, 0.0, 1.2 + 1 / RATE), right) > 1e-4
    assert distance(plain_features(line, 0.0, 1.2 + 441 / RATE), right) > 1e-4


@pytest.mark.parametrize("sizes", [[RATE * 9], [1024], [1, 5000, 333]])
def test_stretches_have_no_influence(stream, media, sizes):
    line, item = media.tone(2.0)[0], stream.begin("key", "a", 50, np.arange(50) / 25)
    whole = stream.begin("key", "a", 50, np.arange(50) / 25)
    whole.add(Sound(0.2, RATE, line))
    at, turn = 0, 0
    while at < len(line):
        size = sizes[turn % len(sizes)]
        item.add(Sound(0.2 + at / RATE, RATE, line[at : at + size]))
        at, turn = at + size, turn + 1
    one, other = whole.finish(), item.finish()
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.valid, other.valid)


def test_padding_of_the_last_batch_has_no_influence(stream, media):
    sound, times = Sound(0.0, RATE, media.tone(2)[0]), np.arange(BATCH + 2) / 20
    items = [stream.begin("key", "a", rows, times) for rows in (BATCH + 2, 3)]
    for item in items:
        item.add(sound)
    whole, short = (item.finish() for item in items)
    assert np.array_equal(whole.rows[:3], short.rows)
    assert whole.valid.all()


def test_rows_past_the_last_frame_go_on_in_time(stream, media):
    item = stream.begin("key", "a", 20, np.arange(10) / 10)
    item.add(Sound(0.0, RATE, media.tone(1.0)[0]))
    found = item.finish()
    assert np.allclose(found.times, np.arange(20) / 10)
    assert found.valid.tolist() == [row <= 15 for row in range(20)]


def test_no_sound_gives_invalid_rows(stream):
    found = stream.begin("key", "a", 7, np.arange(7) / 10).finish()
    assert found.rows.shape == (7, 512)
    assert not found.valid.any()
    assert not found.rows.any()


def test_silence_gives_finite_features(stream):
    item = stream.begin("key", "a", 3, np.arange(3) / 10)
    item.add(Sound(0.0, RATE, np.zeros(RATE, np.float32)))
    found = item.finish()
    assert found.valid.all()
    assert np.isfinite(found.rows).all()


def test_times_may_come_later(stream, media):
    item = stream.begin("key", "a", 5)
    sound = Sound(0.0, RATE, media.tone(1.0)[0])
    assert item.empty
    with pytest.raises(ValueError, match="a: the times of the frames must come before the sound"):
        item.add(sound)
    item.begin(np.arange(5) / 10)
    item.add(sound)
    assert not item.empty
    assert not item.done
    item.end()
    assert item.done
    known = stream.begin("key", "a", 5, np.arange(5) / 10)
    known.add(sound)
    assert np.array_equal(item.item().rows, known.finish().rows)


def test_another_rate_is_refused(stream):
    item = stream.begin("key", "a", 5, np.arange(5) / 10)
    with pytest.raises(ValueError, match="has 48000 samples per second, expected 44100"):
        item.add(Sound(0.0, 48_000, np.zeros(9, np.float32)))


@pytest.mark.parametrize("name", ["tsav", "vggish"])
def test_other_spectrograms(media, name):
    stream = make(spectrogram=name)
    assert stream.reads == "sound"
    item = stream.begin("key", "a", 4, np.arange(4) / 2)
    item.add(Sound(0.0, stream.preset.rate, media.tone(1.2, stream.preset.rate)[0]))
    found = item.finish()
    assert found.valid.tolist() == [True, True, True, True]
    assert len(np.unique(found.rows, axis=0)) == 4


def test_recipe(stream):
    other = make("audio/x", "seeded:3", "float16", backbone="resnet18")
    assert stream.recipe.weights != other.recipe.weights
    assert stream.recipe.backbone == other.recipe.backbone == "resnet18"
    assert stream.recipe.spectrogram == PRESETS["livia"]
    assert (stream.recipe.dtype, other.recipe.dtype) == ("float32", "float16")


def test_a_backbone_of_pictures_is_refused():
    with pytest.raises(ConfigError, match="audio/i3d: backbone 'i3d' takes clips, not spectro"):
        make("audio/i3d")
