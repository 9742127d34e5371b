"""Export: a stream's rows as plain NumPy files, for programs that know nothing of the store."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .atomic import fsync_folder, fsync_tree, temporary_sibling
from .entries import ARRAYS, check_name
from .errors import NotInStoreError, StoreError

if TYPE_CHECKING:
    from .item import Item
    from .stream import Stream, TracksOfStream

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""
Open = Callable[[str], AbstractContextManager[Any]]
"""Opens a new file of the export, by name, for writing bytes."""

INDEX = "tracks.json"
NAMES = {"x": "rows", "valid": "valid", "times": "times", "flags": "flags"}
"""Array of a shard to what an export calls it."""
PIECE_BYTES = 16 << 20
LONGEST_NAME = 120
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]|^\.|\.$")


def export(
    stream: Stream,
    target: Path,
    tracks: TracksOfStream | Mapping[str, Item] | None = None,
    progress: Progress | None = None,
) -> int:
    """Write tracks of a stream as NumPy files, which hold no pickle; all of them or nothing.

    A target that ends in `.npz` is one uncompressed file with the arrays `<track>/rows`,
    `<track>/valid`, `<track>/times` and `<track>/flags`; any other is a folder of
    `<track>.rows.npy` and so on. Both hold `tracks.json`, which says what each name stands for:
    in names of files, characters of a track other than letters, digits, `.`, `_` and `-` are
    percent-encoded, and names that would be too long, or differ in case alone, end in `~` and a
    digest of the track.

    Args:
        stream: The stream.
        target: File or folder, which must not exist.
        tracks: What to write; by default all tracks that the store's manifests name.
        progress: Called with (tracks done, all tracks, the next track).

    Returns:
        Number of tracks written.

    Raises:
        StoreError: The target exists, rows are damaged, or the disk is full; nothing is left.
        NotInStoreError: There is no track, or one is ambiguous or not stored.
    """
    _check_absent(target)
    items = _items(stream, stream.tracks if tracks is None else tracks)
    zipped = target.suffix.lower() == ".npz"
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(target)
    try:
        (_write_npz if zipped else _write_folder)(temporary, stream, items, progress)
        _check_absent(target)
        temporary.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(
            f"{target}: no space left to export {len(items)} tracks of {stream.name}; "
            "nothing was kept: free some space, or choose fewer tracks"
        ) from error
    finally:
        _remove(temporary)
    fsync_folder(target.parent)
    return len(items)


def safe_names(tracks: Iterable[str]) -> dict[str, str]:
    """Name a file for each track: safe in every file system, and unique also where case is lost.

    Raises:
        StoreError: A track's name is empty, too long or holds control characters.
    """
    plain = {track: _encoded(check_name(track, "track")) for track in tracks}
    taken = Counter([INDEX, *(name.lower() for name in plain.values())])
    return {
        track: name
        if len(name) <= LONGEST_NAME and taken[name.lower()] == 1
        else _with_digest(name, track)
        for track, name in plain.items()
    }


def _encoded(track: str) -> str:
    return _UNSAFE.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), track)


def _with_digest(name: str, track: str) -> str:
    end = f"~{hashlib.sha256(track.encode()).hexdigest()[:16]}"
    return re.sub(r"%.?$", "", name[: LONGEST_NAME - len(end)]) + end


def _items(stream: Stream, tracks: TracksOfStream | Mapping[str, Item]) -> dict[str, Item]:
    if isinstance(tracks, Mapping):
        found = dict(tracks)
    else:
        rows = (row for manifest in tracks.manifests for row in manifest)
        named = {row.track for row in rows if stream.full_name in row.items}
        found = {track: tracks[track] for track in sorted(named)}
    if not found:
        raise NotInStoreError(
            f"{stream.store.place}: stream {stream.name}: no track to export; "
            "choose a data set whose manifest names items of this stream"
        )
    return found


def _write_npz(
    path: Path, stream: Stream, items: Mapping[str, Item], progress: Progress | None
) -> None:
    with path.open("xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

            def opened(name: str) -> AbstractContextManager[Any]:
                # A fixed date: the same rows give the same bytes.
                member = zipfile.ZipInfo(name)
                member.external_attr = 0o644 << 16
                return archive.open(member, "w", force_zip64=True)

            _write(opened, "{track}/{array}.npy", stream, items, progress)
        file.flush()
        os.fsync(file.fileno())


def _write_folder(
    path: Path, stream: Stream, items: Mapping[str, Item], progress: Progress | None
) -> None:
    path.mkdir()
    _write(lambda name: (path / name).open("xb"), "{track}.{array}.npy", stream, items, progress)
    fsync_tree(path)


def _write(
    opened: Open, pattern: str, stream: Stream, items: Mapping[str, Item], progress: Progress | None
) -> None:
    """Write every item, one file per array, and last the index."""
    names = safe_names(items)
    index = _index(stream, {names[track]: (track, item) for track, item in items.items()})
    for done, (track, item) in enumerate(items.items()):
        if progress:
            progress(done, len(items), track)
        for array, called in NAMES.items():
            with opened(pattern.format(track=names[track], array=called)) as file:
                _write_array(file, item, array)
    with opened(INDEX) as file:
        file.write(index)
    if progress:
        progress(len(items), len(items), "done")


def _write_array(file: BinaryIO, item: Item, array: str) -> None:
    """Write an array of an item as `.npy`, a piece at a time."""
    dtype = item.rows.dtype if array == "x" else np.dtype(ARRAYS[array])
    shape = item.rows.shape if array == "x" else item.rows.shape[:1]
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, header)
    for first, stop in _pieces(len(item.rows), item.rows.nbytes):
        rows: Any = np.ascontiguousarray(item.shard.read(array, item.entry, first, stop))
        file.write(rows.data.cast("B"))


def _pieces(rows: int, size: int) -> Iterator[tuple[int, int]]:
    step = max(1, rows * PIECE_BYTES // size)
    return ((first, min(first + step, rows)) for first in range(0, rows, step))


def _index(stream: Stream, items: Mapping[str, tuple[str, Item]]) -> bytes:
    record = {
        "stream": stream.full_name,
        "recipe": stream.recipe,
        "tracks": {
            name: {
                "track": track,
                "key": item.key,
                "rows": len(item.rows),
                "dim": item.rows.shape[1],
                "dtype": item.rows.dtype.name,
            }
            for name, (track, item) in items.items()
        },
    }
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _check_absent(target: Path) -> None:
    if os.path.lexists(target):
        raise StoreError(
            f"{target}: is there already, and an export replaces nothing; "
            "remove it, or give another name"
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
