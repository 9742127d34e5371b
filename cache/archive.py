"""Archives: one file that holds many, as plain tar or zip, sealed, and read without trust.

The last 64 characters are the SHA-256 of all before them, where other programs see nothing (after
a tar's end) or a comment (of a zip). Nothing in them is compressed, so what comes out is never
larger than the file itself; there are plain files only, whose names stay inside.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .atomic import fsync_folder, room_for, temporary_sibling
from .errors import StoreError
from .place import RECORD_LIMIT
from .url_place import BLOCK

SEAL_BYTES = 64
KINDS = (".tar", ".zip")
BLANK = b"0" * SEAL_BYTES
LONGEST = 250
"""Characters of a name, as the plain tar format has room for."""
_HEADER = 512
_END = struct.Struct("<4s4H2LH")
_LOCATOR, _END64 = 20, struct.Struct("<4sQ2H2L4Q")


# --- writing


def write_archive(target: Path, files: Mapping[str, Path]) -> None:
    """Write files as one archive: tar or zip by the target's suffix; equal files, equal bytes.

    Args:
        target: Must not exist.
        files: Name in the archive to file, in order.

    Raises:
        StoreError: The target exists or has another suffix, a name is too long, the disk is full;
            nothing is left.
    """
    check_target(target)
    for name in files:
        check_member(name, str(target))
    temporary = temporary_sibling(target)
    try:
        with room_for(f"an archive of {len(files)} files", target):
            (_write_tar if target.suffix.lower() == ".tar" else _write_zip)(temporary, files)
            seal_archive(temporary)
            check_target(target)
            temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(target.parent)


def check_target(target: Path) -> None:
    """Check that an archive can be written to a target.

    Raises:
        StoreError: It is there already, or has another suffix.
    """
    if target.suffix.lower() not in KINDS:
        raise StoreError(f"{target}: expected a name that ends in {' or '.join(KINDS)}")
    if os.path.lexists(target):
        raise StoreError(f"{target}: is there already; remove it, or give another name")


def _write_tar(path: Path, files: Mapping[str, Path]) -> None:
    with path.open("xb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, source in files.items():
                member = tarfile.TarInfo(name)
                member.size = source.stat().st_size
                try:
                    head = member.tobuf(tarfile.USTAR_FORMAT)
                except ValueError as error:
                    raise StoreError(
                        f"{name!r:.120} does not fit into a tar ({error}): make a .zip"
                    ) from error
                assert len(head) == _HEADER
                with source.open("rb") as content:
                    archive.addfile(member, content)
        file.write(BLANK)


def _write_zip(path: Path, files: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        archive.comment = BLANK
        for name, source in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            member.file_size = source.stat().st_size
            with source.open("rb") as content, archive.open(member, "w") as file:
                shutil.copyfileobj(content, file, BLOCK)


def seal_archive(path: Path) -> None:
    """Put the SHA-256 of a file's other bytes in place of its last 64."""
    with path.open("r+b") as file:
        sha256 = _sha256(file, path.stat().st_size - SEAL_BYTES)
        file.seek(-SEAL_BYTES, os.SEEK_END)
        file.write(sha256.encode())
        file.flush()
        os.fsync(file.fileno())


def _sha256(file: BinaryIO, size: int) -> str:
    state = hashlib.sha256()
    file.seek(0)
    while size > 0 and (block := file.read(min(size, BLOCK))):
        state.update(block)
        size -= len(block)
    return state.hexdigest()


# --- reading


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive, whose name and place have been checked."""

    name: str
    first: int
    """Its first byte in the archive."""
    size: int


@dataclass(frozen=True, slots=True)
class Archive:
    """A sound archive, open for reading."""

    path: Path
    members: Mapping[str, Member]
    file: BinaryIO

    def blocks(self, name: str) -> Iterator[bytes]:
        """Give the bytes of a member, a block at a time."""
        member = self.members[name]
        done = 0
        while done < member.size:
            self.file.seek(member.first + done)
            block = self.file.read(min(BLOCK, member.size - done))
            if not block:
                raise StoreError(f"{self.path}: became shorter while it was read")
            done += len(block)
            yield block


@contextmanager
def open_archive(path: Path) -> Generator[Archive]:
    """Open an archive for reading.

    Raises:
        StoreError: It is none, a byte of it is not what was sealed, or it holds a name that leads
            elsewhere, a link, a name twice, or more bytes than the file has.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    with file:
        size = os.fstat(file.fileno()).st_size
        _check_seal(file, size, path)
        file.seek(0)
        zipped = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
        found = _zip_members(file, size, path) if zipped else _tar_members(file, size, path)
        members: dict[str, Member] = {}
        for member in found:
            check_member(member.name, str(path))
            if member.name in members:
                raise StoreError(f"{path}: {member.name!r:.120} is there twice")
            members[member.name] = member
        total = sum(member.size for member in members.values())
        if total > size:
            raise StoreError(f"{path}: {size} bytes claim to hold {total}; nothing was unpacked")
        yield Archive(path, members, file)


def check_member(name: str, where: str) -> None:
    """Check that a name stays inside the folder that an archive is unpacked to.

    Raises:
        StoreError: It does not, or is none that we write.
    """
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
        raise StoreError(f"{where}: {name!r:.120} leads out of the archive's own folder")
    if len(name) > LONGEST or not (name.isascii() and name.isprintable()):
        raise StoreError(f"{where}: {name!r:.120}: expected a short name of plain characters")
    if any(not part or part.startswith(".") for part in parts):
        raise StoreError(f"{where}: {name!r:.120}: expected no empty or hidden part in a name")


def _check_seal(file: BinaryIO, size: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or size < SEAL_BYTES:
        raise StoreError(f"{path}: expected a bundle, found {size} bytes")
    sha256 = _sha256(file, size - SEAL_BYTES)
    if file.read(SEAL_BYTES) != sha256.encode():
        raise StoreError(
            f"{path}: damaged, or no bundle: its last {SEAL_BYTES} characters are not the SHA-256 "
            "of what stands before them; get it once more"
        )


def _tar_members(file: BinaryIO, size: int, path: Path) -> Iterator[Member]:
    """List the files of a plain tar; extensions, which can hide a name or a size, are refused."""
    at = 0
    while True:
        file.seek(at)
        header = file.read(_HEADER)
        if header == bytes(_HEADER):
            return
        try:
            member = tarfile.TarInfo.frombuf(header, "ascii", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise StoreError(f"{path}: not a plain tar or zip at byte {at}: {error}") from error
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            what = "a link" if member.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else "another kind"
            raise StoreError(f"{path}: {member.name!r:.120}: expected a plain file, found {what}")
        first = at + _HEADER
        if not 0 <= member.size <= size - first:
            raise StoreError(f"{path}: {member.name!r:.120} claims to have {member.size} bytes")
        yield Member(member.name, first, member.size)
        at = first + -(-member.size // _HEADER) * _HEADER


def _zip_members(file: BinaryIO, size: int, path: Path) -> Iterator[Member]:
    """List the files of a zip that compresses nothing."""
    _check_directory(file, size, path)
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                yield _zip_member(file, size, path, info)
    # The last is what zipfile raises for a version or compression that it does not know.
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
        raise StoreError(f"{path}: not a sound zip: {error}") from error


def _check_directory(file: BinaryIO, size: int, path: Path) -> None:
    """Check the size of the directory, which is read as a whole."""
    file.seek(max(0, size - SEAL_BYTES - _END.size - _LOCATOR - _END64.size))
    tail = file.read()[:-SEAL_BYTES]
    sizes = [0]
    with suppress(struct.error):
        sizes.append(_END.unpack(tail[-_END.size :])[5])
        sizes.append(_END64.unpack(tail[: _END64.size])[8] if tail[:4] == b"PK\x06\x06" else 0)
    if max(sizes) > RECORD_LIMIT:
        raise StoreError(f"{path}: its directory claims {max(sizes)} bytes, more than any may have")


def _zip_member(file: BinaryIO, size: int, path: Path, info: zipfile.ZipInfo) -> Member:
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or info.is_dir():
        what = "a link" if kind == stat.S_IFLNK else "another kind"
        raise StoreError(f"{path}: {name!r:.120}: expected a plain file, found {what}")
    stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
    if not stored or info.file_size != info.compress_size:
        raise StoreError(
            f"{path}: {name!r:.120}: expected a file that is neither compressed nor encrypted"
        )
    file.seek(info.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04" or len(header) < 30:
        raise StoreError(f"{path}: {name!r:.120}: no file where the directory names one")
    named, extra = struct.unpack("<2H", header[26:30])
    first = info.header_offset + 30 + named + extra
    if file.read(named) != name.encode() or first + info.file_size > size:
        raise StoreError(f"{path}: {name!r:.120}: another file, or less, where one is named")
    return Member(name, first, info.file_size)


def unpack(archive: Archive, name: str, target: Path, sha256: str) -> None:
    """Write a member to a new file, and compare it with its digest.

    Raises:
        StoreError: It differs, or a name is a file's and a folder's at once.
    """
    state = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for block in archive.blocks(name):
                state.update(block)
                file.write(block)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise
        raise StoreError(f"{archive.path}: {name!r:.120} is a file and a folder") from error
    if state.hexdigest() != sha256:
        raise StoreError(f"{archive.path}: {name!r:.120}: damaged: its SHA-256 differs")
