"""A small data set and a small backbone, for tests of fine-tuning."""

from __future__ import annotations

import numpy as np
from concord.extract import Preset
from concord.extract.affwild2 import scan
from PIL import Image
from torch import nn

ROWS = 24
SIDE = 16


class Small(nn.Module):
    """Two stages with batch norm; pictures of 16 pixels."""

    dim, clip, takes, version = 8, 1, "pictures", 1
    preset = Preset(SIDE, True, SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    heads = ("fc.",)

    def __init__(self, weights: str) -> None:
        from concord.extract.weights import load, read_weights, seeding

        super().__init__()
        with seeding(weights) as seeded:
            self.low = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
            self.high = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        if not seeded:
            load(self, read_weights(weights, "small", None, "a file"), weights)

    def forward(self, x):
        return self.high(self.low(x).relu()).relu().mean((2, 3))

    def cells(self, x):
        return self(x)[:, None]


def make(root, training=("a", "b", "c"), validation=("d",), rows=ROWS, seed=0):
    """Write face crops whose colours are their labels, nearly; row 0 of each track has none."""
    rng = np.random.default_rng(seed)
    for split, tracks in (("Train_Set", training), ("Validation_Set", validation)):
        for track in tracks:
            labels = rng.uniform(-1, 1, (rows, 2)).round(3)
            write_track(root, split, track, labels, rng)
    return scan(root)


def write_track(root, split, track, labels, rng):
    text = ["valence,arousal", "-5,-5", *(f"{v},{a}" for v, a in labels[1:])]
    path = root / "VA_Set" / split / f"{track}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")
    folder = root / "cropped_aligned" / track
    folder.mkdir(parents=True)
    for row, (valence, arousal) in enumerate(labels):
        picture = rng.uniform(0, 60, (SIDE, SIDE, 3))
        picture += np.array([90 * (1 + valence), 90 * (1 + arousal), 90])
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{row + 1:05}.jpg", quality=95)


def difference(one, other):
    """The greatest distance between two dictionaries of tensors."""
    assert one.keys() == other.keys()
    return max(float((one[n].double() - other[n].double()).abs().max()) for n in one)


def without_labels(root, track):
    path = root / "VA_Set" / "Train_Set" / f"{track}.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *["-5,-5"] * (len(lines) - 1)]) + "\n")
