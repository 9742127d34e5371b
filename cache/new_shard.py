"""Writing a shard: arrays, index, provenance, seal; then one rename makes it appear whole."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import hdf5_format, zarr_format
from .atomic import (
    fsync_tree,
    json_bytes,
    publish_folder,
    room_for,
    temporary_sibling,
    write_json,
)
from .digests import digest, file_digest
from .entries import (
    ARRAYS,
    CODECS,
    DTYPES,
    INDEX,
    PROVENANCE,
    SEAL,
    VERSION,
    Entry,
    Index,
    NewerVersionError,
    Seal,
    check_index,
)
from .errors import StoreError
from .layout import crc32c_of
from .rights import make_folder
from .shard import Shard

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_CHUNKS = 32
"""Chunks that are written and hashed at the same time."""
REPEATED = 1
"""Flag of a row that repeats the last decodable frame."""
INTERPOLATED = 2
"""Flag of a row that lies between two computed ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """One item to be written: a track's rows of one stream."""

    key: str
    """The digest of `identity`; any other name where there is none."""
    track: str
    rows: NDArray[Any]
    """(rows, dim), the stream's dtype: float16, float32 or float64."""
    valid: NDArray[np.bool_]
    """(rows,), False where the row has no value; such rows hold zeros."""
    times: NDArray[np.float64]
    """(rows,), seconds on the container's clock; NaN where the input carries no clock."""
    flags: NDArray[np.uint8] | None = None
    """(rows,), REPEATED or INTERPOLATED, or both added; 0 for what was computed itself."""
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Everything that the numbers depend on: recipe digest, rows, input digests."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Array of a shard to this item's part of it."""
        flags = np.zeros(len(self.rows), np.uint8) if self.flags is None else self.flags
        return {"x": self.rows, "valid": self.valid, "flags": flags, "times": self.times}


def item_crc32c(arrays: Iterable[NDArray[Any]]) -> int:
    """Give the checksum of an item: crc32c of x, valid, flags and times one after another."""
    return crc32c_of(np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays)


@dataclass(frozen=True, slots=True)
class ShardFormat:
    """How a store writes its shards."""

    name: str = "zarr"
    """zarr or hdf5."""
    compressed: bool = False
    """For archives: smaller, and read by the format's library alone."""


def write_shard(
    folder: Path,
    items: Sequence[NewItem],
    provenance: Mapping[str, Any],
    how: ShardFormat = ShardFormat(),
) -> Path:
    """Write items as one shard below `folder` and publish it.

    The shard's name is a digest of its item keys, so the same items written twice meet under one
    name: the first one wins, and both writers are fine. One that is there but damaged gives way.

    Raises:
        StoreError: Items disagree in dimension or dtype, hold values of the wrong shape, or the
            disk is full; nothing is left behind.
    """
    index = _index(items, how)
    final = folder / shard_name(index)
    temporary = temporary_sibling(final)
    try:
        with room_for(f"a shard of {len(items)} items", folder):
            make_folder(temporary)
            _write(temporary, index, items, provenance)
            publish_shard(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def shard_name(index: Index) -> str:
    """Name a shard: a digest of its item keys."""
    return digest([entry.key for entry in index.items])[:24]


def publish_shard(temporary: Path, final: Path) -> None:
    """Rename a finished shard to its name; one that is there and sound wins."""
    _give_way(final)
    publish_folder(temporary, final)


def _write(
    folder: Path, index: Index, items: Sequence[NewItem], provenance: Mapping[str, Any]
) -> None:
    arrays = [item.arrays() for item in items]
    parts = {name: [each[name] for each in arrays] for name in ARRAYS}
    known: dict[str, str] = {}
    if index.format == "hdf5":
        offsets, checksums = hdf5_format.write_arrays(folder / hdf5_format.FILE, index, parts)
        index = dataclasses.replace(index, offsets=offsets, checksums=checksums)
    else:
        known = _write_zarr(folder, index, parts)
    # The folder is invisible until it is renamed, so one pass of fsync before that is enough.
    (folder / INDEX).write_bytes(json_bytes(index.record()))
    (folder / PROVENANCE).write_bytes(json_bytes(dict(provenance)))
    with ThreadPoolExecutor(1) as pool:
        # Hashed on a second core while the disk takes the bytes.
        seal = pool.submit(_seal, folder, known)
        fsync_tree(folder)
        write_json(folder / SEAL, seal.result().record())


def _write_zarr(
    folder: Path, index: Index, parts: Mapping[str, Sequence[NDArray[Any]]]
) -> dict[str, str]:
    """Write a Zarr group; the SHA-256 of the files whose bytes we lay out ourselves is known."""
    made = zarr_format.create_arrays(folder, index)
    if index.compression is not None:
        for name, array in made.items():
            array[...] = np.concatenate(parts[name])
        return {}
    known: dict[str, str] = {}
    for name, layout in zarr_format.layouts(index).items():
        path = folder / layout.file
        path.parent.mkdir(parents=True)
        known[layout.file] = _write_hashed(path, zarr_format.contents(layout, parts[name]))
    return known


def _write_hashed(path: Path, chunks: Iterable[list[NDArray[np.uint8]]]) -> str:
    """Write buffers one after another; a thread hashes them while they are written."""
    state = hashlib.sha256()

    def add(buffers: list[NDArray[np.uint8]]) -> None:
        for buffer in buffers:
            state.update(buffer.data)

    with ThreadPoolExecutor(1) as pool, path.open("xb") as file:
        for buffers in _batches(chunks):
            hashed = pool.submit(add, buffers)
            file.writelines([buffer.data for buffer in buffers])
            hashed.result()
    return state.hexdigest()


def _batches(chunks: Iterable[list[NDArray[np.uint8]]]) -> Iterator[list[NDArray[np.uint8]]]:
    every = iter(chunks)
    while batch := list(itertools.islice(every, BATCH_CHUNKS)):
        yield [buffer for chunk in batch for buffer in chunk]


def _seal(folder: Path, known: Mapping[str, str]) -> Seal:
    files: dict[str, tuple[int, str]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        files[name] = (path.stat().st_size, known.get(name) or file_digest(path))
    return Seal(VERSION, files)


def _give_way(final: Path) -> None:
    """Move a damaged shard out of the way of a sound one."""
    if not os.path.lexists(final):
        return
    try:
        Shard(final)
    except NewerVersionError:
        raise
    except StoreError:
        temporary = temporary_sibling(final)
        # Gone: another writer of the same items was faster. Should it be that writer's shard that
        # goes, ours takes its place with the very same items.
        with contextlib.suppress(FileNotFoundError):
            final.rename(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def _index(items: Sequence[NewItem], how: ShardFormat) -> Index:
    if not items:
        raise StoreError("a shard needs at least one item")
    entries: list[Entry] = []
    first = 0
    for item in items:
        _check_item(item, items[0])
        rows, crc = len(item.rows), item_crc32c(item.arrays().values())
        entries.append(Entry(item.key, item.track, first, rows, crc, dict(item.identity)))
        first += rows
    codec = CODECS[how.name] if how.compressed else None
    kind = items[0].rows
    index = Index(how.name, codec, kind.dtype.name, kind.shape[1], first, tuple(entries))
    check_index(dataclasses.replace(index, format="zarr", compression=None), "new shard")
    return index


def _check_item(item: NewItem, model: NewItem) -> None:
    expected = {"valid": np.bool_, "flags": np.uint8, "times": np.float64}
    arrays = item.arrays()
    kind = (model.rows.dtype, model.rows.shape[1:])
    fits = item.rows.ndim == 2 and item.rows.dtype.name in DTYPES
    fits = fits and (item.rows.dtype, item.rows.shape[1:]) == kind
    for name, dtype in expected.items():
        fits = fits and arrays[name].dtype == dtype and arrays[name].shape == item.rows.shape[:1]
    if not fits or not item.rows.dtype.isnative:
        beside = ", ".join(f"{n} {arrays[n].dtype} {arrays[n].shape}" for n in expected)
        raise StoreError(
            f"item of track {item.track!r:.80}: expected {kind[0]} rows of shape (rows, "
            f"{', '.join(map(str, kind[1]))}) ({', '.join(DTYPES)}) with (rows,) bool valid, uint8 "
            f"flags and float64 times; found {item.rows.dtype} {item.rows.shape} with {beside}"
        )
    if item.identity and digest(dict(item.identity)) != item.key:
        raise StoreError(f"item of track {item.track!r:.80}: its key is not its identity's digest")
