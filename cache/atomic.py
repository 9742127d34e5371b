"""Publishing: a file or folder is either wholly there or not there at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import StoreError
from .rights import hand_down, make_folder

TEMPORARY = ".tmp-"
"""Prefix of everything unfinished; readers skip such names, and leftovers are safe to delete."""


def temporary_sibling(path: Path) -> Path:
    """Name a sibling of `path` that no other process uses."""
    return path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}"[:200])


def fsync_tree(path: Path) -> None:
    """Make every file and folder below `path`, and itself, durable.

    All at once, so that a file system with a journal commits them together.
    """
    found = [Path(folder, name) for folder, _, names in os.walk(path) for name in ("", *names)]
    with ThreadPoolExecutor(len(found)) as pool:
        list(pool.map(fsync_folder, found))


def fsync_folder(path: Path) -> None:
    """Make the entries of a folder, or a file, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def room_for(what: str, where: Path) -> Generator[None]:
    """Say clearly that a disk is full, where one is.

    Raises:
        StoreError: No space, or none of a quota, is left; `errno` says which.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = StoreError(
            f"{where}: no space left for {what}; nothing that was published is lost: "
            "free some space and run again"
        )
        full.errno = error.errno
        raise full from error


def atomic_write(path: Path, content: bytes) -> None:
    """Write a whole file: temporary sibling, fsync, rename, fsync of the folder.

    Raises:
        StoreError: The disk is full; a file that was there before is as it was.
    """
    temporary = temporary_sibling(path)
    with room_for(f"{len(content)} bytes", path):
        make_folder(path.parent)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                hand_down(temporary)
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)


def json_bytes(value: Any) -> bytes:
    """Give JSON in the one form that has the same bytes for the same value."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; see `json_bytes`."""
    atomic_write(path, json_bytes(value))


def publish_folder(temporary: Path, final: Path) -> bool:
    """Rename a finished folder to its name; a folder that is there already wins.

    Returns:
        True if this call published it, False if somebody else had done so before.
    """
    hand_down(temporary)
    try:
        temporary.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        # On a network file system this may be our own rename, done and yet reported as failed.
        shutil.rmtree(temporary, ignore_errors=True)
        return False
    fsync_folder(final.parent)
    return True
