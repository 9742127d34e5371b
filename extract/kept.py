"""What is kept open or in memory of files: shared by threads, let go when it becomes too much."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from ..cache import MediaError

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    lock: Lock = field(default_factory=Lock)
    users: int = 0
    value: T | None = None
    size: int = 0
    error: str = ""


class Kept(Generic[T]):
    """One value per file, made when it is first used; those used longest ago go first.

    Args:
        make: Opens or reads a file; its MediaError is remembered and raised again.
        size: What a value counts.
        most: How much is kept; more only while it is in use.
        close: Lets go of a value.
    """

    def __init__(
        self,
        make: Callable[[Path], T],
        size: Callable[[T], int],
        most: int,
        close: Callable[[T], None],
    ) -> None:
        self._make, self._size, self._most, self._close = make, size, most, close
        self._entries: OrderedDict[Path, _Entry[T]] = OrderedDict()
        self._lock = Lock()

    @contextmanager
    def use(self, path: Path) -> Generator[T]:
        """Hold a file's value; others that want the same one wait.

        Raises:
            MediaError: The file cannot be read.
        """
        with self._lock:
            entry = self._entries.setdefault(path, _Entry[T]())
            self._entries.move_to_end(path)
            entry.users += 1
        try:
            with entry.lock:
                yield self._value(path, entry)
        finally:
            with self._lock:
                entry.users -= 1
                self._trim()

    def _value(self, path: Path, entry: _Entry[T]) -> T:
        if entry.error:
            raise MediaError(entry.error)
        if entry.value is None:
            try:
                entry.value = self._make(path)
            except MediaError as error:
                entry.error = str(error)
                raise
            entry.size = self._size(entry.value)
        return entry.value

    def _trim(self) -> None:
        total = sum(entry.size for entry in self._entries.values())
        for path, entry in list(self._entries.items()):
            if total <= self._most:
                return
            if not entry.users and entry.value is not None:
                total -= entry.size
                self._close(entry.value)
                del self._entries[path]

    def close(self) -> None:
        """Let go of all; nobody uses any."""
        for entry in self._entries.values():
            if entry.value is not None:
                self._close(entry.value)
        self._entries.clear()
