"""Visual streams against plain torchvision on the same pictures."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from concord.cache import MediaError
from concord.extract.decoder import FrameChunk
from concord.extract.settings import VisualSettings
from concord.extract.visual import BATCH, VisualStream
from torchvision.io import ImageReadMode, decode_image
from torchvision.models import resnet18
from torchvision.transforms._presets import ImageClassification

SETTINGS = {"weights": "seeded:4", "resize": 64, "crop": 64, "dtype": "float32"}
FRAMES = 36


def stream(**changes):
    settings = VisualSettings(**{**SETTINGS, **changes})
    return VisualStream("visual/resnet18", settings, torch.device("cpu"))


@pytest.fixture(scope="module")
def plain():
    return stream()


@pytest.fixture(scope="module")
def faces():
    return stream(reads="faces")


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
        times = (first + np.arange(len(part))) / 10
        yield FrameChunk(first, times, part)
        first += size


def item(worker, images, rows=FRAMES, region="whole", sizes=(32,)):
    building = worker.begin("key", "track", rows, region)
    for chunk in chunks(images, sizes):
        building.add(chunk)
    return building.finish()


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
    building.add(FrameChunk(0, np.arange(3) / 10, pictures[:3]))
    building.add(FrameChunk(3, np.arange(3, 6) / 10, np.ascontiguousarray(pictures[3:6, :, :72])))
    found = building.finish()
    expected = [reference(tensors(pictures[:3])), reference(tensors(pictures[3:6, :, :72]))]
    assert close(found.rows, np.concatenate(expected))


def test_crops_equal_torchvision(faces, reference, tmp_path, media):
    there = [0, 1, 4, *range(6, 38)]
    folder = media.crops(tmp_path / "102", there)
    found = faces.from_crops("key", "102", 42, folder)
    assert found.valid.tolist() == [row in there for row in range(42)]
    assert not found.rows[~found.valid].any()
    assert np.isnan(found.times).all()
    images = [
        decode_image(str(folder / f"{row + 1:05}.jpg"), mode=ImageReadMode.RGB) for row in there
    ]
    assert close(found.rows[found.valid], reference(images))


def test_surplus_crops_and_other_files_are_left_out(faces, tmp_path, media):
    exact = faces.from_crops("key", "a", 4, media.crops(tmp_path / "a", [0, 2, 3]))
    folder = media.crops(tmp_path / "b", [0, 2, 3, 4, 5, 900])
    (folder / "00000.jpg").write_bytes((folder / "00001.jpg").read_bytes())
    (folder / "2.jpg").write_bytes((folder / "00001.jpg").read_bytes())
    (folder / "._00002.jpg").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    found = faces.from_crops("key", "b", 4, folder)
    assert np.array_equal(found.rows, exact.rows)
    assert found.valid.tolist() == [True, False, True, True]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xd8\xff", None])
def test_a_damaged_crop_is_an_invalid_row(faces, tmp_path, media, content):
    folder = media.crops(tmp_path / "a", range(3))
    whole = faces.from_crops("key", "a", 3, folder)
    path = folder / "00002.jpg"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    found = faces.from_crops("key", "a", 3, folder)
    if content is not None:
        assert found.valid.tolist() == [True, False, True]
    assert not found.rows[~found.valid].any()
    assert np.array_equal(found.rows[[0, 2]], whole.rows[[0, 2]])


def test_face_folders_without_a_face(faces, tmp_path, media):
    with pytest.raises(MediaError, match="gone: has no face folder"):
        faces.from_crops("key", "a", 3, tmp_path / "gone")
    folder = media.crops(tmp_path / "late", [7, 8])
    with pytest.raises(MediaError, match=r"late: .* holds no image numbered 00001 to 00003"):
        faces.from_crops("key", "a", 3, folder)
    for path in folder.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(MediaError, match="holds no readable image"):
        faces.from_crops("key", "a", 9, folder)


def test_grey_crops_are_read_as_colour(faces, tmp_path):
    from torchvision.io import encode_jpeg

    folder = tmp_path / "grey"
    folder.mkdir()
    grey = torch.arange(0, 6400, dtype=torch.float).div(25).to(torch.uint8).view(1, 80, 80)
    (folder / "00001.jpg").write_bytes(encode_jpeg(grey).numpy().tobytes())
    assert faces.from_crops("key", "a", 1, folder).valid.all()


def test_every_setting_is_in_the_recipe(plain):
    recipes = [
        plain.recipe,
        stream(weights="seeded:5").recipe,
        stream(resize=65).recipe,
        stream(crop=32).recipe,
        stream(dtype="float16").recipe,
        stream(reads="faces").recipe,
    ]
    assert len(set(recipes)) == len(recipes)
    assert stream().recipe == plain.recipe
    assert av.__version__ in plain.recipe.reader
