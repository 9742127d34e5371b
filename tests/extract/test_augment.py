"""Augmentation against formulas in NumPy: one draw for all frames, and nothing outside a mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from concord.extract.augment import (
    PictureDraw,
    SoundDraw,
    augment_pictures,
    augment_spectrograms,
    draw_picture,
    draw_sound,
    generator,
)
from concord.extract.finetune_settings import FinetuneSettings
from concord.extract.sound_samples import spectrograms
from concord.extract.spectrogram import PRESETS
from hypothesis import given
from hypothesis import strategies as st

SETTINGS = FinetuneSettings(
    flip=0.5, jitter=0.4, shift=0.1, pitch=0.1, frequency_mask=0.25, time_mask=0.5
)


@pytest.fixture
def clips():
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 4, 12, 12), generator=rng, dtype=torch.uint8)


def test_the_plain_draw_is_the_centre_crop(clips):
    plain = augment_pictures(clips, [PictureDraw()] * 3, 8)
    assert torch.equal(plain, clips[..., 2:10, 2:10].float())


@pytest.mark.parametrize(
    ("draw", "top", "left"),
    [
        (PictureDraw(down=-1, right=-1), 0, 0),
        (PictureDraw(down=1, right=0), 4, 2),
        (PictureDraw(down=0.4, right=-0.6), 3, 1),
    ],
)
def test_the_crop_moves(clips, draw, top, left):
    moved = augment_pictures(clips[:1], [draw], 8)
    assert torch.equal(moved, clips[:1, ..., top : top + 8, left : left + 8].float())


def test_every_clip_has_its_own_draw_and_all_its_frames_the_same(clips):
    still = clips[:, :, :1].expand(-1, -1, 4, -1, -1)
    draws = [draw_picture(SETTINGS, generator(0, 1, place)) for place in range(3)]
    done = augment_pictures(still, draws, 8)
    assert torch.equal(done, done[:, :, :1].expand_as(done))
    for place in range(3):
        alone = augment_pictures(still[place : place + 1], draws[place : place + 1], 8)
        assert torch.allclose(alone[0], done[place])
    mirrored = augment_pictures(clips, [replace(draw, flip=not draw.flip) for draw in draws], 8)
    assert torch.allclose(mirrored.flip(-1), augment_pictures(clips, draws, 8), atol=1e-3)


def test_colours_follow_the_formula(clips):
    draw = PictureDraw(brightness=1.3, contrast=0.7, saturation=1.2)
    done = augment_pictures(clips[1:2], [draw], 12)[0].numpy()
    x = np.minimum(clips[1].numpy().astype(np.float64) * 1.3, 255)
    luma = np.array([0.299, 0.587, 0.114])[:, None, None, None]
    mean = (x * luma).sum(0).mean()
    x = mean + 0.7 * (x - mean)
    grey = (x * luma).sum(0)
    expected = np.clip(grey + 1.2 * (x - grey), 0, 255)
    assert done == pytest.approx(expected, abs=1e-3)


def test_draws_cover_what_the_settings_allow():
    draws = [draw_picture(SETTINGS, generator(0, 0, place)) for place in range(400)]
    assert 0.4 < np.mean([draw.flip for draw in draws]) < 0.6
    for name, low, high in (("down", -1, 1), ("right", -1, 1), ("brightness", 0.6, 1.4)):
        values = [getattr(draw, name) for draw in draws]
        span = high - low
        assert low <= min(values) < low + 0.05 * span
        assert high - 0.05 * span < max(values) <= high
    none = FinetuneSettings(flip=0, jitter=0)
    drawn = [draw_picture(none, generator(0, 0, place)) for place in range(20)]
    assert {replace(draw, down=0, right=0) for draw in drawn} == {PictureDraw()}


def test_a_draw_depends_on_seed_epoch_and_place_alone():
    def drawn(*key):
        return draw_picture(SETTINGS, generator(*key))

    assert drawn(3, 2, 1) == drawn(3, 2, 1)
    assert len({drawn(3, 2, 1), drawn(4, 2, 1), drawn(3, 3, 1), drawn(3, 2, 2)}) == 4


@given(st.integers(0, 2**32 - 1), st.integers(2, 64), st.integers(2, 200))
def test_masks_lie_inside_and_are_no_wider_than_allowed(seed, mels, columns):
    drawn = draw_sound(SETTINGS, mels, columns, np.random.default_rng(seed))
    assert abs(drawn.gain) <= SETTINGS.gain
    assert abs(drawn.raised) <= SETTINGS.pitch * mels
    places, heights = zip(*drawn.filter, strict=True)
    assert (places[0], places[-1]) == (0, mels - 1)
    assert list(places) == sorted(places)
    assert max(map(abs, heights)) <= SETTINGS.filter
    masks = drawn.bands, drawn.columns
    for (first, width), size, most in zip(masks, (mels, columns), (0.25, 0.5), strict=True):
        assert 0 <= first <= first + width <= size
        assert width <= most * size


def test_only_what_is_masked_is_changed():
    pictures = torch.rand(2, 1, 10, 20) + 1
    draws = [SoundDraw(bands=(2, 3), columns=(15, 5)), SoundDraw()]
    masked = augment_spectrograms(pictures, draws, PRESETS["livia"])
    expected = pictures.clone().numpy()
    for band in range(10):
        for column in range(20):
            if 2 <= band < 5 or 15 <= column < 20:
                expected[0, 0, band, column] = 0
    assert np.array_equal(masked.numpy(), expected)
    assert (pictures > 0).all()


@pytest.mark.parametrize("name", ["livia", "vggish"])
def test_a_gain_is_that_of_the_sound(name):
    preset = PRESETS[name]
    sound = np.random.default_rng(0).normal(0, 0.1, (2, preset.segment)).astype(np.float32)
    louder = sound * np.float32(10 ** (3 / 20))
    plain = spectrograms(preset, sound)
    found = augment_spectrograms(plain, [SoundDraw(gain=3.0)] * 2, preset)
    off = (found - spectrograms(preset, louder)).abs()
    # The offset of a natural scale weighs in where there is nearly silence.
    assert off.max() < (1e-4 if name == "livia" else 0.1)
    assert off.mean() < 0.01 * (found - plain).abs().mean()


@pytest.mark.parametrize(("name", "decibel"), [("livia", 1 / 19.895), ("vggish", np.log(10) / 20)])
def test_pitch_and_filter_follow_the_formula(name, decibel):
    preset, rng = PRESETS[name], np.random.default_rng(1)
    pictures = rng.normal(size=(3, 1, 12, 7))
    course = ((0.0, -2.0), (4.5, 5.0), (11.0, 1.0))
    draws = [SoundDraw(raised=3, filter=course), SoundDraw(raised=-2, gain=1.5), SoundDraw()]
    found = augment_spectrograms(torch.from_numpy(pictures), draws, preset).numpy()
    expected = np.empty_like(pictures)
    for k, draw in enumerate(draws):
        for band in range(12):
            source = min(max(band - draw.raised, 0), 11)
            left = (0.0, -2.0, 4.5, 7.0) if band < 4.5 else (4.5, 5.0, 6.5, -4.0)
            start, height, width, rise = left
            level = height + rise * (band - start) / width if draw.filter else draw.gain
            expected[k, 0, band] = pictures[k, 0, source] + level * decibel
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_higher_pitch_moves_sound_towards_higher_bands():
    preset = PRESETS["livia"]
    seconds = np.arange(preset.segment) / preset.rate
    tone = np.sin(2 * np.pi * 1000 * seconds).astype(np.float32)[None]
    plain = spectrograms(preset, tone)
    found = augment_spectrograms(plain, [SoundDraw(raised=3)], preset)
    loudest = [int(each[0, 0].mean(1).argmax()) for each in (plain, found)]
    assert loudest[1] == loudest[0] + 3
    higher = np.sin(2 * np.pi * 1400 * seconds).astype(np.float32)[None]
    assert spectrograms(preset, higher)[0, 0].mean(1).argmax() > loudest[0]


def test_all_that_is_drawn_can_be_switched_off():
    none = FinetuneSettings(gain=0, filter=0, pitch=0, frequency_mask=0, time_mask=0)
    pictures = torch.rand(4, 1, 64, 96)
    draws = [draw_sound(none, 64, 96, generator(0, 0, place)) for place in range(4)]
    assert torch.equal(augment_spectrograms(pictures, draws, PRESETS["livia"]), pictures)
