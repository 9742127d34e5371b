"""Visual streams against plain torchvision on the same pictures."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from concord.extract.decoder import FrameChunk
from concord.extract.forward import BATCHES
from concord.extract.settings import VisualSettings
from concord.extract.visual import VisualStream
from torchvision.models import resnet18
from torchvision.transforms._presets import ImageClassification

SETTINGS = {"weights": "seeded:4", "resize": 64, "crop": 64, "dtype": "float32"}
FRAMES = 36
BATCH = BATCHES["resnet18"]


def stream(**changes):
    settings = VisualSettings(**{**SETTINGS, **changes})
    return VisualStream("visual/resnet18", settings, torch.device("cpu"))


@pytest.fixture(scope="module")
def plain():
    return stream()


@pytest.fixture(scope="module")
def reference():
    """torchvision's network with the seed's weights, and its own preset for pictures."""
    torch.manual_seed(4)
    network = resnet18()
    network.fc = torch.nn.Identity()
    network.eval()
    preset = ImageClassification(crop_size=64, resize_size=64)

    @torch.inference_mode()
    def run(images):
        return network(torch.stack([preset(image) for image in images])).numpy()

    return run


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, media):
    """Frames of a real video, as a plain decoder gives them."""
    random = np.random.default_rng(1)
    noise = [random.integers(0, 256, (72, 96, 3), np.uint8) for _ in range(FRAMES)]
    path = media.write(tmp_path_factory.mktemp("visual") / "film.mp4", noise)
    with av.open(path) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def chunks(images, sizes):
    first = 0
    while first < len(images):
        size = sizes[first % len(sizes)]
        part = images[first : first + size]
        yield FrameChunk(first + np.arange(len(part)), part)
        first += size


def finished(worker, building):
    building.end()
    worker.flush()
    assert building.done
    return building.item()


def item(worker, images, rows=FRAMES, region="whole", sizes=(32,)):
    building = worker.begin("key", "track", rows, region)
    building.begin(np.arange(len(images)) / 10)
    for chunk in chunks(images, sizes):
        building.add(chunk)
    return finished(worker, building)


@pytest.fixture(scope="module")
def whole(plain, pictures):
    return item(plain, pictures)


def tensors(images):
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def close(found, expected, bound=5e-3):
    """Relative distance: the preset rounds resized pixels by another path (at most one level)."""
    distance = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return distance.max() < bound


@pytest.mark.parametrize("region", ["whole", "left", "right"])
def test_features_equal_torchvision(plain, reference, pictures, region):
    cut = {"whole": slice(None), "left": slice(0, 48), "right": slice(48, 96)}[region]
    found = item(plain, pictures, region=region)
    assert close(found.rows, reference(tensors(pictures[:, :, cut])))
    assert found.valid.all()
    assert not found.flags.any()
    assert np.allclose(found.times, np.arange(FRAMES) / 10)
    assert (found.key, found.track) == ("key", "track")


def test_the_bound_tells_preprocessings_apart(plain, reference, pictures):
    found = item(plain, pictures[:4], rows=4)
    assert not close(found.rows, reference(tensors(pictures[:4, ::-1])))
    assert not close(found.rows, reference(tensors(pictures[:4, :, :, ::-1])))
    shifted = np.clip(pictures[:4].astype(int) + 8, 0, 255).astype(np.uint8)
    assert not close(found.rows, reference(tensors(shifted)))


def test_crop_is_smaller_than_resize(reference, pictures):
    found = item(stream(resize=72, crop=64), pictures[:3], rows=3)
    expected = reference(tensors(pictures[:3, 4:68, 16:80]))
    assert close(found.rows, expected, 1e-5)


@pytest.mark.parametrize("sizes", [(1,), (31, 3), (36,)])
def test_chunking_has_no_influence(plain, pictures, whole, sizes):
    assert np.array_equal(item(plain, pictures, sizes=sizes).rows, whole.rows)


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH + 1])
def test_padding_of_the_last_batch_has_no_influence(plain, pictures, whole, count):
    found = item(plain, pictures[:count], rows=count)
    assert np.array_equal(found.rows, whole.rows[:count])


def test_float16_is_the_cast_of_float32(plain, pictures):
    half = item(stream(dtype="float16"), pictures[:5], rows=5).rows
    full = item(plain, pictures[:5], rows=5).rows
    assert half.dtype == np.float16
    assert np.array_equal(half, full.astype(np.float16))


def test_surplus_frames_are_dropped(plain, pictures, whole):
    found = item(plain, pictures, rows=10)
    assert found.rows.shape == (10, 512)
    assert np.array_equal(found.rows, whole.rows[:10])


def test_missing_frames_repeat_the_last_for_half_a_second(plain, pictures):
    found = item(plain, pictures[:8], rows=20)
    assert found.valid.tolist() == [True] * 13 + [False] * 7
    assert found.flags.tolist() == [0] * 8 + [1] * 5 + [0] * 7
    assert (found.rows[8:13] == found.rows[7]).all()
    assert not found.rows[13:].any()


def test_frames_may_change_their_size(plain, reference, pictures):
    building = plain.begin("key", "track", 6, "whole")
    building.begin(np.arange(6) / 10)
    narrow = np.ascontiguousarray(pictures[3:6, :, :72])
    building.add(FrameChunk(np.arange(3), pictures[:3]))
    building.add(FrameChunk(np.arange(3, 6), narrow))
    found = finished(plain, building)
    expected = [reference(tensors(pictures[:3])), reference(tensors(narrow))]
    assert close(found.rows, np.concatenate(expected))


def test_items_of_several_sources_share_batches(plain, pictures, whole):
    first, second = (plain.begin("key", "track", FRAMES, "whole") for _ in range(2))
    for building in (first, second):
        building.begin(np.arange(FRAMES) / 10)
    for one, other in zip(chunks(pictures, (5,)), chunks(pictures, (5,)), strict=True):
        first.add(one)
        second.add(other)
    first.end()
    assert not first.done
    assert np.array_equal(finished(plain, second).rows, whole.rows)
    assert first.done
    assert np.array_equal(first.item().rows, whole.rows)


def test_an_item_that_is_given_up_leaves_the_others_alone(plain, pictures, whole):
    gone, kept = (plain.begin("key", "track", FRAMES, "whole") for _ in range(2))
    for building in (gone, kept):
        building.begin(np.arange(FRAMES) / 10)
        building.add(FrameChunk(np.arange(5), pictures[:5]))
    plain.forget(gone)
    kept.add(FrameChunk(np.arange(5, FRAMES), pictures[5:]))
    assert np.array_equal(finished(plain, kept).rows, whole.rows)


def test_rows_of_frames_that_are_missing(plain, pictures, whole):
    """A gap of damaged frames: rows repeat the one before it for half a second."""
    building = plain.begin("key", "track", 20, "whole")
    building.begin(np.arange(20) / 10)
    building.add(FrameChunk(np.arange(4), pictures[:4]))
    building.add(FrameChunk(np.arange(12, 20), pictures[12:20]))
    found = finished(plain, building)
    assert found.valid.tolist() == [True] * 9 + [False] * 3 + [True] * 8
    assert found.flags.tolist() == [0] * 4 + [1] * 5 + [0] * 11
    assert np.array_equal(found.rows[12:], whole.rows[12:20])
    assert (found.rows[4:9] == whole.rows[3]).all()


@pytest.mark.parametrize("fill", ["linear", "nearest"])
def test_a_stride_computes_its_rows_and_the_last_and_says_so(pictures, whole, fill):
    worker = stream(stride=5, fill=fill)
    found = item(worker, pictures, rows=38)
    computed = [*range(0, FRAMES, 5)]
    assert computed[-1] == FRAMES - 1
    assert np.array_equal(found.rows[computed], whole.rows[computed])
    assert found.flags.tolist() == [
        (0 if row in computed else 2) if row < FRAMES else 1 for row in range(38)
    ]
    share = 0.4 if fill == "linear" else 0.0
    expected = whole.rows[5] * (1 - share) + whole.rows[10] * share
    assert np.allclose(found.rows[7], expected, rtol=1e-5, atol=1e-6)


def test_only_the_persons_box_is_seen(plain, pictures, whole, reference):
    boxes = {row: (row, 4, row + 50, 60) for row in range(FRAMES) if row != 3}
    worker = stream(reads="boxes")
    building = worker.begin("key", "track", FRAMES, boxes=boxes)
    building.begin(np.arange(FRAMES) / 10)
    building.add(FrameChunk(np.arange(FRAMES), pictures))
    found = finished(worker, building)
    cut = [pictures[row, 4:60, row : row + 50] for row in (0, 5, 20)]
    expected = np.concatenate([reference(tensors(part[None])) for part in cut])
    assert close(found.rows[[0, 5, 20]], expected)
    assert (found.flags[3], found.valid[3]) == (1, True)


def test_every_setting_is_in_the_recipe(plain):
    recipes = [
        plain.recipe,
        stream(weights="seeded:5").recipe,
        stream(resize=65).recipe,
        stream(crop=32).recipe,
        stream(dtype="float16").recipe,
        stream(reads="faces").recipe,
        stream(reads="boxes").recipe,
        stream(reader="decord").recipe,
        stream(stride=2).recipe,
        stream(stride=2, fill="nearest").recipe,
    ]
    assert len(set(recipes)) == len(recipes)
    assert stream().recipe == plain.recipe
    assert av.__version__ in plain.recipe.reader
