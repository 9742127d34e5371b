"""The files of a shard, compared with its seal while they are copied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .digests import digest
from .entries import SEAL
from .errors import StoreError
from .url_place import BLOCK

if TYPE_CHECKING:
    from .shard import Shard


class DamagedSourceError(StoreError):
    """A file of a shard is not what its seal says, so the shard stays where it is."""


def check_keys(shard: Shard) -> None:
    """Check that each item's key is the digest of its identity, where it has one.

    Raises:
        DamagedSourceError: One is not.
    """
    for entry in shard.entries.values():
        if entry.identity and digest(dict(entry.identity)) != entry.key:
            raise DamagedSourceError(
                f"{shard.path}: key {entry.key!r:.80} of track {entry.track!r:.80} is not the "
                "digest of its identity"
            )


def check_file(shard: Shard, name: str) -> None:
    """Read a file of a shard and compare it with the seal.

    Raises:
        DamagedSourceError: It differs.
    """
    size, sha256 = shard.seal.files[name]
    _compare(_blocks(shard, name, size), size, sha256, f"{shard.path}/{name}")


def copy_files(shard: Shard, folder: Path) -> None:
    """Copy a shard's files, whose names and sizes have been checked, and its seal."""
    for name, (size, sha256) in shard.seal.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            blocks = _told(_blocks(shard, name, size), file)
            _compare(blocks, size, sha256, f"{shard.path}/{name}")
    (folder / SEAL).write_bytes(shard.place.read(SEAL))


def _told(blocks: Iterable[bytes], file: Any) -> Iterator[bytes]:
    for block in blocks:
        file.write(block)
        yield block


def _blocks(shard: Shard, name: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, BLOCK):
        try:
            yield shard.place.read_range(name, start, min(start + BLOCK, size))
        except FileNotFoundError:
            raise DamagedSourceError(f"{shard.path}/{name}: missing") from None


def _compare(blocks: Iterable[bytes], size: int, sha256: str, where: str) -> None:
    """Compare a file's blocks with its seal.

    Raises:
        DamagedSourceError: They differ.
    """
    state, found = hashlib.sha256(), 0
    for block in blocks:
        state.update(block)
        found += len(block)
    if found != size:
        raise DamagedSourceError(f"{where}: damaged: expected {size} bytes, found {found}")
    if state.hexdigest() != sha256:
        raise DamagedSourceError(f"{where}: damaged: SHA-256 differs from the seal's")
