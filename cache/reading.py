"""Reading shards again: every file against its seal, and each item of a damaged one."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .digests import file_digest
from .entries import CHUNK_ROWS, INDEX, SEAL, VERSION, Entry
from .errors import StoreError
from .finding import LostItem
from .item import Item
from .layout import DamagedRowsError
from .place import LocalPlace, Place, read_record
from .ranged import RangedArray
from .shard import DamagedFileError, Shard

if TYPE_CHECKING:
    from .arrays import StoredArray

THREADS = 2
"""Hashing keeps a processor busier than a disk, and leaves Python's lock to others."""


class OpenedShard(Shard):
    """A shard opened in spite of damaged files, to see what is left; seal and index are sound."""

    def _check_files(self) -> None:
        try:
            super()._check_files()
        except DamagedFileError:
            # Rows are checked as they are read, but first memory is taken for them.
            if self.index.compression is not None:
                self._check_expansion()

    @functools.cached_property
    def arrays(self) -> dict[str, StoredArray]:
        """Readers that raise where a map of a failing disk or a shorter file would kill."""
        if self.index.compression is None:
            return {name: RangedArray(self.place, at) for name, at in self.layouts.items()}
        return super().arrays

    def lost(self, entry: Entry) -> LostItem | None:
        """Read an item; None if it is sound."""
        try:
            Item(self, entry).check()
        except OSError:
            return LostItem(entry.key, entry.track, self._lost_rows(entry))
        return None

    def _lost_rows(self, entry: Entry) -> tuple[tuple[int, int], ...]:
        """Find an item's damaged rows, chunk by chunk."""
        damaged: set[tuple[int, int]] = set()
        end = entry.first + entry.rows
        for name, array in self.arrays.items():
            cut = name == "x" or self.index.format == "hdf5"
            chunk = CHUNK_ROWS if cut else self.index.rows
            edges = [entry.first, *range((entry.first // chunk + 1) * chunk, end, chunk), end]
            for first, stop in itertools.pairwise(edges):
                try:
                    array.read(first, stop)
                except (DamagedRowsError, OSError):
                    damaged.add((first - entry.first, stop - entry.first))
        return _merged(damaged) or ((0, entry.rows),)


def _merged(stretches: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join stretches that touch or overlap."""
    merged: list[tuple[int, int]] = []
    for first, stop in sorted(stretches):
        if merged and first <= merged[-1][1]:
            first, stop = merged[-1][0], max(stop, merged.pop()[1])
        merged.append((first, stop))
    return tuple(merged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What reading a shard again found."""

    place: Place
    problems: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    """Paths of files that the seal does not know."""
    entries: tuple[Entry, ...] = ()
    """Items; none where seal or index is damaged."""
    shard: OpenedShard | None = None
    """To look closer where a file is damaged, and seal and index are not."""
    readable: bool = True
    """False where the problem is a newer version or a missing permission, so no damage."""


def read_shards(places: Sequence[Place]) -> Iterator[Reading]:
    """Read shards, two at a time, and give what was found in their order."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        yield from pool.map(read_shard, places)
    finally:
        pool.shutdown(cancel_futures=True)


def read_shard(place: Place) -> Reading:
    """Compare all files of a shard with its seal, in blocks of 1 MiB."""
    try:
        shard = OpenedShard(place)
    except OSError as error:
        readable = not (isinstance(error, PermissionError) or _is_newer(place))
        return Reading(place=place, problems=(str(error),), readable=readable)
    problems: list[str] = []
    readable = True
    for name, (size, sha256) in sorted(shard.seal.files.items()):
        try:
            problem = _difference(place, name, size, sha256)
        except OSError as error:
            readable = readable and not isinstance(error, PermissionError)
            problem = f"cannot be read: {error.strerror or error}"
        if problem:
            problems.append(f"{place}/{name}: {problem}")
    unexpected: list[str] = []
    try:
        known = {*shard.seal.files, SEAL}
        unexpected += [f"{place}/{name}" for name in _files(place, known) if name not in known]
    except StoreError as error:
        problems.append(str(error))
    return Reading(
        place=place,
        problems=tuple(problems),
        unexpected=tuple(unexpected),
        entries=shard.index.items,
        shard=shard if problems else None,
        readable=readable,
    )


def _difference(place: Place, name: str, size: int, sha256: str) -> str:
    """Say how a file differs from its seal; nothing if it does not."""
    found = place.sizes([name])[name]
    if found is None:
        return "missing"
    if found != size:
        return f"expected {size} bytes, found {found}"
    if _sha256(place, name) != sha256:
        return "damaged: SHA-256 differs from the seal's"
    return ""


def _sha256(place: Place, name: str) -> str:
    if isinstance(place, LocalPlace):
        return file_digest(Path(place.path, name))
    with place.open(name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(place: Place, known: Collection[str], inside: str = "") -> Iterator[str]:
    """List the files of a folder and of the known ones below; unknown folders by name."""
    yield from (f"{inside}{name}" for name in place.files())
    for name in place.folders():
        below = f"{inside}{name}/"
        if any(file.startswith(below) for file in known):
            yield from _files(place / name, known, below)
        else:
            yield below.removesuffix("/")


def _is_newer(place: Place) -> bool:
    """Say whether seal and index both are of a newer version; one alone is a damaged digit."""
    return all(version(place, name) > VERSION for name in (SEAL, INDEX))


def version(place: Place, name: str) -> int:
    """Give the version that a record states; 0 where it cannot be read."""
    try:
        found = read_record(place, name).get("version")
    except StoreError:
        return 0
    return found if type(found) is int else 0
