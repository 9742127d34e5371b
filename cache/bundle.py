"""A bundle: a part of a store as one file, to be handed over where no remote is.

It holds `bundle.json` (its files and their digests), `README.md` (a card of the data for people)
and `store/`, a store like any other, which is pushed to and pulled from as a remote.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .archive import Archive, check_target, open_archive, unpack, write_archive
from .atomic import json_bytes, room_for, temporary_sibling
from .digests import file_digest
from .entries import check_version
from .errors import ConfigError, NotInStoreError, StoreError
from .place import RECORD_LIMIT, parse_record
from .store import MARK, FeatureStore
from .targets import FolderTarget
from .transfer import plan_pull, plan_push
from .verify import verify

if TYPE_CHECKING:
    from .manifest import Manifest
    from .selection import Selection
    from .transfer import Moved, Progress, Transfer

FORMAT = "concord bundle"
VERSION = 1
INDEX, CARD, STORE = "bundle.json", "README.md", "store"
LABELS = "labels/"


@contextmanager
def packing(target: Path) -> Generator[Path]:
    """Give a folder beside a bundle that is to be made, which goes in the end.

    Raises:
        StoreError: The bundle is there already, or its name is none of a tar or zip.
    """
    check_target(target)
    folder = temporary_sibling(target)
    try:
        with room_for("a bundle", target):
            folder.mkdir(parents=True)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def plan_bundle(store: FeatureStore, folder: Path, selection: Selection) -> Transfer:
    """Find what a bundle would hold: what is chosen of what manifests list.

    Args:
        store: A store in a folder.
        folder: Where it is packed; see `packing`.
        selection: What of the store.

    Raises:
        ConfigError: Labels of one edition would lie beside test tracks of another.
        NotInStoreError: Nothing is chosen.
        StoreError: Something that is chosen is damaged, or the disk has no room.
    """
    plan = plan_push(store, folder / STORE, replace(selection, listed=True))
    check_editions(plan.manifests)
    if not plan.parcels and not plan.damaged:
        raise NotInStoreError(f"{store.place}: nothing that is chosen is stored")
    _check_whole(plan.damaged)
    assert isinstance(plan.target, FolderTarget)
    plan.target.check_room(2 * plan.bytes)
    return plan


def check_editions(manifests: Iterable[Manifest]) -> None:
    """Refuse labels of one edition beside test tracks of another: they may be the test's answers.

    Raises:
        ConfigError: There are such; names both.
    """
    every = list(manifests)
    for tested in every:
        names = {row.track for row in tested if row.split == "test"}
        for other in every:
            if names and other.name != tested.name and _answers(other, tested, names):
                raise ConfigError(
                    f"labels of {other.name} beside test tracks of {tested.name}: a bundle never "
                    "joins labels of one edition with test tracks of another, which they may give "
                    f"away: choose one with --dataset {other.name} or {tested.name}"
                )


def _answers(other: Manifest, tested: Manifest, names: set[str]) -> bool:
    """Say whether labels of one manifest may be those of another's test tracks."""
    same = other.dataset == tested.dataset
    return any(
        (same or row.track in names) and any(stream.startswith(LABELS) for stream in row.items)
        for row in other
    )


def write_bundle(
    plan: Transfer,
    folder: Path,
    target: Path,
    card: Callable[[FeatureStore], str],
    progress: Progress | None = None,
) -> Moved:
    """Make a bundle.

    Args:
        plan: What it holds.
        folder: Where it is packed.
        target: File that ends in `.tar` or `.zip`, which must not exist.
        card: Given the packed store, gives the card in Markdown.
        progress: As for a transfer.

    Raises:
        StoreError: Something is damaged, or the disk is full; no bundle is left.
    """
    moved = plan.carry_out(progress)
    _check_whole(moved.damaged)
    (folder / CARD).write_text(card(FeatureStore(folder / STORE)), encoding="utf-8")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    listed = {
        name: {"size": path.stat().st_size, "sha256": file_digest(path)}
        for name, path in files.items()
    }
    index = {"format": FORMAT, "version": VERSION, "files": listed}
    (folder / INDEX).write_bytes(json_bytes(index))
    write_archive(target, {INDEX: folder / INDEX, **files})
    return moved


def _check_whole(damaged: Iterable[Any]) -> None:
    lines = [f"  {lost.track}: {lost.problem}" for lost in damaged]
    if lines:
        listed = "\n".join(lines)
        raise StoreError(f"{len(lines)} chosen items are damaged, no bundle was made:\n{listed}")


# --- taking in


@contextmanager
def unpacked(bundle: Path, store: Path) -> Generator[Path]:
    """Unpack a bundle and check all of it; what the store holds is not touched.

    Yields:
        The folder, which goes in the end.

    Raises:
        StoreError: Something in it is not what it should be.
    """
    with open_archive(bundle) as archive:
        files = _listed(archive)
        inside = (store / MARK).exists()
        # In a store, where `gc` finds what a killed command leaves; its users may write there.
        beside = temporary_sibling(store / STORE if inside else store.absolute())
        try:
            with room_for("a bundle", store):
                beside.mkdir(parents=True)
                _check_room(archive, beside)
                for name, sha256 in files.items():
                    unpack(archive, name, beside / name, sha256)
            findings = verify(FeatureStore(beside / STORE))
            if findings:
                problem = findings[0].problem.replace(f"{beside}/", "")
                raise StoreError(f"{bundle}: {len(findings)} findings, the first: {problem}")
            yield beside
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def plan_unbundle(folder: Path, store: Path) -> Transfer:
    """Find what a store lacks of an unpacked bundle.

    Raises:
        StoreError: A manifest, or a stream's rows, do not fit those of the store.
    """
    plan = plan_pull(store, folder / STORE)
    _check_whole(plan.damaged)
    assert isinstance(plan.target, FolderTarget)
    plan.target.check_fits({parcel.stream for parcel in plan.parcels}, plan.manifests)
    return plan


def _listed(archive: Archive) -> dict[str, str]:
    """Give the files that a bundle lists, and their SHA-256: exactly those that it holds."""
    where = f"{archive.path}/{INDEX}"
    member = archive.members.get(INDEX)
    if member is None or member.size > RECORD_LIMIT:
        raise StoreError(f"{where}: missing or too large: not a bundle")
    record = parse_record(b"".join(archive.blocks(INDEX)), where)
    check_version(record, where, VERSION)
    files = record.get("files")
    if record.get("format") != FORMAT or not isinstance(files, dict):
        raise StoreError(f"{where}: expected the list of a {FORMAT}")
    held = {name: each.size for name, each in archive.members.items() if name != INDEX}
    found: dict[str, str] = {}
    for name in sorted({*files, *held}):
        each: Any = files.get(name)
        known = isinstance(each, dict) and each.keys() == {"size", "sha256"}
        if not known or each["size"] != held.get(name) or not isinstance(each["sha256"], str):
            raise StoreError(f"{where}: {name!r:.120}: listed and held files differ")
        found[name] = each["sha256"]
    return found


def _check_room(archive: Archive, folder: Path) -> None:
    size = sum(member.size for member in archive.members.values())
    free = shutil.disk_usage(folder).free
    if 2 * size > free:
        raise StoreError(
            f"{folder.parent}: {size} bytes are to be unpacked and taken in, and {free} are free"
        )
