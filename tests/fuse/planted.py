"""Problems whose answer is known: labels made of latents that the streams hold, one way each."""

import numpy as np
import torch
from concord.cache import ManifestTrack
from concord.fuse.rows import Rows
from concord.fuse.sources import Resident

from .conftest import problem_of

STREAMS = ("audio/x", "visual/x")
DIM = 8
"""Width of a stream: two latents and six columns of noise, rotated, under white noise."""


def product(training=40, validation=20, rows=128, hold=1, noise=0.05, seed=0):
    """Each target is a latent of the audio stream times one of the visual stream.

    Latents are uniform in [-1, 1] and independent, so that a stream alone, or a sum over both,
    tells nothing. They change every `hold` rows.
    """
    random = np.random.default_rng(seed)
    tracks = training + validation
    latents = random.uniform(-1, 1, (2, tracks * rows // hold, 2)).repeat(hold, axis=1)
    features = [_observed(random, latent, noise) for latent in latents]
    return _problem(features, latents[0] * latents[1], training, validation, rows)


def one_sided(sufficient, training=40, validation=20, rows=128, noise=0.5, seed=0):
    """The targets are latents of one stream; all that the other holds is noise to them."""
    random = np.random.default_rng(seed)
    latents = random.uniform(-1, 1, (2, (training + validation) * rows, 2))
    features = [_observed(random, latent, noise) for latent in latents]
    return _problem(features, latents[STREAMS.index(sufficient)], training, validation, rows)


def _observed(random, latent, noise):
    """Columns of unit spread, rotated."""
    scaled = latent * np.sqrt(3)
    columns = np.concatenate([scaled, random.normal(size=(len(latent), DIM - 2))], axis=1)
    rotation = np.linalg.qr(random.normal(size=(DIM, DIM)))[0]
    return columns @ rotation + noise * random.normal(size=columns.shape)


def _problem(features, labels, training, validation, rows):
    splits = ["train"] * training + ["val"] * validation
    tracks = [
        ManifestTrack(track=f"{i}", source=f"{i}", split=split, family=f"{i}", rows=rows, rate=10.0)
        for i, split in enumerate(splits)
    ]
    every = torch.ones(len(labels), dtype=torch.bool)
    made = Rows(
        tracks=tuple(tracks),
        firsts=tuple(range(0, len(labels), rows)),
        sources={
            name: Resident(torch.from_numpy(x).float())
            for name, x in zip(STREAMS, features, strict=True)
        },
        valid=dict.fromkeys(STREAMS, every),
        labels=torch.from_numpy(labels).float(),
        labelled=every,
        times=np.tile(np.arange(rows) / 10, len(tracks)),
        face=np.ones(len(labels), bool),
    )
    return problem_of(made, STREAMS)
