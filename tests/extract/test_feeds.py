"""Feeds: several files at a time, children that die, crops of faces, and what is given up."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from concord.cache import Identity, MediaError, NewItem
from concord.extract.compute import Job, Labels, Workers
from concord.extract.dataset import Track
from concord.extract.feeds import Pool, feeds_of
from concord.extract.settings import AudioSettings, VisualSettings
from torchvision.io import ImageReadMode, decode_image, encode_jpeg
from torchvision.transforms._presets import ImageClassification

SMALL = {"backbone": "resnet18", "weights": "seeded:4", "resize": 64, "crop": 64}
STREAMS = {
    "visual/resnet18": VisualSettings(**SMALL, dtype="float32"),
    "visual/faces": VisualSettings(**SMALL, dtype="float32", reads="faces"),
    "audio/resnet18": AudioSettings(),
}


@pytest.fixture(scope="module")
def workers():
    return Workers(STREAMS, "cpu")


def job(stream, name, rows, **paths):
    track = Track(
        name=name,
        source=name,
        split="train",
        family=name,
        region="whole",
        media=paths.get("media"),
        labels=None,
        faces=paths.get("faces"),
    )
    labels = Labels(np.zeros((rows, 2)), np.ones(rows, bool), "")
    identity = Identity(recipe=stream, rows=rows, inputs={"name": name})
    return Job(stream, track, identity, labels)


def run(workers, root, jobs, **options):
    """Outcome by stream and track."""
    found = {}
    sources = itertools.groupby(jobs, key=lambda job: job.track.source)
    feeds = (feed for _, group in sources for feed in feeds_of(list(group), workers, root))
    with Pool(workers, root, **options) as pool:
        for done, outcome in pool.outcomes(feeds):
            for each in done:
                found[each.stream, each.track.name] = outcome
    assert set(found) == {(each.stream, each.track.name) for each in jobs}
    assert not multiprocessing.active_children()
    return found


@pytest.fixture
def film(tmp_path, media):
    pictures = [media.picture(k, 256, 256) for k in range(150)]
    media.write(tmp_path / "1.mp4", pictures, options={"preset": "ultrafast"})
    return SimpleNamespace(root=tmp_path, job=job("visual/resnet18", "1", 150, media="1.mp4"))


def test_many_files_at_once_give_what_each_gives_alone(workers, tmp_path, media):
    for k in range(3):
        pictures = [media.picture(7 * k + frame) for frame in range(10 + k)]
        media.write(tmp_path / f"{k}.mp4", pictures, sound=media.tone(1 + k / 5))
    jobs = [
        job(stream, str(k), 11 + k, media=f"{k}.mp4")
        for k in range(3)
        for stream in ("visual/resnet18", "audio/resnet18")
    ]
    together = run(workers, tmp_path, jobs, decoders=3)
    for each in jobs:
        (alone,) = run(workers, tmp_path, [each]).values()
        found = together[each.stream, each.track.name]
        for name, expected in alone.arrays().items():
            assert found.arrays()[name].tobytes() == expected.tobytes()


class Killing(Pool):
    """A pool whose children are killed, for real, after an answer, the first few times."""

    times = 0

    def _receive(self, decoder, again):
        yield from super()._receive(decoder, again)
        if self.times and decoder in self._busy:
            self.times -= 1
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)


def killed(workers, film, times):
    with Killing(workers, film.root) as pool:
        pool.times = times
        ((jobs, outcome),) = pool.compute([[film.job]])
    assert list(jobs) == [film.job]
    return outcome


def test_a_lost_decoder_stores_nothing(workers, film):
    outcome = killed(workers, film, 2)
    assert isinstance(outcome, MediaError)
    assert str(outcome) == "1.mp4: the decoder crashed"


def test_a_decoder_that_died_once_is_asked_again(workers, film):
    (whole,) = run(workers, film.root, [film.job]).values()
    assert isinstance(whole, NewItem)
    assert whole.valid.all()
    again = killed(workers, film, 1)
    assert np.array_equal(again.rows, whole.rows)


def test_a_decoder_that_hangs_costs_its_source_only(workers, film, media):
    os.mkfifo(film.root / "2.mp4")
    pictures = [media.picture(k) for k in range(5)]
    media.write(film.root / "3.mp4", pictures)
    jobs = [job("visual/resnet18", name, 5, media=f"{name}.mp4") for name in "23"]
    stopped = []

    class Stopping(Pool):
        def _receive(self, decoder, again):
            if not stopped and self._busy[decoder].request.path.name == "3.mp4":
                stopped.append(decoder._child.pid)
                os.kill(decoder._child.pid, signal.SIGSTOP)
            yield from super()._receive(decoder, again)

    feeds = (feed for each in jobs for feed in feeds_of([each], workers, film.root))
    with Stopping(workers, film.root, decoders=1, answer_seconds=3) as pool:
        outcomes = {done[0].track.name: outcome for done, outcome in pool.outcomes(feeds)}
    assert stopped
    assert isinstance(outcomes["2"], MediaError)
    assert isinstance(outcomes["3"], (MediaError, NewItem))


# Crops of faces.


def faces(workers, root, rows, name="102"):
    (outcome,) = run(workers, root, [job("visual/faces", name, rows, faces=name)]).values()
    return outcome


@pytest.fixture(scope="module")
def reference():
    """torchvision's network with the seed's weights, and its own preset for pictures."""
    from torchvision.models import resnet18

    torch.manual_seed(4)
    network = resnet18()
    network.fc = torch.nn.Identity()
    network.eval()
    preset = ImageClassification(crop_size=64, resize_size=64)

    @torch.inference_mode()
    def run(images):
        return network(torch.stack([preset(image) for image in images])).numpy()

    return run


def test_crops_equal_torchvision(workers, reference, tmp_path, media):
    there = [0, 1, 4, *range(6, 38)]
    folder = media.crops(tmp_path / "102", there)
    found = faces(workers, tmp_path, 42)
    assert found.valid.tolist() == [row in there for row in range(42)]
    assert not found.rows[~found.valid].any()
    assert np.isnan(found.times).all()
    images = [
        decode_image(str(folder / f"{row + 1:05}.jpg"), mode=ImageReadMode.RGB) for row in there
    ]
    expected = reference(images)
    apart = np.linalg.norm(found.rows[found.valid] - expected, axis=1)
    assert (apart / np.linalg.norm(expected, axis=1)).max() < 5e-3


def test_surplus_crops_and_other_files_are_left_out(workers, tmp_path, media):
    media.crops(tmp_path / "a", [0, 2, 3])
    folder = media.crops(tmp_path / "b", [0, 2, 3, 4, 5, 900])
    (folder / "00000.jpg").write_bytes((folder / "00001.jpg").read_bytes())
    (folder / "2.jpg").write_bytes((folder / "00001.jpg").read_bytes())
    (folder / "._00002.jpg").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    exact, found = (faces(workers, tmp_path, 4, name) for name in "ab")
    assert np.array_equal(found.rows, exact.rows)
    assert found.valid.tolist() == [True, False, True, True]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xd8\xff", None])
def test_a_damaged_crop_is_an_invalid_row(workers, tmp_path, media, content):
    folder = media.crops(tmp_path / "102", range(3))
    whole = faces(workers, tmp_path, 3)
    path = folder / "00002.jpg"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    found = faces(workers, tmp_path, 3)
    assert found.valid.tolist() == [True, False, True]
    assert not found.rows[1].any()
    assert np.array_equal(found.rows[[0, 2]], whole.rows[[0, 2]])


def test_face_folders_without_a_face(workers, tmp_path, media):
    assert "gone: has no face folder" in str(faces(workers, tmp_path, 3, "gone"))
    folder = media.crops(tmp_path / "late", [7, 8])
    told = str(faces(workers, tmp_path, 3, "late"))
    assert told == "late: face folder holds no image numbered 00001 to 00003"
    for path in folder.iterdir():
        path.write_bytes(b"broken")
    assert str(faces(workers, tmp_path, 9, "late")) == "late: holds nothing to see"


def test_grey_crops_are_read_as_colour(workers, tmp_path):
    folder = tmp_path / "grey"
    folder.mkdir()
    grey = torch.arange(0, 6400, dtype=torch.float).div(25).to(torch.uint8).view(1, 80, 80)
    (folder / "00001.jpg").write_bytes(encode_jpeg(grey).numpy().tobytes())
    assert faces(workers, tmp_path, 1, "grey").valid.all()
