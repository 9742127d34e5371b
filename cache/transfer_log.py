"""The log of transfers: what went out of a store and what came in, one JSON line at a time.

A line is written before anything travels, so that also what a killed command sent is on record,
and another when it ends, however it ends. There is never a secret in it.
"""

from __future__ import annotations

import getpass
import json
import os
import uuid
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from .errors import StoreError
from .rights import hand_down, make_folder

if TYPE_CHECKING:
    from .transfer import Moved, Transfer

FILE = "transfers.jsonl"
Direction = Literal["push", "pull", "bundle", "unbundle"]


@dataclass(slots=True)
class Told:
    """What is known of a transfer, to be brought up to date by whoever carries it out."""

    streams: tuple[str, ...] = ()
    """Full names."""
    manifests: tuple[str, ...] = ()
    """`dataset@edition` of the tables of tracks that travel."""
    shards: int = 0
    items: int = 0
    bytes: int = 0
    done: bool = field(default=False)

    def moved(self, moved: Moved) -> None:
        """Take over what a transfer did."""
        self.shards, self.items, self.bytes = moved.shards, moved.items, moved.bytes
        self.done = True


def planned(plan: Transfer) -> Told:
    """Say what a transfer is about to do."""
    return Told(
        streams=tuple(sorted({parcel.stream.full_name for parcel in plan.parcels})),
        manifests=tuple(each.name for each in plan.manifests),
        shards=len(plan.parcels),
        items=plan.items,
        bytes=plan.bytes,
    )


@contextmanager
def logged(store: Path, direction: Direction, remote: str, told: Told) -> Generator[Told]:
    """Log a transfer while it is carried out.

    Args:
        store: Folder of the store that it leaves or comes to.
        direction: Which way.
        remote: Name of the remote, its URL, or the bundle's file.
        told: What is planned; what the block sets in it is what is logged at its end.

    Raises:
        StoreError: The log cannot be written; before the block, so nothing travels unlogged.
    """
    same = {"id": uuid.uuid4().hex[:12], "direction": direction, "remote": without_secrets(remote)}
    same |= {"user": user_name()}
    _append(store, {**same, "state": "begun", **_counts(told)})
    told.done = False
    try:
        yield told
    finally:
        state = "done" if told.done else "broken off"
        _append(store, {**same, "state": state, **_counts(told)})


def _counts(told: Told) -> dict[str, Any]:
    numbers = {"shards": told.shards, "items": told.items, "bytes": told.bytes}
    return {"streams": list(told.streams), "manifests": list(told.manifests), **numbers}


def user_name() -> str:
    """Name the user of this process; the number where it has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def without_secrets(remote: str) -> str:
    """Give a URL without user, password, query and fragment; any other text as it is."""
    return "::".join(_plain(part) for part in remote.split("::"))


def _plain(url: str) -> str:
    if "://" not in url:
        return url
    try:
        scheme, host, path, _, _ = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://…"
    return urlunsplit((scheme, host.rpartition("@")[2], path, "", ""))


def transfers(store: Path) -> Iterable[dict[str, Any]]:
    """Give what has been logged, the oldest first; a line that was cut off is left out."""
    try:
        lines = (store / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _append(store: Path, record: dict[str, Any]) -> None:
    """Append a line by one call, so that lines of several processes do not mix."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"time": now, **record}, ensure_ascii=False).encode() + b"\n"
    path = store / FILE
    try:
        make_folder(store)
        new = not path.exists()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(path, flags, 0o666)
        try:
            if new:
                hand_down(path)
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(
            f"{path}: this transfer cannot be logged: {error.strerror or error}; make the file "
            "writable, and run again"
        ) from error
