"""A generated data set in Aff-Wild2's layout: drawn faces and buzzing voices in real media files.

The plan below fixes names, rows, rates and faults; the seed fixes everything that is drawn. Each
label is the sum of two independent smooth courses: the face shows one (mouth, eyes, brows), the
voice sounds the other (glides of pitch, shape of syllables, loudness), so either modality alone
can explain a correlation of 0.71 and only both together explain more. Identity, movement, light,
drift and noise differ from track to track and stand between a picture or a sound and its meaning.
The voice runs half a second ahead, because features of a row see the second of sound that ends
there. The two persons of one picture hear one voice: it sounds what both have in common, each
face shows its own part. A transcript says a part of what is felt, now and then. The faults are
those of the corpus: a late sound, an odd rate, a track shorter than a window, a track without a
word, unlabelled rows, missing crops, a file of noise and a file cut short.
The manifest is a pure function of root and profile; equal arguments write equal bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..cache.atomic import json_bytes
from ..cache.errors import ConfigError
from ..extract.dataset import Dataset, Region, Split, Track
from .demo_face import draw_faces
from .demo_media import encode_jpegs, encode_mp4, publish_file
from .demo_signal import Signal, label_text, random_stream, track_signal
from .demo_voice import SOUND_RATE, synthesise_voice
from .demo_words import demo_transcript

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .demo_face import Pictures
    from .demo_signal import FloatArray

LABELS = "6th_ABAW_Annotations/VA_Estimation_Challenge"
FOLDERS: dict[Split, str] = {"train": "Train_Set", "val": "Validation_Set"}
FACES = "cropped_aligned"
TRANSCRIPTS = "transcripts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One source of the plan; rows are 0-based."""

    name: str
    rows: int
    rate: Fraction
    split: Split = "train"
    batch: Literal["batch1", "batch2"] = "batch1"
    regions: tuple[Region, ...] = ("whole",)
    decimals: int = 3
    sound_start: float = 0.0
    """Seconds by which the sound begins after the picture."""
    unlabelled: tuple[range, ...] = ()
    faceless: tuple[range, ...] = ()
    speechless: bool = False
    """Nothing is said."""
    damage: Literal["noise", "cut"] | None = None

    @property
    def media(self) -> str:
        """Path of the media file below the root."""
        return f"{self.batch}/{self.name}.mp4"

    def track(self, region: Region) -> Track:
        """Describe one person's track by names alone."""
        name = self.name if region == "whole" else f"{self.name}_{region}"
        return Track(
            name=name,
            source=self.name,
            split=self.split,
            family=self.name,
            region=region,
            media=self.media,
            labels=f"{LABELS}/{FOLDERS[self.split]}/{name}.txt",
            faces=None if self.damage else f"{FACES}/{name}",
            transcript=None if self.damage else f"{TRANSCRIPTS}/{self.name}.json",
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """A named plan."""

    clips: tuple[Clip, ...]


_DEMO = Profile(
    (
        Clip(name="14", rows=180, rate=Fraction(6), batch="batch2"),
        Clip(name="14-8-224x112", rows=150, rate=Fraction(8), regions=("left", "right")),
        Clip(
            name="58",
            rows=150,
            rate=Fraction(7509, 1000),
            batch="batch2",
            decimals=12,
            faceless=(range(8), range(60, 62)),
        ),
        Clip(name="203", rows=190, rate=Fraction(10), unlabelled=(range(18),)),
        Clip(name="video31", rows=170, rate=Fraction(25, 4), batch="batch2", sound_start=1.3),
        Clip(
            name="video47",
            rows=150,
            rate=Fraction(25, 4),
            unlabelled=(range(70, 85),),
            faceless=(range(40, 75), range(110, 113)),
        ),
        Clip(name="video90", rows=20, rate=Fraction(6), batch="batch2", speechless=True),
        Clip(name="9-13-112x112", rows=200, rate=Fraction(25, 2), split="val", decimals=2),
        Clip(name="77", rows=170, rate=Fraction(8), split="val", batch="batch2"),
        Clip(name="video5", rows=160, rate=Fraction(6), split="val", faceless=(range(50, 54),)),
        Clip(
            name="video66",
            rows=170,
            rate=Fraction(15, 2),
            split="val",
            batch="batch2",
            unlabelled=(range(150, 170),),
        ),
        Clip(name="311", rows=40, rate=Fraction(8), batch="batch2", damage="noise"),
        Clip(name="video12", rows=42, rate=Fraction(8), damage="cut"),
    )
)

_TINY = Profile(
    (
        Clip(name="7-8-112x112", rows=40, rate=Fraction(8), faceless=(range(2), range(20, 22))),
        Clip(name="21", rows=42, rate=Fraction(10), batch="batch2", unlabelled=(range(12, 16),)),
        Clip(name="video3", rows=38, rate=Fraction(8), split="val", batch="batch2"),
        Clip(name="video8", rows=40, rate=Fraction(8), damage="noise"),
    )
)

PROFILES: dict[str, Profile] = {"demo": _DEMO, "tiny": _TINY}


def demo_dataset(root: str, profile: str = "demo", seed: int = 0) -> Dataset:  # noqa: ARG001
    """Name the tracks of a profile without touching the disk; every seed has the same names.

    Raises:
        ConfigError: The profile is unknown.
    """
    clips = find_profile(profile).clips
    tracks = [clip.track(region) for clip in clips for region in clip.regions]
    return Dataset(name="demo", root=root, tracks=tuple(sorted(tracks, key=lambda t: t.name)))


def make_demo(
    root: Path,
    profile: str = "demo",
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Dataset:
    """Write a profile's media, labels, face crops and transcripts below `root`.

    Other files stay as they are.

    Args:
        root: Folder of the data set; made where missing.
        profile: A key of `PROFILES`.
        seed: What is drawn; not negative.
        progress: Called with (sources done, sources in all, name) after each source.

    Returns:
        The same as `demo_dataset`.

    Raises:
        ConfigError: The profile is unknown or the seed negative.
    """
    clips = find_profile(profile).clips
    if seed < 0:
        raise ConfigError(f"seed has to be 0 or more, not {seed}")
    for done, clip in enumerate(clips, start=1):
        _write_clip(root, seed, clip)
        if progress is not None:
            progress(done, len(clips), clip.name)
    return demo_dataset(os.fspath(root), profile, seed)


def find_profile(name: str) -> Profile:
    """Look a profile up by name.

    Raises:
        ConfigError: The name is unknown.
    """
    if name not in PROFILES:
        raise ConfigError(f"profile has to be one of {', '.join(PROFILES)}, not {name!r}")
    return PROFILES[name]


def _write_clip(root: Path, seed: int, clip: Clip) -> None:
    """Write one source: labels, crops and words of its tracks first, then the media file."""
    pictures: list[Pictures] = []
    labels: list[FloatArray] = []
    signal: Signal | None = None
    for track in (clip.track(region) for region in clip.regions):
        signal = track_signal(seed, clip.name, track.name, clip.rows, clip.rate)
        text = label_text(signal.labels, clip.unlabelled, clip.decimals)
        publish_file(root / str(track.labels), text.encode())
        labels.append(signal.labels)
        rng = random_stream(seed, track.name, "face")
        pictures.append(draw_faces(rng, signal.shown, float(clip.rate)))
        if track.faces is not None:
            _write_faces(root / track.faces, pictures[-1], clip.faceless)
    assert signal is not None, "a clip has at least one region"
    _write_words(root, seed, clip, np.mean(labels, axis=0))
    film = np.concatenate(pictures, axis=2)
    publish_file(root / clip.media, _media_bytes(seed, clip, signal, film))


def _write_faces(folder: Path, pictures: Pictures, faceless: tuple[range, ...]) -> None:
    missing = {row for run in faceless for row in run}
    for row, image in enumerate(encode_jpegs(pictures)):
        if row not in missing:
            publish_file(folder / f"{row + 1:05d}.jpg", image)


def _write_words(root: Path, seed: int, clip: Clip, labels: FloatArray) -> None:
    transcript = clip.track("whole").transcript
    if transcript is None:
        return
    said = demo_transcript(seed, clip.name, labels, float(clip.rate), clip.sound_start)
    if clip.speechless:
        said["words"] = []
    publish_file(root / transcript, json_bytes(said))


def _media_bytes(seed: int, clip: Clip, signal: Signal, film: Pictures) -> bytes:
    rng = random_stream(seed, clip.name, "voice")
    if clip.damage == "noise":
        return rng.bytes(20_000)
    sound = synthesise_voice(rng, signal.voice, clip.rows / float(clip.rate))
    sound = sound[round(clip.sound_start * SOUND_RATE) :]
    media = encode_mp4(film, clip.rate, sound, clip.sound_start)
    return media[: len(media) * 3 // 5] if clip.damage == "cut" else media
