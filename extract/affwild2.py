"""Aff-Wild2's folder layout: tracks, sources and face folders found by exact name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..cache import DataError
from .dataset import Dataset, Region, Split, Track

LABEL_FOLDERS = ("VA_Estimation_Challenge", "VA_Set")
SPLIT_FOLDERS: dict[str, Split] = {
    "Train_Set": "train",
    "Training_Set": "train",
    "train": "train",
    "Validation_Set": "val",
    "Val_Set": "val",
    "validate": "val",
}
MEDIA_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".ts", ".flv", ".m4v"})
FACE_FOLDERS = "cropped_aligned*"
BOX_FOLDER = "boxes"
SIDES: dict[str, Region] = {"_left": "left", "_right": "right"}
PART = re.compile(r"(?P<recording>\d+-\d+-\d+x\d+)-\d|(?P<numbered>video\d+)_\d")


def scan(root: Path, name: str = "affwild2") -> Dataset:
    """Find the tracks of a folder in Aff-Wild2's layout, from names alone.

    Args:
        root: Folder that holds label folders, videos (`batch1/…`), face crops
            (`cropped_aligned…/<track>`, in one or several such folders) and box files
            (`boxes/<track>.csv`).
        name: The data set's name in the store.

    Returns:
        Tracks sorted by name; media, labels and faces as paths relative to `root`.

    Raises:
        DataError: No label folder, a track in two splits, or two media files of one name.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the data set's root as data.path")
    media = _media(root)
    faces = _faces(root)
    boxes = {path.stem: path for path in (root / BOX_FOLDER).glob("*.csv")}
    tracks: dict[str, Track] = {}
    for split, path in _label_files(root):
        stem = path.stem
        if stem in tracks:
            raise DataError(
                f"{path}: track {stem!r} is also at {tracks[stem].labels}; keep one label release"
            )
        source, region = source_of(stem)
        tracks[stem] = Track(
            name=stem,
            source=source,
            split=split,
            family=family_of(source),
            region=region,
            media=media.get(source),
            labels=path.relative_to(root).as_posix(),
            faces=faces.get(stem),
            boxes=boxes[stem].relative_to(root).as_posix() if stem in boxes else None,
        )
    if not tracks:
        raise DataError(
            f"{root}: no label files; expected {' or '.join(LABEL_FOLDERS)} with "
            f"{', '.join(SPLIT_FOLDERS)} holding one .txt per track"
        )
    return Dataset(name, str(root), tuple(tracks[stem] for stem in sorted(tracks)))


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


def _folders(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        for child in sorted(root.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _folders(child, depth - 1)


def _label_files(root: Path) -> Iterator[tuple[Split, Path]]:
    found = [folder for folder in _folders_without_faces(root) if folder.name in LABEL_FOLDERS]
    for folder in found or [root]:
        for alias, split in SPLIT_FOLDERS.items():
            for path in sorted((folder / alias).glob("*.txt")):
                if not path.name.startswith("."):
                    yield split, path


def _folders_without_faces(root: Path) -> Iterator[Path]:
    """Folders that may hold labels or videos; face folders are many and hold neither."""
    yield root
    for child in sorted(root.iterdir()):
        if child.is_dir() and not child.name.startswith((".", "cropped")):
            yield from _folders(child, 1)


def _media(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in _folders_without_faces(root):
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() not in MEDIA_SUFFIXES or path.name.startswith("."):
                continue
            place = path.relative_to(root).as_posix()
            if path.stem in found:
                raise DataError(f"{root}: source {path.stem!r} twice: {found[path.stem]}, {place}")
            found[path.stem] = place
    return found


def _faces(root: Path) -> dict[str, str]:
    """Find face folders; releases nest them one or two folders deep, and the first one counts."""
    found: dict[str, str] = {}
    for outer in sorted(root.glob(FACE_FOLDERS)):
        for folder in _face_folders(outer, 2):
            found.setdefault(folder.name, folder.relative_to(root).as_posix())
    return found


def _face_folders(outer: Path, depth: int) -> Iterator[Path]:
    """Give the innermost folders; what holds a folder first is no folder of images.

    Looks at one entry of each folder of images, which may hold many thousands.
    """
    for child in sorted(outer.iterdir()):
        if not child.is_dir() or child.name.startswith("."):
            continue
        with os.scandir(child) as entries:
            first = next((entry for entry in entries if not entry.name.startswith(".")), None)
        if first is not None and first.is_dir() and depth:
            yield from _face_folders(child, depth - 1)
        else:
            yield child
