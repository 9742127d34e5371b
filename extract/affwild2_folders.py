"""Folders as Aff-Wild2 comes and as people keep it: where labels, media and face crops lie.

One walk lists every folder once. Folders of numbered images are many and large, so they are left
at the first image that is seen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import DataError
from .editions import release_of_path

if TYPE_CHECKING:
    from .dataset import Split

LABEL_FOLDERS = ("VA_Estimation_Challenge", "VA_Set", "VA")
OTHER_TASKS = re.compile(r"(au|expr|mtl|va_expr)(_.*)?", re.IGNORECASE)
SPLITS: dict[str, Split] = {
    "train_set": "train",
    "training_set": "train",
    "train": "train",
    "training": "train",
    "validation_set": "val",
    "valid_set": "val",
    "val_set": "val",
    "validation": "val",
    "validate": "val",
    "val": "val",
    "test_set": "test",
    "testset": "test",
    "target_set": "test",
    "test": "test",
}
"""Names that users give the folders of a split, in lower case."""
VIDEO = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".ts", ".flv", ".m4v"})
SOUND = frozenset({".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus"})
FACES = ("cropped_aligned*", "cropped*")
"""Face roots; the first pattern that some folder has is the one that counts."""
NUMBERED = re.compile(r"\d{5,}\.(jpe?g|png|bmp|wav|npy)", re.IGNORECASE)
DEPTH = 4
"""Folders below the root that are looked into: wrapper, root of faces, its double, track."""


@dataclass(slots=True)
class Folder:
    """One folder's entries."""

    path: str
    """Relative to the root; empty for the root itself."""
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    numbered: bool = False
    """It holds numbered images, and was not read to its end."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def below(self, name: str) -> str:
        """Give the path of an entry."""
        return f"{self.path}/{name}" if self.path else name


def split_of(folder: str) -> Split | None:
    """Say which split a folder of this name holds."""
    return SPLITS.get(folder.strip().casefold().replace(" ", "_").replace("-", "_"))


def walk(root: Path) -> dict[str, Folder]:
    """List the folders of a data set by their paths, parents first, without hidden ones."""
    return {folder.path: folder for folder in _walk(root, Folder(""), DEPTH)}


def _walk(root: Path, folder: Folder, depth: int) -> Iterator[Folder]:
    with os.scandir(root / folder.path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if NUMBERED.fullmatch(entry.name):
                folder.numbered = True
                break
            (folder.folders if entry.is_dir() else folder.files).append(entry.name)
    folder.files.sort()
    folder.folders.sort()
    yield folder
    for name in folder.folders if depth else ():
        yield from _walk(root, Folder(folder.below(name)), depth - 1)


@dataclass(frozen=True, slots=True)
class Release:
    """The label files of one folder of labels."""

    name: str
    """`ABAW6`; empty where the folders' names do not say."""
    files: tuple[tuple[Split, str], ...]
    """Split and path of every label file."""


def releases(folders: Mapping[str, Folder]) -> list[Release]:
    """Find label folders; where none has its name, the root or a folder in it that has splits."""
    found = [folder for folder in folders.values() if folder.name in LABEL_FOLDERS]
    if not any(_label_files(folder, folders) for folder in found):
        found = [f for f in folders.values() if "/" not in f.path and not _is_other_task(f.name)]
    every = [(folder, _label_files(folder, folders)) for folder in found]
    return [
        Release(release_of_path(f.path, f.folders), tuple(files)) for f, files in every if files
    ]


def _is_other_task(name: str) -> bool:
    return bool(OTHER_TASKS.fullmatch(name))


def _label_files(folder: Folder, folders: Mapping[str, Folder]) -> list[tuple[Split, str]]:
    found: list[tuple[Split, str]] = []
    for name in folder.folders:
        split, inner = split_of(name), folders.get(folder.below(name))
        if split and inner:
            texts = [file for file in inner.files if _suffix(file) == ".txt"]
            found.extend((split, inner.below(file)) for file in texts)
    return found


def face_folders(folders: Mapping[str, Folder], pattern: str = "") -> dict[str, str]:
    """Find face folders by track; releases nest them one or two folders deep.

    Args:
        folders: As `walk` gives them.
        pattern: What face roots are called; by default `cropped_aligned*`, else `cropped*`.

    Returns:
        Folder name to path: of the first root, in alphabetical order, that has images of it.
    """
    for wanted in (pattern,) if pattern else FACES:
        roots = {path for path, folder in folders.items() if fnmatch(folder.name, wanted)}
        found: dict[str, Folder] = {}
        for folder in folders.values():
            # What holds a folder is no folder of images.
            if folder.path in roots or folder.folders or not _is_below(folder.path, roots):
                continue
            known = found.get(folder.name)
            if known is None or (folder.numbered and not known.numbered):
                found[folder.name] = folder
        if found:
            return {name: folder.path for name, folder in found.items()}
    return {}


def _is_below(path: str, roots: set[str]) -> bool:
    parents = path.split("/")
    return any("/".join(parents[:depth]) in roots for depth in range(1, len(parents)))


class Media:
    """Media files by their stems."""

    def __init__(self, root: Path, folders: Mapping[str, Folder]) -> None:
        self._root = root
        self._videos: dict[str, list[str]] = {}
        self._sounds: dict[str, list[str]] = {}
        for folder in folders.values():
            for name in folder.files:
                suffix = _suffix(name)
                stem = name[: len(name) - len(suffix)]
                if suffix in VIDEO:
                    self._videos.setdefault(stem, []).append(folder.below(name))
                elif suffix in SOUND:
                    self._sounds.setdefault(stem, []).append(folder.below(name))

    def of(self, source: str, track: str) -> str | None:
        """Find a source's video; where there is none, the sound of the source or of the track.

        Raises:
            DataError: Several files have its name.
        """
        for files in (self._videos.get(source), self._sounds.get(source), self._sounds.get(track)):
            if files:
                return self._one(source, files)
        return None

    def _one(self, source: str, files: Sequence[str]) -> str:
        if len(files) > 1:
            raise DataError(f"{self._root}: source {source!r} twice: {', '.join(files)}; keep one")
        return files[0]


def is_sound(media: str) -> bool:
    """Say whether a media file is sound alone, by its name."""
    return _suffix(media) in SOUND


def _suffix(name: str) -> str:
    """Give a file's suffix in lower case; many names are looked at, so without pathlib."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and dot else ""
