"""Presets: equal to torchvision's own transforms on uint8 tensors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from concord.extract.presets import PRESETS
from torchvision.models import ResNet18_Weights
from torchvision.models.video import R3D_18_Weights

SIZES = [(240, 320), (480, 360), (113, 97), (60, 500), (256, 256), (128, 171), (1, 1)]


def pictures(size, count=2):
    g = torch.Generator().manual_seed(size[0])
    coarse = torch.rand(count, 3, max(1, size[0] // 5), max(1, size[1] // 5), generator=g)
    noise = 0.2 * torch.rand(count, 3, *size, generator=g)
    smooth = F.interpolate(coarse, size) * 0.8
    return ((smooth + noise) * 255).to(torch.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_pictures_as_torchvision_has_them(size):
    images = pictures(size)
    preset = PRESETS["imagenet"]
    found = preset.normalise(preset.prepare(images))
    assert torch.equal(found, ResNet18_Weights.IMAGENET1K_V1.transforms()(images))


@pytest.mark.parametrize("size", SIZES)
def test_clips_as_torchvision_has_them(size):
    frames = pictures(size, 4)
    preset = PRESETS["kinetics112"]
    clip = preset.prepare(frames).transpose(0, 1)[None]
    # (T, C, H, W) to (C, T, H, W)
    expected = R3D_18_Weights.KINETICS400_V1.transforms()(frames)
    assert torch.equal(preset.normalise(clip)[0], expected)


@pytest.mark.parametrize(("name", "crop"), [("imagenet", 224), ("kinetics112", 112), ("i3d", 224)])
def test_prepared_pictures_stay_uint8(name, crop):
    found = PRESETS[name].prepare(pictures((100, 130)))
    assert found.dtype == torch.uint8
    assert found.shape == (2, 3, crop, crop)


def test_antialias_is_on_for_pictures_and_off_for_clips():
    large = pictures((480, 640))
    for name, on in (("imagenet", True), ("i3d", True), ("kinetics112", False)):
        preset = PRESETS[name]
        size = (256, 341) if preset.resize == 256 else preset.resize
        sized = {
            antialias: F.interpolate(
                large.float(), size, mode="bilinear", antialias=antialias
            ).round()
            for antialias in (True, False)
        }
        top, left = ((n - preset.crop) / 2 for n in size)
        top, left = round(top), round(left)
        window = (..., slice(top, top + preset.crop), slice(left, left + preset.crop))
        found = preset.prepare(large).float()
        assert torch.equal(found, sized[on][window])
        assert (found - sized[not on][window]).abs().max() > 20


def test_small_pictures_get_black_borders():
    small = PRESETS["kinetics112"]
    narrow = type(small)((64, 100), False, 112, small.mean, small.std)
    found = narrow.prepare(torch.full((1, 3, 30, 30), 200, dtype=torch.uint8))
    assert found.shape == (1, 3, 112, 112)
    assert (found[..., 24:88, 6:106] == 200).all()
    assert int(found.to(torch.int64).sum()) == 200 * 3 * 64 * 100


def test_i3d_takes_minus_one_to_one():
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 256).expand(1, 3, 256)
    found = PRESETS["i3d"].normalise(values)
    expected = 2 * values.double() / 255 - 1
    assert (found.double() - expected).abs().max() < 2e-7
    assert found[0, 0, 0] == -1
    assert found[0, 0, 255] == 1


def test_channels_are_normalised_apart_in_any_type_and_layout():
    clip = torch.randint(0, 256, (2, 3, 4, 5, 6), dtype=torch.uint8)
    preset = PRESETS["kinetics112"]
    half = preset.normalise(clip, torch.bfloat16)
    assert half.dtype == torch.bfloat16
    last = preset.normalise(clip.contiguous(memory_format=torch.channels_last_3d))
    assert last.is_contiguous(memory_format=torch.channels_last_3d)
    for channel in range(3):
        mean, std = preset.mean[channel], preset.std[channel]
        expected = (clip[:, channel] / 255 - mean) / std
        torch.testing.assert_close(last[:, channel], expected)
        torch.testing.assert_close(half[:, channel].float(), expected, rtol=1e-2, atol=1e-2)
