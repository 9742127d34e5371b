"""Digests: of values in canonical form, of files, of folders of images; remembered by stat."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .atomic import write_json
from .errors import StoreError

BLOCK = 1 << 20
SIMPLE = {str, int, float, bool, type(None)}


def canonical(value: Any) -> bytes:
    """Give the one JSON text of a value: sorted keys, no spaces, no NaN, dataclasses as objects.

    Raises:
        StoreError: The value holds something that JSON cannot carry exactly.
    """
    try:
        return _text(_plain(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot be put in canonical form: {_shown(value)}: {error}") from error


def _shown(value: Any) -> str:
    """Show the beginning of a value that may be nested too deep to be shown."""
    try:
        return ascii(value)[:200]
    except RecursionError:
        return f"a {type(value).__name__} nested too deep"


def _text(plain: Any) -> bytes:
    return json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _plain(value: Any) -> Any:
    """Give a value with dataclasses as objects; names of an object's parts must be text.

    (JSON would write the number 1 and the text "1" alike, and two records would share a digest.)
    """
    if type(value) in SIMPLE:
        return value
    if isinstance(value, (dict, Mapping)):
        for name in value:
            if not isinstance(name, str):
                message = f"{name!r} is not a text, as the name of a part must be"
                raise TypeError(message)
        return {
            name: part if type(part) in SIMPLE else _plain(part) for name, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    return value


def digest(value: Any) -> str:
    """Give the SHA-256 (64 hex digits) of a value's canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def parsed_digest(value: Any, where: str) -> str:
    """Give the same of a value that was read from JSON at some place, in half the time.

    Raises:
        StoreError: The value has no canonical form: half a character in a text, or nested too deep.
    """
    try:
        return hashlib.sha256(_text(value)).hexdigest()
    except (ValueError, RecursionError) as error:
        problem = f"cannot be put in canonical form: {_shown(value)}: {error!s:.200}"
        raise StoreError(f"{where}: {problem}") from error


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

    def __init__(self, folder: Path, *, trusted: bool = True) -> None:
        self._folder = folder
        self._trusted = trusted
        self._learned: set[Path] = set()

    def reread(self) -> DigestMemory:
        """Give the same memory, written but not believed: every input is read again, once."""
        return DigestMemory(self._folder, trusted=False)

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
        record = self._record(path)
        if not (self._trusted or record in self._learned):
            return None
        try:
            known = json.loads(record.read_bytes())
        except (FileNotFoundError, PermissionError, ValueError):
            return None
        if not isinstance(known, dict) or known.get("mark") != mark:
            return None
        value = known.get("sha256")
        return value if isinstance(value, str) else None

    def _learn(self, path: Path, mark: list[int], value: str) -> str:
        record = self._record(path)
        write_json(record, {"mark": mark, "sha256": value})
        self._learned.add(record)
        return value
