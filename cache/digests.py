"""Digests: of values in canonical form, of files, of folders of images; remembered by stat."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .atomic import write_json
from .errors import StoreError

BLOCK = 1 << 20


def canonical(value: Any) -> bytes:
    """Give the one JSON text of a value: sorted keys, no spaces, no NaN, dataclasses as objects.

    Raises:
        StoreError: The value holds something that JSON cannot carry exactly.
    """
    try:
        text = json.dumps(
            value,
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
            default=_plain,
        )
    except (TypeError, ValueError) as error:
        raise StoreError(f"cannot be put in canonical form: {value!r}: {error}") from error
    return text.encode()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    message = f"{type(value).__name__} is not a plain value"
    raise TypeError(message)


def digest(value: Any) -> str:
    """Give the SHA-256 (64 hex digits) of a value's canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """Give the SHA-256 of a file, read in blocks of 1 MiB."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            state.update(block)
    return state.hexdigest()


class DigestMemory:
    """Digests of inputs, remembered in a folder so that a run with nothing to do only stats.

    A file is remembered by (size, mtime, inode), a folder of images by (number of entries, its
    mtime). Each input has a small file of its own, so many processes can share the folder; its
    name is a digest of the input's path, so no path is stored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, path: Path) -> str:
        """Give the SHA-256 of a file's bytes."""
        stat = path.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        return self._remembered(path, mark) or self._learn(path, mark, file_digest(path))

    def folder(self, path: Path, names: Sequence[str]) -> str:
        """Give the digest of the sorted names and bytes of the files `names` in a folder."""
        mark = [len(names), path.stat().st_mtime_ns]
        known = self._remembered(path, mark)
        if known:
            return known
        state = hashlib.sha256()
        for name in sorted(names):
            state.update(f"{name}\0{file_digest(path / name)}\n".encode())
        return self._learn(path, mark, state.hexdigest())

    def _record(self, path: Path) -> Path:
        name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
        return self._folder / name[:2] / f"{name}.json"

    def _remembered(self, path: Path, mark: list[int]) -> str | None:
        try:
            known = json.loads(self._record(path).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(known, dict) or known.get("mark") != mark:
            return None
        value = known.get("sha256")
        return value if isinstance(value, str) else None

    def _learn(self, path: Path, mark: list[int], value: str) -> str:
        write_json(self._record(path), {"mark": mark, "sha256": value})
        return value
