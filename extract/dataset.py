"""What a data set holds, by names alone: tracks, their sources, and where their files lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "val", "test"]
Region = Literal["whole", "left", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One person's sequence of annotated rows; paths are relative to the data set's root."""

    name: str
    source: str
    """Stem of the media file; `a_left` and `a_right` share the source `a`."""
    split: Split
    family: str
    """Tracks cut from one recording share a family."""
    region: Region
    """The part of the picture that shows this person."""
    media: str | None
    labels: str | None
    faces: str | None
    """Folder of face crops, numbered from 00001."""
    boxes: str | None = None
    """File that says which part of each frame shows this person."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Tracks of one data set, sorted by name, found from file and folder names alone."""

    name: str
    root: str
    tracks: tuple[Track, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all sources, sorted, each once."""
        return tuple(sorted({track.source for track in self.tracks}))
