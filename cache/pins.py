"""Pins: what a store is to keep whoever collects it; one small file each, in the store itself."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from .atomic import write_json
from .digests import digest
from .entries import check_name, check_version
from .errors import NotInStoreError, StoreError
from .place import read_record

if TYPE_CHECKING:
    from pathlib import Path

    from .store import FeatureStore

VERSION = 1
FOLDER = "pins"
STREAM = re.compile(r"[a-z0-9_]+/[a-z0-9_.-]+@[0-9a-f]{64}")
"""A stream's full name."""
MANIFEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}@[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Pin:
    """Something that `gc` keeps: a stream with all its items, or a manifest with all it lists."""

    what: str
    """Full name: `visual/resnet18@<64 hex>` or `dataset@edition`."""
    note: str = ""
    """Why, or for whom. Two notes on one thing are two pins."""

    @property
    def is_stream(self) -> bool:
        """A stream, not a manifest."""
        return "/" in self.what

    @property
    def file(self) -> str:
        """Name of the pin's file: a digest of what it says."""
        return f"{digest(asdict(self))[:24]}.json"


def pin(store: FeatureStore, what: str, note: str = "") -> Pin:
    """Pin a stream or a manifest; pinning it again with the same note changes nothing.

    Args:
        store: A store in a folder.
        what: `visual/resnet18`, `visual/resnet18@3fa9c1`, `demo` or `demo@3fa9c1`.
        note: Why, or for whom: at most 4,096 characters, none of them a control character.

    Raises:
        NotInStoreError: No such stream or manifest, or several; the message lists them.
        StoreError: The note is none, or the store is at a URL.
    """
    if note:
        check_name(note, "note")
    found = Pin(store[what].full_name if "/" in what else store.manifest(what).name, note)
    save_pin(store, found)
    return found


def save_pin(store: FeatureStore, pinned: Pin) -> Path:
    """Write a pin, whether or not the store holds what it names, and give its path."""
    path = store.path / FOLDER / pinned.file
    write_json(path, {"version": VERSION, **asdict(pinned)})
    return path


def unpin(store: FeatureStore, what: str, note: str | None = None) -> tuple[Pin, ...]:
    """Take back the pins of a stream or manifest, also of one that is no longer in the store.

    Args:
        store: A store in a folder.
        what: A name as for `pin`; the digest or edition may be left out or cut short.
        note: Take back the pin with this note only; all of them by default.

    Returns:
        The pins that were taken back.

    Raises:
        NotInStoreError: Nothing of that name is pinned, or several things are; lists the pins.
    """
    base, _, start = what.partition("@")
    every = pins(store)
    named = [p for p in every if p.what.startswith(f"{base}@{start}") and note in (None, p.note)]
    if len({p.what for p in named}) != 1:
        listed = "".join(f"\n  {p.what}  {p.note}" for p in named or every) or " none"
        problem = "several things are pinned" if named else "nothing is pinned"
        raise NotInStoreError(f"{store.place}: {problem} as {what!r:.200}; pins:{listed}")
    for pinned in named:
        (store.path / FOLDER / pinned.file).unlink(missing_ok=True)
    return tuple(named)


def pins(store: FeatureStore) -> tuple[Pin, ...]:
    """Give all pins of a store, local or at a URL, by name and note.

    Raises:
        StoreError: A pin's file is damaged, or of a version that this program does not know.
    """
    place = store.place / FOLDER
    found: list[Pin] = []
    for name in place.files():
        if not name.endswith(".json"):
            continue
        where = f"{place}/{name}"
        try:
            record = read_record(place, name)
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                continue  # Taken back since the folder was listed.
            raise
        check_version(record, where, VERSION)
        pinned = Pin(*(str(record.get(part)) for part in ("what", "note")))
        if pinned.note:
            check_name(pinned.note, f"{where}: note")
        known = STREAM.fullmatch(pinned.what) or MANIFEST.fullmatch(pinned.what)
        if not known or pinned.file != name:
            raise StoreError(
                f"{where}: damaged: its name is not the digest of what it says, "
                f"{pinned.what!r:.200}; pin that again, then delete this file"
            )
        found.append(pinned)
    return tuple(sorted(found, key=lambda p: (p.what, p.note)))
