"""Shards as Zarr v3 groups: what plain zarr reads, and what a memory map can read as well."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import take_by_reading
from .chunks import Chunks
from .entries import ARRAYS, CHUNK_ROWS, Index
from .errors import StoreError
from .layout import CRC_BYTES, ENTRY_BYTES, DamagedRowsError, Layout, crc32c_of, stretches
from .place import LocalPlace, Place, parse_record, read_record

if TYPE_CHECKING:
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

X_FILE = "x/c/0/0"


def file_of(array: str) -> str:
    """Name of the file that holds an array's values."""
    return X_FILE if array == "x" else f"{array}/c/0"


FILES = frozenset({"zarr.json", *(f"{array}/zarr.json" for array in ARRAYS), *map(file_of, ARRAYS)})
"""Names of all files of a shard but its own records."""


def layouts(index: Index) -> dict[str, Layout]:
    """Say where an uncompressed shard's arrays lie."""
    return {
        array: Layout(
            file=file_of(array),
            kind="sharded" if array == "x" else "single",
            dtype=index.type_of(array),
            shape=index.shape(array),
            chunk_rows=CHUNK_ROWS if array == "x" else index.rows,
        )
        for array in ARRAYS
    }


def create_arrays(folder: Path, index: Index) -> dict[str, zarr.Array[Any]]:
    """Make a group of empty arrays: their metadata files."""
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    codecs = [Crc32cCodec()] if index.compression is None else [ZstdCodec(level=3), Crc32cCodec()]
    group = zarr.create_group(folder, zarr_format=3)
    made: dict[str, zarr.Array[Any]] = {}
    for array in ARRAYS:
        layout = layouts(index)[array]
        tail = layout.shape[1:]
        made[array] = group.create_array(
            array,
            shape=layout.shape,
            dtype=layout.dtype,
            chunks=(layout.chunk_rows, *tail),
            shards=(layout.chunks * layout.chunk_rows, *tail) if array == "x" else None,
            filters=None,
            compressors=codecs,
            # Left-out empty chunks would break the fixed stride that a mapped reader relies on.
            config={"write_empty_chunks": True},
        )
    return made


def contents(layout: Layout, parts: Sequence[NDArray[Any]]) -> Iterator[list[NDArray[np.uint8]]]:
    """Give the bytes of an array's file out of the items' rows, copying none of them.

    Args:
        layout: Where the bytes go.
        parts: Rows of each item.

    Yields:
        The buffers of one chunk after another, each with its checksum; last, a shard's index.
    """
    payload = layout.chunk_rows * layout.row_bytes
    for stretch in stretches(parts, layout.chunk_rows):
        missing = payload - sum(map(len, stretch))
        if missing:
            stretch.append(np.zeros(missing, np.uint8))
        yield [*stretch, _checksum(stretch)]
    if layout.kind == "sharded":
        yield _shard_index(layout)


def _shard_index(layout: Layout) -> list[NDArray[np.uint8]]:
    entries = np.empty((layout.chunks, ENTRY_BYTES // 8), "<u8")
    entries[:, 0] = np.arange(layout.chunks, dtype=np.uint64) * layout.stride
    entries[:, 1] = layout.stride
    content = entries.reshape(-1).view(np.uint8)
    return [content, _checksum([content])]


def _checksum(pieces: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.frombuffer(crc32c_of(pieces).to_bytes(CRC_BYTES, "little"), np.uint8)


def check_metadata(content: bytes, index: Index, array: str, where: str) -> None:
    """Check an array's `zarr.json` before zarr reads it.

    Raises:
        StoreError: Other shape, type or chunks than the index says, or a codec not of this format.
    """
    record = parse_record(content, where)
    layout = layouts(index)[array]
    tail = list(layout.shape[1:])
    outer = layout.chunks * layout.chunk_rows if array == "x" else layout.chunk_rows
    expected = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(layout.shape),
        "data_type": layout.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [outer, *tail]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    }
    for name, value in expected.items():
        if record.get(name) != value:
            found = json.dumps(record.get(name))
            raise StoreError(f"{where}: {name}: expected {value}, found {found:.200}")
    if record.get("fill_value"):
        raise StoreError(f"{where}: fill_value: expected 0, found {record['fill_value']!r:.80}")
    inner = (layout.chunk_rows, *tail) if array == "x" else None
    _check_codecs(record.get("codecs"), inner, index, where)
    if record.get("storage_transformers"):
        raise StoreError(f"{where}: storage transformers are not part of this format")


def _check_codecs(codecs: Any, inner: tuple[int, ...] | None, index: Index, where: str) -> None:
    """Compare an array's codecs with the only ones of this format."""
    packed = [] if index.compression is None else ["zstd"]
    plain = ["bytes little", *packed, "crc32c"]
    expected: Any = plain
    if inner is not None:
        expected = [("sharding_indexed", inner, plain, ["bytes little", "crc32c"], "end")]
    try:
        found = [_codec(codec) for codec in codecs]
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{where}: codecs cannot be read: {error!r:.200}") from error
    if found != expected:
        raise StoreError(f"{where}: codecs: expected {expected}, found {found!a:.200}")


def _codec(codec: dict[str, Any], *, nested: bool = False) -> Any:
    """Give what of a codec decides how bytes are read."""
    name, how = codec["name"], codec.get("configuration", {})
    if name == "bytes":
        return f"bytes {how.get('endian', 'little')}"
    if name == "sharding_indexed" and not nested:
        parts = [[_codec(c, nested=True) for c in how[k]] for k in ("codecs", "index_codecs")]
        return (name, tuple(how["chunk_shape"]), *parts, how.get("index_location", "end"))
    return name


class ZarrArray:
    """An array read by zarr itself, which checks every chunk's crc32c."""

    def __init__(
        self, place: Place, index: Index, array: str, sealed: Callable[[str], bytes]
    ) -> None:
        """Prepare; zarr opens the array when it is first read.

        Args:
            place: The shard's folder.
            index: Its index.
            array: Name of the array.
            sealed: Gives a file's bytes after comparing them with the seal.
        """
        self._place, self._index, self._name, self._sealed = place, index, array, sealed
        self._array: zarr.Array[Any] | None = None
        self._chunks = Chunks(place, layouts(index)[array], index.compression)

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Give rows, copied."""
        try:
            opened = self._opened()
            self._chunks.check(first, stop)
            rows = np.asarray(opened[first:stop])
        except (ValueError, OSError, RuntimeError, TypeError, KeyError, MemoryError) as error:
            raise DamagedRowsError(first, stop, str(error)) from error
        # Looked at last: zarr gives zeros for a file that went away after the shard was opened.
        file = file_of(self._name)
        if not self._place.sizes([file])[file]:
            raise DamagedRowsError(first, stop, f"{self._place}/{file}: the file is gone")
        rows.flags.writeable = False
        return rows

    def read_into(self, first: int, stop: int, out: NDArray[Any]) -> None:
        """Copy rows into an array of their shape."""
        out[...] = self.read(first, stop)

    def take(self, numbers: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the rows of these numbers into an array."""
        take_by_reading(self, numbers, out)

    def _opened(self) -> zarr.Array[Any]:
        if self._array is None:
            name = f"{self._name}/zarr.json"
            where = f"{self._place}/{name}"
            check_metadata(self._sealed(name), self._index, self._name, where)
            self._array = _open(self._place / self._name)
        return self._array


def _open(place: Place) -> zarr.Array[Any]:
    import zarr
    from zarr.storage import FsspecStore

    if isinstance(place, LocalPlace):
        return zarr.open_array(place.path, mode="r", zarr_format=3)
    store = FsspecStore.from_url(str(place), read_only=True)
    return zarr.open_array(store, mode="r", zarr_format=3)


def index_of_version_1(place: Place, record: dict[str, Any], where: str) -> dict[str, Any]:
    """Complete an index of version 1, whose types and shapes stand in the Zarr metadata alone.

    Raises:
        StoreError: The metadata cannot be read.
    """
    found = read_record(place / "x", "zarr.json")
    try:
        items = [{k: v for k, v in item.items() if k != "sha256"} for item in record["items"]]
        rows, dim = found["shape"]
        dtype = found["data_type"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{where}: not an index of version 1: {error!r}") from error
    kind = {"format": "zarr", "compression": None, "offsets": {}, "checksums": {}}
    return {**kind, "rows": rows, "dim": dim, "dtype": dtype, "items": items}
