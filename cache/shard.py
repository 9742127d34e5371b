"""A shard: the rows of many items end to end, in one immutable Zarr v3 group with a seal.

- `zarr.json`: the group.
- `x`: (rows, dim) features, inner chunks (256, dim) with crc32c, one shard object.
- `valid`: (rows,) bool, False where the row has no value.
- `flags`: (rows,) uint8, 0 computed, 1 repeated from the last decodable frame.
- `times`: (rows,) float64, seconds on the container's clock, NaN where there is none.
- `index.json`: item key, track, first row, rows, SHA-256 of the item's feature bytes.
- `provenance.json`: recipe, library versions, device.
- `seal.json`: size and SHA-256 of every other file, written last.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .atomic import fsync_tree, publish_folder, temporary_sibling, write_json
from .digests import digest, file_digest
from .errors import StoreError

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

VERSION = 1
CHUNK_ROWS = 256
SEAL = "seal.json"
REPEATED = 1
"""Flag of a row that repeats the last decodable frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """One item to be written: a track's rows of one stream."""

    key: str
    track: str
    rows: NDArray[Any]
    """(rows, dim), the stream's dtype."""
    valid: NDArray[np.bool_]
    """(rows,), False where the row has no value; such rows hold zeros."""
    times: NDArray[np.float64]
    """(rows,), seconds on the container's clock; NaN where the input carries no clock."""
    flags: NDArray[np.uint8] | None = None
    """(rows,), REPEATED where the last decodable frame was repeated."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an item lies in its shard."""

    key: str
    track: str
    first: int
    rows: int
    sha256: str


def write_shard(folder: Path, items: Sequence[NewItem], provenance: dict[str, Any]) -> Path:
    """Write items as one shard below `folder` and publish it.

    The shard's name is a digest of its item keys, so the same items written twice meet under one
    name: the first one wins, and both writers are fine.

    Raises:
        StoreError: Items disagree in dimension or dtype, or hold values of the wrong shape.
    """
    entries = _entries(items)
    final = folder / digest([entry.key for entry in entries])[:24]
    temporary = temporary_sibling(final)
    temporary.mkdir(parents=True)
    _write_arrays(temporary, items)
    index = [
        {"key": e.key, "track": e.track, "first": e.first, "rows": e.rows, "sha256": e.sha256}
        for e in entries
    ]
    write_json(temporary / "index.json", {"version": VERSION, "items": index})
    write_json(temporary / "provenance.json", provenance)
    write_json(temporary / SEAL, {"version": VERSION, "files": _contents(temporary)})
    fsync_tree(temporary)
    publish_folder(temporary, final)
    return final


def _entries(items: Sequence[NewItem]) -> list[Entry]:
    if not items:
        raise StoreError("a shard needs at least one item")
    kind = (items[0].rows.dtype, items[0].rows.shape[1:])
    entries: list[Entry] = []
    first = 0
    for item in items:
        rows = len(item.rows)
        beside = [a for a in (item.valid, item.times, item.flags) if a is not None]
        fits = all(array.shape == (rows,) for array in beside)
        if (item.rows.dtype, item.rows.shape[1:]) != kind or not fits:
            raise StoreError(
                f"item of track {item.track!r}: expected {kind[0]} rows of shape (rows, *{kind[1]})"
                f" with (rows,) valid, times and flags, found {item.rows.dtype} "
                f"{item.rows.shape} with {', '.join(str(array.shape) for array in beside)}"
            )
        content = hashlib.sha256(np.ascontiguousarray(item.rows).tobytes()).hexdigest()
        entries.append(Entry(item.key, item.track, first, rows, content))
        first += rows
    return entries


def _write_arrays(folder: Path, items: Sequence[NewItem]) -> None:
    import zarr

    group = zarr.create_group(folder, zarr_format=3)
    x = np.concatenate([item.rows for item in items])
    height = -(-len(x) // CHUNK_ROWS) * CHUNK_ROWS
    _create(group, "x", x, (CHUNK_ROWS, x.shape[1]), (height, x.shape[1]))
    flags = [
        np.zeros(len(item.rows), np.uint8) if item.flags is None else item.flags for item in items
    ]
    for name, parts in (
        ("valid", [item.valid for item in items]),
        ("flags", flags),
        ("times", [item.times for item in items]),
    ):
        values = np.concatenate(parts)
        _create(group, name, values, values.shape, None)


def _create(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
) -> None:
    from zarr.codecs import Crc32cCodec

    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        shards=shards,
        filters=None,
        compressors=Crc32cCodec(),
        # Left-out empty chunks would break the fixed stride that a mapped reader relies on.
        config={"write_empty_chunks": True},
    )
    array[...] = values


def _contents(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in files
    }


class Shard:
    """A published shard, opened for reading."""

    def __init__(self, path: Path) -> None:
        """Open a shard: read its index after checking the sizes in its seal.

        Raises:
            StoreError: No seal, an unknown version, or a file missing or of another size.
        """
        self.path = path
        self._check_seal()
        self.entries = {entry.key: entry for entry in self._read_index()}

    def _check_seal(self) -> None:
        for name, expected_size in self._sealed_sizes().items():
            file = self.path / name
            if self.path.resolve() not in file.resolve().parents:
                raise StoreError(f"{self.path / SEAL}: names a file outside the shard: {name!r}")
            size = file.stat().st_size if file.is_file() else None
            if size != expected_size:
                raise StoreError(
                    f"{file}: expected {expected_size} bytes, found "
                    f"{'no file' if size is None else f'{size} bytes'}; "
                    "delete this shard's folder and run again with --forcerun extract"
                )

    def _sealed_sizes(self) -> dict[str, int]:
        path = self.path / SEAL
        try:
            return {name: file["size"] for name, file in _read_record(path)["files"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}: not a shard's seal: {error!r}") from error

    def _read_index(self) -> list[Entry]:
        path = self.path / "index.json"
        try:
            return [Entry(**item) for item in _read_record(path)["items"]]
        except (KeyError, TypeError) as error:
            raise StoreError(f"{path}: not a shard's index: {error!r}") from error

    @functools.cached_property
    def provenance(self) -> dict[str, Any]:
        """Recipe, library versions, device and timings of these rows."""
        return json.loads((self.path / "provenance.json").read_bytes())

    @functools.cached_property
    def _arrays(self) -> dict[str, zarr.Array[Any]]:
        import zarr

        group = zarr.open_group(self.path, mode="r", zarr_format=3)
        return {name: group[name] for name in ("x", "valid", "flags", "times")}  # pyright: ignore[reportReturnType]

    @property
    def dim(self) -> int:
        """Width of a row."""
        return int(self._arrays["x"].shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a row's values."""
        return np.dtype(self._arrays["x"].dtype)

    def read(self, name: str, entry: Entry) -> NDArray[Any]:
        """Read one item's part of the array `name` ("x", "valid", "flags" or "times")."""
        array = self._arrays[name]
        stop = entry.first + entry.rows
        if entry.first < 0 or entry.rows < 0 or stop > array.shape[0]:
            raise StoreError(
                f"{self.path}: index gives rows {entry.first} to {stop} of {name!r}, "
                f"which has {array.shape[0]}"
            )
        try:
            return np.asarray(array[entry.first : stop])
        except (ValueError, OSError) as error:
            raise StoreError(
                f"{self.path}: rows {entry.first} to {stop} of {name!r} (track {entry.track!r}) "
                f"are damaged: {error}"
            ) from error


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}; an unfinished shard?") from error
    version = record.get("version") if isinstance(record, dict) else None
    if version != VERSION:
        raise StoreError(
            f"{path}: version {version!r}, this program reads version {VERSION}; update concord"
        )
    return record
