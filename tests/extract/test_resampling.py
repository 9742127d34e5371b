"""Resampling in pieces: what torchaudio makes of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from concord.cache import MediaError
from concord.extract.media import Sound
from concord.extract.resampling import Resampler, resampled
from torchaudio.functional import resample

RATES = [
    (44_100, 16_000),
    (48_000, 44_100),
    (16_000, 44_100),
    (8000, 44_100),
    (22_050, 16_000),
    (44_100, 44_100),
    (96_000, 8000),
]
LENGTHS = [1, 7, 1000, 44_100, 150_001]


def noise(length, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)


def in_pieces(samples, source, target, piece):
    resampler = Resampler(source, target)
    parts = [resampler.push(samples[k : k + piece]) for k in range(0, len(samples), piece)]
    return np.concatenate([*parts, resampler.finish()])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("source", "target"), RATES)
def test_pieces_give_the_whole(source, target, length):
    samples = noise(length)
    whole = resample(torch.from_numpy(samples), source, target).numpy()
    found = [
        in_pieces(samples, source, target, piece)
        for piece in (1024, 1, 99_991)
        if length < 2000 or piece > 1
    ]
    assert all(part.shape == whole.shape and part.dtype == np.float32 for part in found)
    assert np.abs(found[0] - whole).max() < 2e-6
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_output_comes_while_input_comes():
    resampler = Resampler(48_000, 44_100)
    given = [len(resampler.push(noise(1024))) for _ in range(500)]
    assert sum(given) > 500 * 1024 * 44_100 / 48_000 - 2 * 44_100
    assert max(given) <= 44_100


def test_rates_without_a_common_divisor():
    with pytest.raises(MediaError, match="44099 samples per second cannot be resampled to 44100"):
        Resampler(44_099, 44_100)


def stretches(start, samples, rate, piece=1000):
    return [
        Sound(start + k / rate, rate, samples[k : k + piece]) for k in range(0, len(samples), piece)
    ]


def test_a_gap_starts_afresh_on_the_clock():
    first, second = noise(70_000, 1), noise(50_000, 2)
    sounds = [*stretches(0.25, first, 32_000), *stretches(5.5, second, 32_000)]
    found = list(resampled(iter(sounds), 16_000))
    cut = next(k for k, sound in enumerate(found) if sound.start_s >= 5)
    for part, samples, start in ((found[:cut], first, 0.25), (found[cut:], second, 5.5)):
        whole = resample(torch.from_numpy(samples), 32_000, 16_000).numpy()
        heard = np.concatenate([sound.samples for sound in part])
        assert heard.shape == whole.shape
        assert np.abs(heard - whole).max() < 2e-6
        begins = start + np.cumsum([0, *(len(sound.samples) for sound in part)])[:-1] / 16_000
        assert [sound.start_s for sound in part] == pytest.approx(begins.tolist(), abs=1e-9)


def test_a_change_of_rate_starts_afresh():
    sounds = [*stretches(0, noise(20_000), 20_000), *stretches(1, noise(40_000), 40_000)]
    found = list(resampled(iter(sounds), 10_000))
    assert sum(len(sound.samples) for sound in found) == 20_000
    assert {sound.rate for sound in found} == {10_000}
    assert any(sound.start_s == 1 for sound in found)


def test_what_came_before_an_error_is_given():
    def broken():
        yield from stretches(0, noise(500), 8000)
        raise MediaError("lost")

    seen = []
    with pytest.raises(MediaError, match="lost"):
        seen.extend(resampled(broken(), 16_000))
    assert sum(len(sound.samples) for sound in seen) == 1000
