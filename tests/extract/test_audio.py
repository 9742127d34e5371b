"""Audio streams against one slice and torchaudio's own transforms, row by row."""

from __future__ import annotations

import itertools

import av
import numpy as np
import pytest
import torch
from concord.extract.audio import AudioStream
from concord.extract.backbones import build_backbone
from concord.extract.decoder import Decoder
from concord.extract.media import Sound, open_audio
from concord.extract.settings import AudioSettings
from concord.extract.spectrogram import PRESETS, LogMel, Waveform, join, segments
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.functional import resample
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

RATE = 44_100
LENGTH = 45_599


@pytest.fixture(scope="module")
def stream():
    chosen = AudioSettings(weights="seeded:2", dtype="float32")
    return AudioStream("audio/resnet18", chosen, torch.device("cpu"))


def one_row(samples):
    """One segment's picture: power mel, decibels below its own maximum, TSAV's constants."""
    mel = MelSpectrogram(RATE, n_fft=1024, win_length=882, hop_length=441, n_mels=64)(samples)
    decibels = 10 * torch.log10(mel.clamp(min=1e-10))
    decibels = decibels.clamp(min=decibels.max() - 80)
    assert torch.allclose(AmplitudeToDB("power", 80.0)(mel), decibels, atol=1e-4)
    return (decibels + 14.8) / 19.895


def naive_segment(line, start, time):
    """The samples that end at a time, one after the other; silence outside."""
    last = round((time - start) * RATE)
    out = np.zeros(LENGTH, np.float32)
    for k in range(LENGTH):
        where = last - (LENGTH - 1) + k
        if 0 <= where < len(line):
            out[k] = line[where]
    return out


@pytest.fixture(scope="module")
def film(tmp_path_factory, media):
    path = tmp_path_factory.mktemp("audio") / "film.mov"
    pictures = [media.picture(k) for k in range(40)]
    sound = media.tone(1.6)
    return media.write(path, pictures, sound=sound, sound_codec="pcm_s16le", sound_start=1.3)


def test_rows_equal_the_loop(stream, film, media):
    with Decoder() as decoder:
        waveform = join(decoder.audio(film), RATE)
        times = decoder.probe(film).frame_times
    item = stream.item("key", "track", 40, waveform, times)
    with av.open(film) as container:
        parts = [f.to_ndarray()[0] for f in container.decode(audio=0)]
    line = np.concatenate(parts).astype(np.float32) / 32768
    assert np.abs(line - media.tone(1.6)[0]).max() < 1e-4
    network = build_backbone("resnet18", "seeded:2", channels=1)
    for row in (0, 12, 13, 14, 34, 35):
        sound = naive_segment(line, 1.3, row / 10)
        with torch.inference_mode():
            expected = network(one_row(torch.from_numpy(sound))[None, None])[0].numpy()
        if 13 <= row <= 34:
            distance = np.linalg.norm(item.rows[row] - expected) / np.linalg.norm(expected)
            assert distance < 1e-4
        else:
            assert not item.rows[row].any()
    # Sound begins at 1.3 s and ends at 2.9 s; rows to 0.5 s later still hear its end.
    assert item.valid.tolist() == [13 <= row <= 34 for row in range(40)]
    assert np.allclose(item.times, np.arange(40) / 10)


def test_spectrogram_equals_the_loop():
    random = torch.Generator().manual_seed(0)
    sound = torch.randn(5, LENGTH, generator=random) * torch.tensor([1, 0.5, 1e-3, 10, 0])[:, None]
    found = LogMel(PRESETS["livia"])(sound)
    assert found.shape == (5, 1, 64, 104)
    assert PRESETS["livia"].columns == 104
    for row in range(5):
        assert torch.allclose(found[row, 0], one_row(sound[row]), atol=1e-4)


def test_the_floor_lies_below_each_rows_own_maximum():
    model = LogMel(PRESETS["livia"])
    t = torch.arange(LENGTH) / RATE
    quiet = 1e-4 * torch.sin(2 * torch.pi * 500 * t)
    alone = model(quiet[None])[0]
    beside = model(torch.stack([quiet * 1e6, quiet]))[1]
    assert torch.allclose(alone, beside, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 60),
    st.integers(1, 30),
    st.lists(st.floats(-2, 8), min_size=1, max_size=8),
    st.floats(-1, 1),
)
def test_segments_equal_a_loop(samples, length, times, start):
    line = torch.arange(1.0, samples + 1)
    found = segments(Waveform(start, 10, line), np.array(times), length)
    for row, time in enumerate(times):
        last = round((time - start) * 10)
        expected = [
            float(line[k]) if 0 <= k < samples else 0.0 for k in range(last - length + 1, last + 1)
        ]
        assert found[row].tolist() == expected


def cut(line, rate, start, pieces):
    """Cut a line into stretches at these samples."""
    ends = [0, *pieces, len(line)]
    return [Sound(start + a / rate, rate, line[a:b]) for a, b in itertools.pairwise(ends)]


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_seams_between_stretches_are_not_heard(media, rate):
    line = media.tone(2.0, rate, hertz=300)[0]
    found = join(cut(line, rate, 0.7, [rate // 3, rate // 2 + 7, rate + 100]), RATE)
    expected = resample(torch.from_numpy(line), rate, RATE)
    assert found.start_s == 0.7
    assert len(found.samples) == len(expected)
    assert torch.allclose(found.samples, expected, atol=1e-5)


def test_gaps_are_silence(media):
    line = media.tone(0.5)[0]
    sounds = [Sound(1.0, RATE, line[:1000]), Sound(1.1, RATE, line[:2000])]
    found = join(sounds, RATE).samples.numpy()
    assert np.array_equal(found[:1000], line[:1000])
    assert not found[1000:4410].any()
    assert np.array_equal(found[4410:], line[:2000])
    assert join(sounds, RATE).end_s == pytest.approx(1.1 + 2000 / RATE)


def test_a_slow_drift_is_followed():
    rate, count = 8000, 400
    sounds = [Sound(k * 0.0201, rate, np.ones(160, np.float32)) for k in range(count)]
    found = join(sounds, rate)
    assert found.end_s == pytest.approx((count - 1) * 0.0201 + 0.02, abs=3e-3)


def test_times_rounded_to_milliseconds_tear_no_holes(tmp_path, media):
    wave = media.tone(12)
    path = media.write(tmp_path / "a.mkv", sound=wave, sound_codec="pcm_s16le")
    sounds = list(open_audio(path))
    ends = [s.start_s + len(s.samples) / s.rate for s in sounds]
    gaps = [b.start_s - end for end, b in zip(ends, sounds[1:], strict=False)]
    assert max(map(abs, gaps)) > 5 / RATE
    with Decoder() as decoder:
        stretches = list(decoder.audio(path))
    assert len(stretches) == 2
    for found in (join(sounds, RATE), join(stretches, RATE)):
        assert len(found.samples) == wave.shape[1]
        assert np.abs(found.samples.numpy() - wave[0]).max() < 1e-4


def test_padding_of_the_last_batch_has_no_influence(stream, media):
    waveform = Waveform(0.0, RATE, torch.from_numpy(media.tone(2)[0]))
    times = np.arange(34) / 20
    whole = stream.item("key", "a", 34, waveform, times)
    short = stream.item("key", "a", 3, waveform, times)
    assert np.array_equal(whole.rows[:3], short.rows)
    assert whole.valid.all()


def test_rows_past_the_last_frame_go_on_in_time(stream, media):
    waveform = Waveform(0.0, RATE, torch.from_numpy(media.tone(1.0)[0]))
    item = stream.item("key", "a", 20, waveform, np.arange(10) / 10)
    assert np.allclose(item.times, np.arange(20) / 10)
    assert item.valid.tolist() == [row <= 15 for row in range(20)]


def test_recipe(stream):
    other = AudioStream("audio/x", AudioSettings(weights="seeded:3"), torch.device("cpu"))
    assert stream.recipe.weights != other.recipe.weights
    assert stream.recipe.spectrogram == PRESETS["livia"]
    assert (stream.recipe.dtype, other.recipe.dtype) == ("float32", "float16")
