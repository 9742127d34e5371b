"""Samples of single rows are what extraction gives a backbone for them, bit for bit."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from concord.cache import FeatureStore, MediaError
from concord.extract.affwild2 import scan
from concord.extract.backbones import BACKBONES
from concord.extract.engine import extract
from concord.extract.index import Index
from concord.extract.kept import Kept
from concord.extract.presets import Preset
from concord.extract.samples import VisualSamples
from concord.extract.sampling import LabelledTrack
from concord.extract.settings import AudioSettings, VisualSettings, WindowSettings
from concord.extract.sound_samples import SoundSamples
from concord.extract.spectrogram import PRESETS
from concord.extract.visual import window_of
from torch import nn

ROWS = 26
PRESET = Preset(12, True, 8, (0, 0, 0), (1, 1, 1))


class Flat(nn.Module):
    """Gives its input as its features."""

    preset = PRESET

    def __init__(self, takes, shape):
        super().__init__()
        self.takes, self.dim = takes, int(np.prod(shape))
        self.clip = 4 if takes == "clips" else 1
        self.kernel = nn.Parameter(torch.zeros([1] * (5 if takes == "clips" else 4)))

    def forward(self, x):
        return x.flatten(1)

    def cells(self, x):
        return self(x)[:, None]


SHAPES = {
    "pictures": (3, 8, 8),
    "clips": (3, 4, 8, 8),
    "spectrograms": (1, 64, 104),
}


def windows(**more):
    return WindowSettings(length=4, **more)


STREAMS = {
    "visual/pictures": VisualSettings(),
    "visual/clips": VisualSettings(window=windows(spacing=3)),
    "visual/clips-end": VisualSettings(window=windows(anchor="end", edge="reflect")),
    "visual/clips-zero": VisualSettings(window=windows(spacing=2, edge="zero")),
    "visual/pictures-faces": VisualSettings(reads="faces"),
    "visual/clips-faces": VisualSettings(reads="faces", window=windows(spacing=2)),
    "visual/clips-black": VisualSettings(reads="faces", window=windows(edge="black")),
    "visual/clips-boxes": VisualSettings(reads="boxes", window=windows()),
    "audio/spectrograms": AudioSettings(),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory, media):
    root = tmp_path_factory.mktemp("samples")
    pair = [np.hstack([media.picture(k), 255 - media.picture(k)]) for k in range(ROWS - 2)]
    media.write(root / "batch1" / "1.mov", pair, sound=media.tone(1.5), sound_codec="pcm_s16le",
                sound_start=0.4)  # fmt: skip
    media.write(root / "batch1" / "2.mp4", [media.picture(k) for k in range(ROWS + 3)])
    for name in ("1_left", "1_right", "2"):
        media.labels(root / "VA_Set" / "Train_Set" / f"{name}.txt", ROWS)
        present = [k for k in range(3, ROWS - 4) if k not in (9, 10, 11)]
        media.crops(root / "cropped_aligned" / name, present)
        boxes = [f"{k},{k},2,{k + 20},30" for k in range(ROWS - 6) if k % 5]
        (root / "boxes").mkdir(exist_ok=True)
        (root / "boxes" / f"{name}.csv").write_text(
            "\n".join(["row,left,top,right,bottom", *boxes])
        )
    return root


@pytest.fixture(scope="module")
def store(data):
    with pytest.MonkeyPatch.context() as patch:
        for takes, shape in SHAPES.items():
            patch.setitem(
                BACKBONES,
                takes,
                lambda weights, takes=takes, shape=shape: Flat(takes, shape),  # noqa: ARG005
            )
        told = {
            name: type(own)(**{**{k: getattr(own, k) for k in own.__slots__}, **FIXED})
            for name, own in STREAMS.items()
        }
        opened = FeatureStore.create(data / "store")
        receipt = extract(scan(data), told, opened, decoders=1)
    assert {(entry.source, entry.stream) for entry in receipt.quarantine} <= {
        ("2", "audio/spectrograms")
    }
    opened.save_manifest(Index([receipt], opened).manifest())
    return opened


FIXED = {"weights": "seeded", "dtype": "float32"}


def samples_of(name, root):
    own = STREAMS[name]
    if isinstance(own, AudioSettings):
        return SoundSamples(root, PRESETS["livia"])
    network = Flat(name.partition("/")[2].partition("-")[0], (1,))
    window = window_of(name, network, own)
    return VisualSamples(root, own, PRESET, window, clips=network.takes == "clips")


@pytest.mark.parametrize("name", list(STREAMS))
def test_samples_are_what_extraction_sees(name, data, store):
    samples = samples_of(name, data)
    compared = 0
    for track in scan(data).tracks:
        if name.startswith("audio") and track.name == "2":
            continue
        item = store[name][track.name]
        own = item.valid & (np.asarray(item.flags) == 0) if item.flags is not None else item.valid
        each = LabelledTrack(track, np.zeros((ROWS, 2), np.float32), np.arange(ROWS))
        wanted = [row for row in range(ROWS) if row % 4 != 1]
        found = samples.read(each, wanted)
        assert list(found) == [row for row in wanted if own[row]]
        for row, sample in found.items():
            values = sample.values
            if values.dtype == torch.uint8:
                values = PRESET.normalise(values[None])[0]
                if sample.zeros is not None:
                    values[:, sample.zeros] = 0
            assert np.array_equal(values.numpy().ravel(), item.rows[row]), (track.name, row)
            compared += 1
    samples.close()
    assert compared > 20


def test_a_margin_makes_the_crop_larger(data):
    (each,) = (
        LabelledTrack(track, np.zeros((ROWS, 2), np.float32), np.arange(ROWS))
        for track in scan(data).tracks
        if track.name == "2"
    )
    own = VisualSettings()
    window = window_of("visual/pictures", Flat("pictures", (1,)), own)
    plain, wide = (
        VisualSamples(data, own, PRESET, window, clips=False, margin=m).read(each, [4])[4].values
        for m in (0, 2)
    )
    assert wide.shape == (3, 12, 12)
    assert torch.equal(wide[:, 2:-2, 2:-2], plain)


def test_what_cannot_be_had_is_left_out_or_told(data, tmp_path):
    track = next(track for track in scan(data).tracks if track.name == "2")
    each = LabelledTrack(track, np.zeros((ROWS, 2), np.float32), np.arange(ROWS))
    window = window_of("visual/pictures", Flat("pictures", (1,)), VisualSettings())
    gone = VisualSamples(tmp_path, VisualSettings(), PRESET, window, clips=False)
    for _ in range(2):  # The second time from memory.
        with pytest.raises(MediaError, match=r"2\.mp4"):
            gone.read(each, [0])
    faces = tmp_path / str(track.faces)
    faces.mkdir(parents=True)
    whole = sorted((data / str(track.faces)).iterdir())[:3]
    for path in whole:
        (faces / path.name).write_bytes(path.read_bytes())
    (faces / whole[1].name).write_bytes(b"no picture")
    own = VisualSettings(reads="faces")
    found = VisualSamples(tmp_path, own, PRESET, window, clips=False).read(each, range(ROWS))
    assert list(found) == [int(whole[0].stem) - 1, int(whole[2].stem) - 1]


def test_damaged_frames_cost_the_clips_that_need_them(data, tmp_path, media):
    media.write(tmp_path / "batch1" / "2.mp4", [media.picture(k) for k in range(ROWS)])
    path = tmp_path / "batch1" / "2.mp4"
    content = path.read_bytes()
    track = next(track for track in scan(data).tracks if track.name == "2")
    each = LabelledTrack(track, np.zeros((ROWS, 2), np.float32), np.arange(ROWS))
    window = window_of("visual/pictures", Flat("pictures", (1,)), VisualSettings())
    whole = VisualSamples(tmp_path, VisualSettings(), PRESET, window, clips=False)
    expected = whole.read(each, range(ROWS))
    whole.close()
    place = content.find(b"mdat") + len(content) // 3
    path.write_bytes(content[:place] + bytes(400) + content[place + 400 :])
    try:
        found = VisualSamples(tmp_path, VisualSettings(), PRESET, window, clips=False).read(
            each, range(ROWS)
        )
    except MediaError:
        found = {}
    assert len(found) < len(expected)
    for row, sample in found.items():
        assert torch.equal(sample.values, expected[row].values)


def test_what_is_kept_is_bounded_shared_and_closed():
    made, closed = [], []

    def make(path):
        made.append(path.name)
        return path.name

    kept = Kept(make, lambda _: 1, 2, closed.append)
    for name in "abcab":
        with kept.use(Path(name)) as value:
            assert value == name
    assert made == list("abcab")
    assert closed == list("abc")
    kept = Kept(make, lambda _: 1, 1, closed.append)
    made.clear()

    def work():
        for name in "xyxyxyxy":
            with kept.use(Path(name)) as value:
                assert value == name
                assert value not in closed[3:] or made.count(value) > closed[3:].count(value)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept.close()
    assert sorted(made) == sorted(closed[3:])
