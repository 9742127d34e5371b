"""A place: a folder or a URL that a store lies in, read without trusting what is there.

Nothing below the root of a store may be a link, every small file has a limit, and names from a
store's files are compared with the names that the format knows, never joined to a path unchecked.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .atomic import atomic_write
from .errors import ConcordError, StoreError

if TYPE_CHECKING:
    from .url_place import UrlPlace

RECORD_LIMIT = 24 << 20
"""Bytes of the largest JSON file that is read: parsed, it may take 25 times as much memory."""


class Place(Protocol):
    """A folder of a store, wherever it is."""

    def __truediv__(self, name: str) -> Place:
        """Give the folder `name` inside."""
        ...

    def folders(self) -> list[str]:
        """Names of the folders inside, sorted; hidden ones and plain files are not seen."""
        ...

    def files(self) -> list[str]:
        """Names of the plain files inside, sorted; hidden ones are not seen."""
        ...

    def sizes(self, names: Collection[str], *, quick: bool = False) -> dict[str, int | None]:
        """Bytes of each named file (`a/b` lies in folder `a`); None where there is none.

        Args:
            names: The files.
            quick: Leave it to a later look whether a folder on the way is a link.
        """
        ...

    def read(self, name: str) -> bytes:
        """Give a whole small file.

        Raises:
            FileNotFoundError: There is none.
            StoreError: It is no plain file, or larger than any record may be.
        """
        ...

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Give a file's bytes from `start` to before `stop`."""
        ...

    def open(self, name: str) -> Any:
        """Open a file for a library to read."""
        ...


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A folder of this machine or of a mounted file system."""

    path: str
    below: bool = field(default=False, compare=False)
    """Not the root of a store, which alone may be reached through a link."""

    def __str__(self) -> str:
        return self.path

    def __truediv__(self, name: str) -> LocalPlace:
        return LocalPlace(f"{self.path}/{name}", below=True)

    def folders(self) -> list[str]:
        """Names of the folders inside, sorted."""
        return self._names(folders=True)

    def files(self) -> list[str]:
        """Names of the plain files inside, sorted."""
        return self._names(folders=False)

    def _names(self, *, folders: bool) -> list[str]:
        if self.below and os.path.islink(self.path):  # noqa: PTH114 - as below
            raise _link(self.path)
        try:
            with os.scandir(self.path) as entries:
                found = [entry for entry in entries if not entry.name.startswith(".")]
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise StoreError(f"{self.path}: expected a folder, found a file") from error
        for entry in found:
            if entry.is_symlink():
                raise _link(entry.path)
        return sorted(entry.name for entry in found if entry.is_dir() == folders)

    def sizes(self, names: Collection[str], *, quick: bool = False) -> dict[str, int | None]:
        """Bytes of each named file; None where there is none."""
        folders = {name[:at] for name in names for at in _ends_of_folders(name)}
        for folder in () if quick else sorted(folders):
            at = f"{self.path}/{folder}"
            if os.path.islink(at):  # noqa: PTH114 - a path object costs ten times this check
                raise _link(at)
        return {name: self._size(name) for name in names}

    def _size(self, name: str) -> int | None:
        path = f"{self.path}/{name}"
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(found.st_mode):
            if stat.S_ISLNK(found.st_mode):
                raise _link(path)
            raise StoreError(f"{path}: expected a plain file, found something else")
        return found.st_size

    def read(self, name: str) -> bytes:
        """Give a whole small file."""
        path = f"{self.path}/{name}"
        if self._size(name) is None:
            raise FileNotFoundError(path)
        # A path object costs as much as the reading itself.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            # Of the very file that is open: another one may have taken the name meanwhile.
            size = os.fstat(handle).st_size
            if size > RECORD_LIMIT:
                raise too_large(path, size)
            return os.read(handle, size)
        finally:
            os.close(handle)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Give a file's bytes from `start` to before `stop`."""
        with Path(self.path, name).open("rb") as file:
            return os.pread(file.fileno(), stop - start, start)

    def write(self, name: str, content: bytes, tag: str | None = None) -> None:
        """Write a whole small file, atomically; a folder knows no conditions."""
        del tag
        atomic_write(Path(self.path, name), content)

    def open(self, name: str) -> Any:
        """Give the file's path, which every library opens best by itself."""
        return f"{self.path}/{name}"


def _ends_of_folders(name: str) -> list[int]:
    """Say where the folders of a name end: `x/c/0` lies in `x` and in `x/c`."""
    return [at for at, letter in enumerate(name) if letter == "/"]


def open_place(path_or_url: str | Path) -> LocalPlace | UrlPlace:
    """Open a folder, or a URL such as `s3://bucket/store`.

    Raises:
        ConfigError: The URL carries a user, a password or a query.
        StoreError: fsspec knows no such scheme, or its driver is not installed.
    """
    text = str(path_or_url)
    if "://" not in text or isinstance(path_or_url, Path):
        return LocalPlace(text.rstrip("/") or "/")
    from .drivers import open_system
    from .url_place import UrlPlace

    system, path = open_system(text)
    if "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)):
        return LocalPlace(path.rstrip("/"))
    return UrlPlace(system, path.rstrip("/"), text.rstrip("/"))


def parse_record(content: bytes, where: str) -> dict[str, Any]:
    """Read JSON that must be an object.

    Raises:
        StoreError: It is not.
    """
    try:
        record = json.loads(content.decode(), parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(record, dict):
        raise StoreError(f"{where}: expected an object, found {type(record).__name__}")
    return record


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its parts, each of which may be named once."""
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a name is there twice in one object")
    return record


def read_record(place: Place, name: str) -> dict[str, Any]:
    """Read a JSON file that must hold an object.

    Raises:
        StoreError: It is missing, or holds something else.
    """
    try:
        content = place.read(name)
    except OSError as error:
        if isinstance(error, ConcordError):
            raise
        raise StoreError(f"{place}/{name}: cannot be read: {error.strerror or error}") from error
    return parse_record(content, f"{place}/{name}")


def _link(path: str) -> StoreError:
    return StoreError(f"{path}: expected a plain file or folder, found a link; copy what it names")


def too_large(path: str, size: int) -> StoreError:
    """Make the error of a record that is larger than any may be."""
    return StoreError(f"{path}: expected at most {RECORD_LIMIT} bytes, found {size}")
