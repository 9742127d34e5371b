"""Row i is row i: through the whole of stage one, from files of every kind and fault to the store.

The backbones are thumbnails, so a row tells by itself which frame it was made of.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from concord.cache import INTERPOLATED, REPEATED, FeatureStore
from concord.extract.affwild2 import scan
from concord.extract.engine import extract
from concord.extract.presets import Preset
from concord.extract.settings import AudioSettings, VisualSettings

from . import clips

MORE = 20
"""Rows beyond the frames of each file."""


class Thumbnail(torch.nn.Module):
    """32 x 32 grey values."""

    dim, clip, takes = 1024, 1, "pictures"
    preset = Preset((32, 32), antialias=True, crop=32, mean=(0, 0, 0), std=(1, 1, 1))

    def __init__(self, weights):  # noqa: ARG002 - every backbone is called with it
        super().__init__()

    def forward(self, x):
        return x.mean(1).flatten(1)

    def cells(self, x):
        return self(x)[:, None]


class Loudness(torch.nn.Module):
    """The columns of a spectrogram, each by its mean."""

    dim, clip, takes = 104, 1, "spectrograms"
    preset = Thumbnail.preset

    def __init__(self, weights):  # noqa: ARG002 - every backbone is called with it
        super().__init__()

    def forward(self, x):
        return x.mean((1, 2))

    def cells(self, x):
        return self(x)[:, None]


SEES = VisualSettings(backbone=f"{__name__}:Thumbnail", weights="none", dtype="float32")
HEARS = AudioSettings(backbone=f"{__name__}:Loudness", weights="none", dtype="float32")


def run(root, media, name, make, streams, rows=0, more=0):
    """Lay a clip out as a data set, and extract it; gives the clip and items by stream."""
    (root / "batch1").mkdir()
    clip = make(root / "batch1" / name)
    labels = root / "VA_Set" / "Train_Set" / f"{clip.path.stem}.txt"
    media.labels(labels, rows or len(clip.numbers) + more)
    store = FeatureStore.create(root / "store")
    receipt = extract(scan(root), streams, store)
    assert receipt.quarantine == []
    return clip, {name: next(iter(store[name].items.values())) for name in streams}


def shown(item, numbers):
    """The number of the frame that each row was made of, by the nearest thumbnail."""
    pictures = [clips.picture(number, 96, 128) for number in numbers]
    tensor = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    thumbnail = Thumbnail("")
    known = thumbnail(thumbnail.preset.normalise(thumbnail.preset.prepare(tensor))).numpy()
    apart = np.linalg.norm(np.asarray(item.rows)[:, None] - known[None], axis=2)
    return [numbers[place] for place in apart.argmin(1)]


WHOLE = [name for name in clips.WHOLE if name not in ("odd.mp4", "sizes.ts")]
"""Those whose pictures have one size; the readers' own tests have the others."""


GATED = ("plain.mp4", "vp9.webm", "edit.mp4", "stream.ts")
"""Two that decord reads, and two that it leaves to PyAV."""


@pytest.mark.parametrize(
    ("name", "reader"), [*((n, "pyav") for n in WHOLE), *((n, "decord") for n in GATED)]
)
def test_every_row_shows_its_frame(tmp_path, media, name, reader):
    settings = VisualSettings(**{**_fields(SEES), "reader": reader})
    streams = {"visual/thumbnail": settings}
    clip, items = run(tmp_path, media, name, clips.WHOLE[name], streams, more=MORE)
    item, count = items["visual/thumbnail"], len(clip.numbers)
    assert item.valid[:count].all()
    assert not item.flags[:count].any()
    assert shown(item, clip.numbers)[:count] == clip.numbers
    assert item.times[:count] == pytest.approx(clip.times, abs=0.51e-3)
    late = item.times[count:] > item.times[count - 1] + 0.5
    assert item.valid[count:].tolist() == (~late).tolist()
    assert item.flags[count:].tolist() == np.where(late, 0, REPEATED).tolist()
    assert (np.asarray(item.rows)[count:][~late] == np.asarray(item.rows)[count - 1]).all()


def _fields(settings):
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def spoilt(path):
    clip = clips.film(path, 96)
    clips.spoil(clip.path, (30,))
    return clip


def cut(path):
    clip = clips.film(path, 96)
    clips.halve(clip.path, 0.6)
    return clip


@pytest.mark.parametrize(("name", "make"), [("middle.mp4", spoilt), ("cut.mkv", cut)])
def test_a_damaged_file_gives_right_rows_or_flagged_ones(tmp_path, media, name, make):
    streams = {"visual/thumbnail": SEES}
    clip, items = run(tmp_path, media, name, make, streams, 96)
    item = items["visual/thumbnail"]
    seen, flags = shown(item, clip.numbers), item.flags
    own = item.valid & (flags == 0)
    assert 20 < own.sum() < 96
    assert [seen[row] for row in np.flatnonzero(own)] == np.flatnonzero(own).tolist()
    for row in np.flatnonzero(~own):
        before = np.flatnonzero(own[:row])[-1]
        near = item.times[row] - item.times[before] <= 0.5
        assert (bool(item.valid[row]), int(flags[row])) == (near, REPEATED if near else 0)
        assert not near or seen[row] == before


def test_between_computed_rows_the_numbers_say_so(tmp_path, media):
    streams = {"visual/thumbnail": VisualSettings(**{**_fields(SEES), "stride": 7})}
    clip, items = run(tmp_path, media, "plain.mp4", clips.film, streams)
    item = items["visual/thumbnail"]
    computed = [*range(0, 60, 7), 59]
    assert np.flatnonzero(item.flags == 0).tolist() == computed
    assert set(item.flags[item.flags > 0].tolist()) == {INTERPOLATED}
    seen = shown(item, clip.numbers)
    assert [seen[row] for row in computed] == computed


STARTS = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(("video", "sound"), STARTS)
def test_a_flash_and_a_burst_land_in_one_row(tmp_path, media, suffix, video, sound):
    streams = {"visual/thumbnail": SEES, "audio/loudness": HEARS}

    def make(path):
        return clips.burst(path, video_start=video, sound_start=sound)

    _, items = run(tmp_path, media, f"burst.{suffix}", make, streams)
    flash = int(np.asarray(items["visual/thumbnail"].rows).mean(1).argmax())
    assert flash == clips.FLASH
    # A row's sound ends at its frame: the burst that begins there fills the next row's last 40 ms.
    latest = np.asarray(items["audio/loudness"].rows)[:, -3:].mean(1)
    assert int(np.diff(latest).argmax()) + 1 in (flash, flash + 1)
    assert items["audio/loudness"].times == pytest.approx(items["visual/thumbnail"].times)
