"""Repairing a store: what is sound of a damaged shard is saved, what is damaged is moved out.

Nothing is deleted, and each step is one rename after all that it needs is on disk: a repair that is
killed leaves the store as it was or as it shall be, and can be run again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import fsync_folder, publish_folder, temporary_sibling, write_json
from .digests import digest
from .entries import ARRAYS, Entry
from .errors import StoreError
from .finding import Finding, Kind, Progress, Repair
from .new_shard import NewItem, ShardFormat, write_shard
from .reading import OpenedShard, read_shard
from .rights import make_folder
from .shard import Shard
from .verify import RECIPE, StreamFolder, read_manifests, stream_folders

if TYPE_CHECKING:
    from .store import FeatureStore

DAMAGED = "damaged"
"""Folder of a store that damaged files and folders are moved to."""


def repair(
    store: FeatureStore, findings: Iterable[Finding], progress: Progress | None = None
) -> list[Repair]:
    """Move what is damaged out of a store, after saving what is sound of it.

    The sound items of a damaged shard go into a new shard; the damaged one is moved to
    `damaged/<modality>-<name>@<digest>/` in the store, so its other items count as absent and the
    next extraction run computes them. A recipe is written anew from the provenance of a sound
    shard, or else by the next extraction run; a manifest when that run ends.

    Args:
        store: The store; a local one.
        findings: What `verify` found; each is looked at again before anything is done.
        progress: Told of every finding that was seen to.

    Returns:
        What was done; nothing about what is sound by now, gone, unreadable, or merely missing.

    Raises:
        StoreError: The store is at a URL, the disk is full, or a finding is not of this store.
    """
    steps: dict[Kind, Callable[[FeatureStore, Finding], Repair | None]] = {
        "shard": _repair_shard,
        "recipe": _repair_recipe,
        "missing": _repair_recipe,
        "manifest": _repair_manifest,
        "unexpected": _repair_unexpected,
    }
    todo = [finding for finding in findings if finding.kind in steps]
    repairs: list[Repair] = []
    for done, finding in enumerate(todo, 1):
        if not Path(finding.path).is_relative_to(store.path):
            raise StoreError(f"{finding.path}: expected a path in the store {store.path}")
        if repaired := steps[finding.kind](store, finding):
            repairs.append(repaired)
        if progress:
            progress(done, len(todo), finding.path)
    return repairs


def _repair_shard(store: FeatureStore, finding: Finding) -> Repair | None:
    folder, old = _shard_of(store, finding)
    if not old.exists():
        return None
    reading = read_shard(folder.shards / old.name)
    if not (reading.problems and reading.readable):
        return None
    shard = reading.shard
    fates = [(entry, shard.lost(entry)) for entry in reading.entries] if shard else []
    sound = [entry for entry, lost in fates if lost is None]
    target = _target(store, folder.label, old.name)
    if shard and sound:
        _replace(old, target, shard, sound, _provenance(shard, folder))
    else:
        _move(old, target)
    lost = tuple(item.track for _, item in fates if item) if shard else finding.tracks
    number = str(len(lost)) if shard or lost else "all"
    done = f"{len(sound)} items saved, {number} lost: run the extraction again"
    done = done if number != "0" else f"all {len(sound)} items saved"
    return Repair(str(old), done, str(target), tuple(entry.track for entry in sound), lost)


def _replace(
    old: Path, target: Path, shard: OpenedShard, sound: list[Entry], provenance: dict[str, Any]
) -> None:
    """Publish a shard of the sound items, and move the old one out."""
    how = ShardFormat(shard.index.format, compressed=shard.index.compression is not None)
    staging = temporary_sibling(old)
    try:
        new = write_shard(staging, [_new_item(shard, entry) for entry in sound], provenance, how)
        if new.name == old.name:
            # All items are sound, but one folder cannot take another's place: for the moment of
            # two renames they are absent, and a kill just then has them extracted again.
            _move(old, target)
            publish_folder(new, old)
        else:
            publish_folder(new, old.with_name(new.name))
            _move(old, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _new_item(shard: OpenedShard, entry: Entry) -> NewItem:
    x, valid, flags, times = (shard.read(name, entry) for name in ARRAYS)
    return NewItem(
        key=entry.key,
        track=entry.track,
        rows=x,
        valid=valid,
        flags=flags,
        times=times,
        identity=entry.identity,
    )


def _provenance(shard: OpenedShard, folder: StreamFolder) -> dict[str, Any]:
    """Give a damaged shard's provenance, or what else is known where that is lost."""
    try:
        return shard.provenance
    except StoreError as error:
        lost = {"lost": str(error), "stream": folder.name}
    try:
        return {**lost, "recipe": folder.recipe()[1]}
    except OSError:
        return lost


def _repair_recipe(store: FeatureStore, finding: Finding) -> Repair | None:
    path = Path(finding.path)
    found = [folder for folder in stream_folders(store) if f"{folder.place}/{RECIPE}" == str(path)]
    if not found or found[0].finding() is None:
        return None
    (folder,) = found
    target = _target(store, folder.label, RECIPE) if path.exists() else None
    moved_to = None if target is None else str(target)
    shard, recipe = _recipe_in_shards(folder)
    if shard:
        if target:
            make_folder(target.parent)
            _keep(path, target)
        write_json(path, {"name": folder.name, "digest": digest(recipe), "recipe": recipe})
        return Repair(str(path), f"written anew from the provenance of shard {shard}", moved_to)
    if target is None:
        return None
    _move(path, target)
    return Repair(str(path), "moved out: run the extraction again to write it anew", moved_to)


def _keep(path: Path, target: Path) -> None:
    """Keep a file under a second name, whatever it is; where that cannot be, move it there."""
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        path.rename(target)
    fsync_folder(target.parent)


def _recipe_in_shards(folder: StreamFolder) -> tuple[str, Any]:
    """Find the recipe that a stream's folder is named after; give the shard that holds it too."""
    for name in folder.shards.folders():
        try:
            recipe = Shard(folder.shards / name).provenance.get("recipe")
            if digest(recipe).startswith(folder.start):
                return name, recipe
        except OSError:
            continue
    return "", None


def _repair_manifest(store: FeatureStore, finding: Finding) -> Repair | None:
    if (finding.path, "manifest") not in {(f.path, f.kind) for f in read_manifests(store)[1]}:
        return None
    path = Path(finding.path)
    target = _target(store, "manifests", path.name)
    _move(path, target)
    return Repair(str(path), "moved out: run the extraction again to write it anew", str(target))


def _repair_unexpected(store: FeatureStore, finding: Finding) -> Repair | None:
    folder, shard = _shard_of(store, finding)
    path = Path(finding.path)
    if not path.exists() or finding.path not in read_shard(folder.shards / shard.name).unexpected:
        return None
    target = _target(store, folder.label, str(path.relative_to(shard.parent)))
    _move(path, target)
    return Repair(str(path), "moved out", str(target))


def _shard_of(store: FeatureStore, finding: Finding) -> tuple[StreamFolder, Path]:
    """Give the stream and the shard that a finding lies in."""
    path = Path(finding.path)
    for folder in stream_folders(store):
        shards = Path(str(folder.shards))
        if path != shards and path.is_relative_to(shards) and ".." not in path.parts:
            return folder, shards / path.relative_to(shards).parts[0]
    raise StoreError(f"{path}: expected a path in a shard of {store.path}")


def _target(store: FeatureStore, label: str, name: str) -> Path:
    """Name a place for something damaged; numbered where an earlier one has the name."""
    first = store.path / DAMAGED / label.replace("/", "-") / name
    target, count = first, 1
    while target.exists():
        count += 1
        target = first.with_name(f"{first.name}-{count}")
    return target


def _move(path: Path, target: Path) -> None:
    make_folder(target.parent)
    path.rename(target)
    fsync_folder(target.parent)
    fsync_folder(path.parent)
