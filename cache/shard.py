"""A shard: the rows of many items end to end, in one immutable folder with an index and a seal."""

from __future__ import annotations

import functools
import gc
import hashlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hdf5_format, zarr_format
from .arrays import MappedArray, StoredArray
from .entries import (
    ARRAYS,
    CHUNK_ROWS,
    INDEX,
    PROVENANCE,
    SEAL,
    Entry,
    Index,
    check_version,
    parse_index,
    read_seal,
)
from .errors import StoreError
from .layout import DamagedRowsError, Layout
from .place import LocalPlace, Place, parse_record
from .ranged import RangedArray

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RECORDS = frozenset({INDEX, PROVENANCE})
HDF5_FILES = RECORDS | {hdf5_format.FILE}
ZARR_FILES = RECORDS | zarr_format.FILES
LARGEST_EXPANSION = 40_000
"""An archive's rows may take this many times the bytes of its files: zstd on zeros comes near."""
OPENED_AT_ONCE = 8
"""Shards at a URL that are opened at the same time."""
REPAIR = "run: concord cache verify STORE --repair"


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a shard, and which items that costs."""

    path: str
    """The shard's folder."""
    problem: str
    entries: tuple[Entry, ...] = ()
    """Items that cannot be read; none where the index itself is unknown."""

    def error(self, entry: Entry) -> StoreError:
        """Make the error of reading one of the items."""
        return StoreError(
            f"{self.path}: rows 0 to {entry.rows} of track {entry.track!r} cannot be read: "
            f"{self.problem}; {REPAIR}"
        )


class Shard:
    """A published shard, opened for reading."""

    def __init__(self, place: Place | Path, *, mapped: bool = True) -> None:
        """Open a shard: check its seal, the sizes of its files and its index.

        Args:
            place: The shard's folder.
            mapped: Map arrays that are local and uncompressed; False leaves all to the libraries.

        Raises:
            StoreError: Something of it is missing, damaged or not of this format.
        """
        self.place: Place = LocalPlace(str(place)) if isinstance(place, Path) else place
        self._mapped = mapped
        self.seal = read_seal(self.place)
        self.index = self._read_index()
        self._check_files()
        self.entries: dict[str, Entry] = {entry.key: entry for entry in self.index.items}

    @property
    def path(self) -> str:
        """The shard's folder."""
        return str(self.place)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def _read_index(self) -> Index:
        where = f"{self.path}/{INDEX}"
        record = parse_record(self.sealed(INDEX), where)
        if check_version(record, where) == 1:
            record = zarr_format.index_of_version_1(self.place, record, where)
        return parse_index(record, where)

    def sealed(self, name: str) -> bytes:
        """Give a small file's bytes after comparing them with the seal.

        Raises:
            StoreError: It is missing, or not what was sealed.
        """
        try:
            content = self.place.read(name)
        except FileNotFoundError as error:
            raise StoreError(f"{self.path}/{name}: missing") from error
        _, expected = self.seal.files.get(name, (0, "no record"))
        if hashlib.sha256(content).hexdigest() != expected:
            raise StoreError(f"{self.path}/{name}: damaged: SHA-256 differs from the seal's")
        return content

    def _check_files(self) -> None:
        expected = HDF5_FILES if self.index.format == "hdf5" else ZARR_FILES
        if frozenset(self.seal.files) != expected:
            odd = sorted(map(str, set(self.seal.files) ^ expected))
            raise StoreError(f"{self.path}/{SEAL}: not the files of this format: {odd!r:.200}")
        sizes = self.place.sizes(expected, quick=True)
        for name, found in sizes.items():
            size = self.seal.files[name][0]
            if found != size:
                problem = "missing" if found is None else f"expected {size} bytes, found {found}"
                raise DamagedFileError(f"{self.path}/{name}: {problem}", self.index.items)
        if self.index.compression is None:
            for layout in self.layouts.values():
                layout.check_size(self.seal.files[layout.file][0], f"{self.path}/{layout.file}")
        else:
            self._check_expansion()

    def _check_expansion(self) -> None:
        hdf5 = self.index.format == "hdf5"
        files = [hdf5_format.FILE if hdf5 else zarr_format.file_of(name) for name in ARRAYS]
        stored = sum(self.seal.files[file][0] for file in set(files))
        row = self.index.dim * self.dtype.itemsize
        row += sum(self.index.type_of(name).itemsize for name in ARRAYS if name != "x")
        claimed = -(-self.index.rows // CHUNK_ROWS) * CHUNK_ROWS * row
        if claimed > stored * LARGEST_EXPANSION:
            raise StoreError(
                f"{self.path}/{INDEX}: {claimed} bytes of rows from {stored} bytes of files"
            )

    @functools.cached_property
    def layouts(self) -> dict[str, Layout]:
        """Array to where its bytes lie; of an uncompressed shard."""
        kind = hdf5_format if self.index.format == "hdf5" else zarr_format
        return kind.layouts(self.index)

    @functools.cached_property
    def provenance(self) -> dict[str, Any]:
        """Recipe, library versions, device and timings of these rows."""
        return parse_record(self.sealed(PROVENANCE), f"{self.path}/{PROVENANCE}")

    @functools.cached_property
    def arrays(self) -> dict[str, StoredArray]:
        """Array to its reader.

        Raises:
            StoreError: A folder of the shard is a link.
        """
        self.place.sizes(self.seal.files)
        if self.index.compression is None:
            if not isinstance(self.place, LocalPlace):
                return {name: RangedArray(self.place, at) for name, at in self.layouts.items()}
            if self._mapped:
                return {name: MappedArray(self.path, at) for name, at in self.layouts.items()}
        if self.index.format == "hdf5":
            return {name: hdf5_format.Hdf5Array(self.place, self.index, name) for name in ARRAYS}
        zarr_array = functools.partial(zarr_format.ZarrArray, sealed=self.sealed)
        return {name: zarr_array(self.place, self.index, name) for name in ARRAYS}

    @property
    def dim(self) -> int:
        """Width of a row."""
        return self.index.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a row's values."""
        return self.index.type_of("x")

    def read(
        self, name: str, entry: Entry, first: int = 0, stop: int | None = None
    ) -> NDArray[Any]:
        """Read rows of one item.

        Args:
            name: `x`, `valid`, `flags` or `times`.
            entry: The item.
            first: First row, counted in the item.
            stop: Row before which to stop; all of the item by default.

        Raises:
            StoreError: The rows are damaged; names file, track and rows.
        """
        stop = entry.rows if stop is None else stop
        try:
            return self.arrays[name].read(entry.first + first, entry.first + stop)
        except DamagedRowsError as error:
            raise self.damaged(name, entry, error) from error
        except FileNotFoundError as error:
            raise StoreError(f"{self.path}: rows of track {entry.track!r}: file is gone") from error

    def damaged(self, name: str, entry: Entry, error: DamagedRowsError) -> StoreError:
        """Make the error of damaged rows of an item."""
        first = max(error.first - entry.first, 0)
        stop = min(error.stop - entry.first, entry.rows)
        file = hdf5_format.FILE if self.index.format == "hdf5" else zarr_format.file_of(name)
        return StoreError(
            f"{self.path}/{file}: rows {first} to {stop} of {name!r}, track {entry.track!r}, "
            f"are damaged: {error}; {REPAIR}"
        )


class DamagedFileError(StoreError):
    """A shard whose index is sound but a file of which is not: its items are known and lost."""

    def __init__(self, message: str, entries: tuple[Entry, ...]) -> None:
        super().__init__(message)
        self.entries = entries


@contextmanager
def _uncollected() -> Generator[None]:
    """Put off collecting garbage: parsing makes many objects and none of it, and each full
    collection looks at all that a program has imported.
    """  # noqa: D205
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_uncollected()
def open_shards(
    folder: Place, *, mapped: bool = True
) -> tuple[tuple[Shard, ...], tuple[Damage, ...]]:
    """Open all shards of a folder; one that is damaged does not keep the others from being read.

    Returns:
        The sound shards, those with most rows first, and what is wrong with the others.
    """
    shards: list[Shard] = []
    damages: list[Damage] = []
    for found in _all_opened([folder / name for name in folder.folders()], mapped=mapped):
        if isinstance(found, Shard):
            shards.append(found)
        else:
            damages.append(found)
    shards.sort(key=lambda shard: (-shard.index.rows, shard.path))
    return tuple(shards), tuple(damages)


def _all_opened(places: Sequence[Place], *, mapped: bool) -> Iterator[Shard | Damage]:
    """Open shards; several at a time where a server is waited for."""
    if all(isinstance(place, LocalPlace) for place in places):
        yield from (_opened(place, mapped=mapped) for place in places)
        return
    with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
        yield from pool.map(functools.partial(_opened, mapped=mapped), places)


def _opened(place: Place, *, mapped: bool) -> Shard | Damage:
    try:
        return Shard(place, mapped=mapped)
    except DamagedFileError as error:
        return Damage(str(place), str(error), error.entries)
    except StoreError as error:
        return Damage(str(place), str(error))
