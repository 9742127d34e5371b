"""A shard's own records: the index of its items, and the seal over its files."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .digests import digest, parsed_digest
from .errors import StoreError
from .place import parse_record

if TYPE_CHECKING:
    from .place import Place

VERSION = 2
"""Version of the shard format; 1 had no item checksums, no identities and Zarr only."""
CHUNK_ROWS = 256
SEAL = "seal.json"
INDEX = "index.json"
PROVENANCE = "provenance.json"
DTYPES = ("float16", "float32", "float64")
FORMATS = ("zarr", "hdf5")
CODECS = {"zarr": "zstd", "hdf5": "gzip"}
"""How each format is compressed for an archive, by what its own library always has."""
ARRAYS = {"x": None, "valid": "bool", "flags": "uint8", "times": "float64"}
"""Array to its type; that of `x` is the stream's."""
LONGEST_NAME = 4096
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SHA256 = re.compile("[0-9a-f]{64}")


def check_name(name: Any, what: str) -> str:
    """Check an item key or track name.

    Raises:
        StoreError: Not a string of 1 to 4,096 characters without control characters.
    """
    if type(name) is str and name.isprintable() and 0 < len(name) <= LONGEST_NAME:
        return name  # Nearly all: printable text has no control character, and is told fast.
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or _CONTROL.search(name):
        raise StoreError(
            f"{what}: expected 1 to {LONGEST_NAME} characters, none of them a control character, "
            f"found {name!r:.80}"
        )
    return name


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an item lies in its shard."""

    key: str
    track: str
    first: int
    rows: int
    crc32c: int | None = None
    """Of the item's x, valid, flags and times, one after another; None in version 1."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What the key is the digest of: recipe, rows, inputs."""


@functools.cache
def _little_endian(name: str) -> np.dtype[Any]:
    return np.dtype(name).newbyteorder("<")


@dataclass(frozen=True, slots=True)
class Index:
    """The items of a shard, and how its arrays are stored."""

    format: str
    compression: str | None
    dtype: str
    dim: int
    rows: int
    items: tuple[Entry, ...]
    offsets: Mapping[str, int] = field(default_factory=dict)
    """First byte of each array in an uncompressed HDF5 file."""
    checksums: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """crc32c of every 256 rows of each array in HDF5."""

    def shape(self, array: str) -> tuple[int, ...]:
        """Give the shape of an array."""
        return (self.rows, self.dim) if array == "x" else (self.rows,)

    def type_of(self, array: str) -> np.dtype[Any]:
        """Give the type of an array, little-endian."""
        return _little_endian(ARRAYS[array] or self.dtype)

    def record(self) -> dict[str, Any]:
        """Give the index as it is written."""
        return {"version": VERSION, **asdict(self)}


def parse_index(record: dict[str, Any], where: str) -> Index:
    """Check an index of version 2.

    Raises:
        StoreError: A field is missing, of another type, or items overlap, leave gaps or repeat.
    """
    try:
        index = Index(
            format=record["format"],
            compression=record["compression"],
            dtype=record["dtype"],
            dim=record["dim"],
            rows=record["rows"],
            items=tuple([Entry(**item) for item in record["items"]]),
            offsets=record["offsets"],
            checksums=record["checksums"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{where}: not a shard's index: {error!r}") from error
    check_index(index, where)
    return index


def check_index(index: Index, where: str) -> None:
    """Check what an index says, before anything is read by it.

    Raises:
        StoreError: It contradicts itself or the format.
    """
    if index.format not in FORMATS:
        raise StoreError(f"{where}: format {index.format!r:.80}, known are {', '.join(FORMATS)}")
    if index.compression not in (None, CODECS[index.format]):
        raise StoreError(f"{where}: unknown compression {index.compression!r:.80}")
    if index.dtype not in DTYPES:
        raise StoreError(f"{where}: type {index.dtype!r:.80}, known are {', '.join(DTYPES)}")
    _check_count(index.dim, 1, f"{where}: dim")
    _check_count(index.rows, 1, f"{where}: rows")
    _check_items(index, where)
    if index.format == "hdf5":
        _check_checksums(index, where)


def _check_items(index: Index, where: str) -> None:
    at = 0
    keys: set[str] = set()
    for item in index.items:
        check_name(item.key, where)
        check_name(item.track, where)
        _check_count(item.rows, 1, where, item)
        if item.crc32c is not None:
            _check_count(item.crc32c, 0, where, item)
        if not isinstance(item.identity, dict):
            raise StoreError(f"{where}: identity of track {item.track!r:.80} is no object")
        if item.first != at or type(item.first) is not int:
            raise StoreError(
                f"{where}: track {item.track!r:.80} starts at row {item.first!r:.40}, "
                f"expected {at}: items lie end to end"
            )
        if item.key in keys:
            raise StoreError(f"{where}: item {item.key!r:.80} is there twice")
        keys.add(item.key)
        at += item.rows
    if at != index.rows:
        raise StoreError(f"{where}: items hold {at} rows, the arrays {index.rows}")


def _check_checksums(index: Index, where: str) -> None:
    chunks = -(-index.rows // CHUNK_ROWS)
    for array in ARRAYS:
        found = index.checksums.get(array) if isinstance(index.checksums, dict) else None
        whole = isinstance(found, list) and all(type(value) is int for value in found)
        if not whole or len(found or ()) != chunks:
            raise StoreError(f"{where}: expected {chunks} checksums of {array!r}")
        if index.compression is None:
            offset = index.offsets.get(array) if isinstance(index.offsets, dict) else None
            _check_count(offset, 0, f"{where}: offset of {array!r}")


def _check_count(value: Any, least: int, what: str, item: Entry | None = None) -> None:
    if type(value) is not int or not least <= value < 1 << 48:
        what = f"{what}: rows or crc32c of track {item.track!r:.80}" if item else what
        raise StoreError(f"{what}: expected a whole number from {least}, found {value!r:.80}")


@dataclass(frozen=True, slots=True)
class Seal:
    """Size and SHA-256 of every file of a shard."""

    version: int
    files: Mapping[str, tuple[int, str]]

    def record(self) -> dict[str, Any]:
        """Give the seal as it is written; its last field covers all the others."""
        files = {name: {"size": size, "sha256": sha} for name, (size, sha) in self.files.items()}
        return {"version": VERSION, "files": files, "sha256": digest(files)}


def read_seal(place: Place) -> Seal:
    """Read a shard's seal.

    Raises:
        StoreError: There is none, it is damaged, or of a version that this program does not know.
    """
    where = f"{place}/{SEAL}"
    try:
        content = place.read(SEAL)
    except FileNotFoundError as error:
        raise StoreError(f"{where}: missing: the shard was never finished, or lost it") from error
    return parse_seal(content, where)


def parse_seal(content: bytes, where: str) -> Seal:
    """Read the bytes of a seal.

    Raises:
        StoreError: It is damaged, or of a version that this program does not know.
    """
    record = parse_record(content, where)
    version = check_version(record, where)
    try:
        files = {name: (file["size"], file["sha256"]) for name, file in record["files"].items()}
        if version > 1 and record["sha256"] != parsed_digest(record["files"], where):
            raise StoreError(f"{where}: damaged: it does not have its own SHA-256")
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{where}: not a shard's seal: {error!r}") from error
    for name, (size, sha) in files.items():
        _check_count(size, 0, f"{where}: size of {name!r:.80}")
        if not (isinstance(sha, str) and _SHA256.fullmatch(sha)):
            raise StoreError(f"{where}: SHA-256 of {name!r:.80}: found {sha!r:.80}")
    return Seal(version, files)


class NewerVersionError(StoreError):
    """A file of a later version of the format: sound, as far as this program can tell."""


def check_version(record: dict[str, Any], where: str, newest: int = VERSION) -> int:
    """Give a record's version.

    Raises:
        NewerVersionError: A newer version than this program knows.
        StoreError: None at all.
    """
    version = record.get("version")
    if type(version) is not int or version < 1:
        raise StoreError(f"{where}: expected a version number, found {version!r:.80}")
    if version > newest:
        raise NewerVersionError(
            f"{where}: version {version} is newer than this program, which reads up to "
            f"version {newest}; update concord"
        )
    return version
