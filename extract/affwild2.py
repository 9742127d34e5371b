"""Aff-Wild2's folder layout: tracks, sources and face folders found by exact name."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache import DataError
from .affwild2_folders import (
    LABEL_FOLDERS,
    Folder,
    Media,
    Release,
    face_folders,
    is_sound,
    releases,
    walk,
)
from .dataset import Dataset, Region, Split, Track
from .editions import moved_among, release_of_counts
from .rows import RowClock
from .templates import is_test_list, read_test_list
from .transcript_formats import SUFFIXES

BOX_FOLDER = "boxes"
TRANSCRIPT_FOLDER = "transcripts"
RATES = "rates.csv"
SIDES: dict[str, Region] = {"_left": "left", "_right": "right"}
PART = re.compile(r"(?P<recording>\d+-\d+-\d+x\d+)-\d|(?P<numbered>video\d+)_\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labelled:
    """What decides the rows of a track."""

    split: Split
    labels: str | None = None
    template: str | None = None
    rows: int | None = None


def scan(root: Path, name: str = "affwild2", *, edition: str = "", faces: str = "") -> Dataset:
    """Find the tracks of a folder in Aff-Wild2's layout, from names alone.

    Of files only test lists and templates are read, and `rates.csv`.

    Args:
        root: Folder that holds label folders, test lists and templates, media (`batch1/…`, or
            sound alone where the videos are missing), face crops (`cropped_aligned…/<track>`, in
            one or several such folders), box files (`boxes/<track>.csv`) and transcripts
            (`transcripts/<track or source>.<ext>`); wrapper folders of any name may stand around
            labels, media and faces.
        name: The data set's name in the store.
        edition: Name of the label release, such as `ABAW6`; chooses one where several are there.
        faces: Pattern of the face roots' names; by default `cropped_aligned*`, else `cropped*`.

    Returns:
        Tracks sorted by name; media, labels and faces as paths relative to `root`. Test tracks
        have no labels, and the rows that their template states.

    Raises:
        DataError: No label folder, a track in two splits or releases, two media files or
            transcripts of one name, or a test list that cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the data set's root as data.path")
    folders = walk(root)
    release, labelled = _labelled(root, releases(folders), edition)
    withheld = _add_test_tracks(root, folders, labelled)
    if not labelled:
        raise DataError(
            f"{root}: no label files; expected {' or '.join(LABEL_FOLDERS)} with "
            "Train_Set, Validation_Set holding one .txt per track"
        )
    splits = {stem: found.split for stem, found in labelled.items() if found.split != "test"}
    counts = [list(splits.values()).count(split) for split in ("train", "val")]
    release = edition or release or release_of_counts(*counts)
    files = _Files(root, folders, faces)
    tracks = tuple(files.track(stem, labelled[stem]) for stem in sorted(labelled))
    withheld |= moved_among(release, splits)
    return Dataset(name, str(root), tracks, release, frozenset(withheld))


def source_of(track: str) -> tuple[str, Region]:
    """Split a track's name into its source and the person's half of the picture."""
    for side, region in SIDES.items():
        if track.endswith(side):
            return track.removesuffix(side), region
    return track, "whole"


def family_of(source: str) -> str:
    """Name the recording that a source was cut from; parts end in `-1` or `_1`."""
    part = PART.fullmatch(source)
    return (part["recording"] or part["numbered"]) if part else source


def _labelled(
    root: Path, found: Sequence[Release], edition: str
) -> tuple[str, dict[str, _Labelled]]:
    """Choose the release that is meant, and say what decides each track's rows."""
    if any(release.name == edition for release in found if edition):
        found = [release for release in found if release.name == edition]
    tracks: dict[str, _Labelled] = {}
    for release in found:
        for split, path in release.files:
            stem = Path(path).stem
            if stem in tracks:
                raise DataError(
                    f"{root / path}: track {stem!r} is also at "
                    f"{tracks[stem].labels or tracks[stem].template}; keep one label release"
                    f"{_choice(found)}"
                )
            # What a test folder holds are place-holders: nobody has these labels.
            test = split == "test"
            tracks[stem] = _Labelled(
                split=split, labels=None if test else path, template=path if test else None
            )
    names = sorted({release.name for release in found})
    return names[0] if len(names) == 1 else "", tracks


def _choice(found: Sequence[Release]) -> str:
    names = sorted({release.name for release in found if release.name})
    return f", or choose with data.edition: {', '.join(names)}" if len(names) > 1 else ""


def _add_test_tracks(
    root: Path, folders: Mapping[str, Folder], tracks: dict[str, _Labelled]
) -> set[str]:
    """Add the tracks whose rows a template states; give all that are withheld."""
    withheld = {stem for stem, track in tracks.items() if track.split == "test"}
    for folder in folders.values():
        for file in folder.files:
            if not is_test_list(file):
                continue
            path = folder.below(file)
            for stem, rows in read_test_list(root / path).items():
                withheld.add(stem)
                before = tracks.get(stem)
                # A labelled track keeps its split, and is refused before it is trained on.
                if rows is None or (before and before.split != "test"):
                    continue
                if before and before.rows not in (None, rows):
                    raise DataError(
                        f"{root / path}: track {stem!r} has {rows} rows, but {before.rows} in "
                        f"{before.template}; keep one template"
                    )
                tracks[stem] = _Labelled(split="test", template=path, rows=rows)
    return withheld


class _Files:
    """Where the files of a track lie."""

    def __init__(self, root: Path, folders: Mapping[str, Folder], faces: str) -> None:
        self._media = Media(root, folders)
        self._faces = face_folders(folders, faces)
        boxes = folders.get(BOX_FOLDER)
        named = boxes.files if boxes else []
        self._boxes = {file[:-4]: f"{BOX_FOLDER}/{file}" for file in named if file.endswith(".csv")}
        self._transcripts = _transcripts(root, folders.get(TRANSCRIPT_FOLDER))
        self._rates = _rates(root / RATES) if RATES in folders[""].files else {}

    def track(self, name: str, found: _Labelled) -> Track:
        source, region = source_of(name)
        media = self._media.of(source, name)
        rate = self._rates.get(source)
        return Track(
            name=name,
            source=source,
            split=found.split,
            family=family_of(source),
            region=region,
            media=media,
            labels=found.labels,
            faces=self._faces.get(name),
            boxes=self._boxes.get(name),
            transcript=self._transcripts.get(name) or self._transcripts.get(source),
            rows=found.rows,
            template=found.template,
            # A video's own frames say when rows are; sound alone does not.
            clock=RowClock(rate=rate) if rate and media and is_sound(media) else None,
        )


def _transcripts(root: Path, folder: Folder | None) -> dict[str, str]:
    """Find transcripts by track or source."""
    found: dict[str, str] = {}
    for name in folder.files if folder else ():
        path = Path(name)
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem in found:
            raise DataError(
                f"{root}: transcript of {path.stem!r} twice: {found[path.stem]}, "
                f"{TRANSCRIPT_FOLDER}/{name}; keep one"
            )
        found[path.stem] = f"{TRANSCRIPT_FOLDER}/{name}"
    return found


def _rates(path: Path) -> dict[str, float]:
    """Read the rates of sources: `source,rate` in frames per second."""
    rates: dict[str, float] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, line in enumerate(csv.reader(file), 1):
            if number == 1 and line == ["source", "rate"]:
                continue
            source, text = line if len(line) == 2 else ("", "")
            try:
                rate = float(text)
            except ValueError:
                rate = 0.0
            if not 0 < rate < 1000:
                raise DataError(
                    f"{path}, line {number}: expected a source and its frames per second, "
                    f"found {','.join(line)[:80]!r}"
                )
            rates[source] = rate
    return rates
