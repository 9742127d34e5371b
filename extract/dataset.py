"""What a data set holds, by names alone: tracks, their sources, and where their files lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..cache import DataError

if TYPE_CHECKING:
    from .label_tables import LabelForm
    from .rows import RowClock

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
    """Video with or without sound, or a file of sound alone."""
    labels: str | None
    """None where the labels are withheld: a test track."""
    faces: str | None
    """Folder of face crops, numbered from 00001."""
    boxes: str | None = None
    """File that says which part of each frame shows this person."""
    transcript: str | None = None
    """File of the words that are said, with their times."""
    rows: int | None = None
    """Rows, where there is no label file to tell: as a test template or a table has them."""
    template: str | None = None
    """File that states `rows`."""
    clock: RowClock | None = None
    """When rows are on the media's clock; None: row i is frame i."""
    form: LabelForm | None = None
    """How the label file is written; None: as Aff-Wild2's are."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Tracks of one data set, sorted by name, found from file and folder names alone."""

    name: str
    root: str
    tracks: tuple[Track, ...]
    release: str = ""
    """Name of the label release, such as `ABAW6`; empty where it is not known."""
    withheld: frozenset[str] = frozenset()
    """Tracks that some test list of the data set names, whatever else is found of them."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all sources, sorted, each once."""
        return tuple(sorted({track.source for track in self.tracks}))

    @property
    def leaked(self) -> tuple[Track, ...]:
        """Tracks to be trained or chosen on that a test list names."""
        return tuple(t for t in self.tracks if t.split != "test" and t.name in self.withheld)

    def refuse_leaks(self) -> None:
        """Check that no test track is among those to be trained or chosen on.

        Raises:
            DataError: There are some; names them.
        """
        if self.leaked:
            listed = ", ".join(f"{track.name} ({track.split})" for track in self.leaked)
            raise DataError(
                f"{self.root}: {len(self.leaked)} labelled tracks are test tracks by this data "
                f"set's own test list: {listed}; label releases were mixed: use the labels that "
                "belong to the test list, or move these label files away"
            )
