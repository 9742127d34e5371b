"""Publishing: a file or folder is either wholly there or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"
"""Prefix of everything unfinished; readers skip such names, and leftovers are safe to delete."""


def temporary_sibling(path: Path) -> Path:
    """Name a sibling of `path` that no other process uses."""
    return path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}"[:200])


def fsync_folder(path: Path) -> None:
    """Make the entries of a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(path: Path) -> None:
    """Make every file and folder below `path` durable, `path` last."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        fsync_folder(Path(folder))


def atomic_write(path: Path, content: bytes) -> None:
    """Write a whole file: temporary sibling, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically in the one form that gives the same bytes for the same value."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    atomic_write(path, text.encode() + b"\n")


def publish_folder(temporary: Path, final: Path) -> bool:
    """Rename a finished folder to its name; a folder that is there already wins.

    Returns:
        True if this call published it, False if somebody else had done so before.
    """
    try:
        temporary.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(temporary)
        return False
    fsync_folder(final.parent)
    return True
