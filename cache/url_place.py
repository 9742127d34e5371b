"""A folder behind a URL: read by ranges of bytes, written whole, through fsspec."""

from __future__ import annotations

import errno
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .drivers import attempt, protocols
from .errors import RemoteError, StoreError
from .place import RECORD_LIMIT, too_large

BLOCK = 8 << 20
"""Bytes that are asked for, or sent, at once."""
AT_ONCE = 4
"""Files of a shard, and blocks of a file, that are sent at once."""


@dataclass(frozen=True, slots=True)
class UrlPlace:
    """A folder behind a URL that fsspec knows."""

    system: Any
    """The fsspec file system."""
    path: str
    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> UrlPlace:
        return UrlPlace(self.system, f"{self.path}/{name}", f"{self.url}/{name}")

    @property
    def web(self) -> bool:
        """Read by plain HTTP: nothing can be listed or written."""
        return bool(protocols(self.system) & {"http", "https"})

    def folders(self) -> list[str]:
        """Names of the folders inside, sorted."""
        return self._names("directory")

    def files(self) -> list[str]:
        """Names of the plain files inside, sorted."""
        return self._names("file")

    def _names(self, kind: str) -> list[str]:
        if self.web:
            raise StoreError(f"{self.url}: a folder behind {self.url[:5]}… cannot be listed")

        def listed() -> Any:
            self.system.invalidate_cache()
            return self.system.ls(self.path, detail=True)

        try:
            entries = attempt(listed, self.url)
        except FileNotFoundError:
            return []
        found = [
            entry["name"].rstrip("/").rpartition("/")[2]
            for entry in entries
            if entry["type"] == kind
        ]
        return sorted(name for name in found if name and not name.startswith("."))

    def sizes(self, names: Collection[str], *, quick: bool = False) -> dict[str, int | None]:
        """Bytes of each named file; None where there is none. URLs have no links."""
        del quick
        return {name: self._size(name) for name in names}

    def _size(self, name: str) -> int | None:
        try:
            return int(
                attempt(lambda: self.system.info(f"{self.path}/{name}"), self.at(name))["size"]
            )
        except (FileNotFoundError, TypeError):
            return None

    def at(self, name: str) -> str:
        """Give the URL of a file."""
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes:
        """Give a whole small file, in one request."""
        limit = RECORD_LIMIT
        path, where = f"{self.path}/{name}", self.at(name)
        if self.web:
            from .web import read_whole

            return attempt(lambda: read_whole(self.system, path, limit), where)
        content = attempt(lambda: self.system.cat_file(path, start=0, end=limit + 1), where)
        if len(content) > limit:
            raise too_large(where, len(content))
        return content

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Give a file's bytes from `start` to before `stop`, in one request."""
        path, where = f"{self.path}/{name}", self.at(name)
        if self.web:
            from .web import read_range

            return attempt(lambda: read_range(self.system, path, start, stop), where)
        return attempt(lambda: self.system.cat_file(path, start=start, end=stop), where)

    def open(self, name: str) -> Any:
        """Open a file, read by ranges."""
        return attempt(lambda: self.system.open(f"{self.path}/{name}", "rb"), self.at(name))

    # --- writing

    def tag(self, name: str) -> str | None:
        """Give the mark of a file's present bytes, where the server can write only if it holds."""
        if not protocols(self.system) & {"s3", "s3a"}:
            return None
        path = f"{self.path}/{name}"
        self.system.invalidate_cache(path)
        try:
            return attempt(lambda: self.system.info(path), self.at(name)).get("ETag") or ""
        except FileNotFoundError:
            return ""

    def write(self, name: str, content: bytes, tag: str | None = None) -> None:
        """Write a whole small file.

        Args:
            name: The file.
            content: Its bytes.
            tag: Write only if the file still has this mark (empty: there is none yet); None to
                write in any case, as is done on a server that knows no conditions.

        Raises:
            RaceError: It has another mark by now.
        """
        path, where = f"{self.path}/{name}", self.at(name)
        condition = {} if tag is None else {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
        try:
            attempt(lambda: self.system.pipe_file(path, content, **condition), where)
        except RemoteError as error:
            if not condition or error.errno != errno.ENOSYS:
                raise
            attempt(lambda: self.system.pipe_file(path, content), where)
        except FileNotFoundError:
            raise self._nowhere() from None

    def send(self, source: Path, name: str) -> None:
        """Write a file with the bytes of a local one."""
        path = f"{self.path}/{name}"
        several = bool(protocols(self.system) & {"s3", "s3a"})
        how = {"chunksize": BLOCK, "max_concurrency": AT_ONCE} if several else {}
        try:
            attempt(lambda: self.system.put_file(str(source), path, **how), self.at(name))
        except FileNotFoundError:
            raise self._nowhere() from None

    def found(self) -> dict[str, int]:
        """Give the files below this folder, however deep, with their bytes."""

        def listed() -> Any:
            self.system.invalidate_cache()
            return self.system.find(self.path, detail=True)

        try:
            entries: dict[str, Any] = attempt(listed, self.url)
        except FileNotFoundError:
            return {}
        start = len(self.path.lstrip("/")) + 1
        return {path.lstrip("/")[start:]: int(entries[path]["size"]) for path in entries}

    def _nowhere(self) -> RemoteError:
        return RemoteError(f"{self.url}: nothing can be written there: make the bucket first")
