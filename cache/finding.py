"""Findings: what is wrong with a store, in words and in names; repairs: what was done about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Progress = Callable[[int, int, str], None]
"""Called with the number done, the number in all, and the name of what was done last."""

Kind = Literal["shard", "recipe", "manifest", "unexpected", "unreadable", "missing"]
"""What is wrong.

shard: A file of a shard is not what was sealed. recipe, manifest: It is damaged. unexpected: A file
that no seal knows. unreadable: Of a newer version, or not permitted to be read; as far as this
program can tell it is not damaged. missing: Listed and nowhere to be found.
"""


@dataclass(frozen=True, slots=True)
class LostItem:
    """An item that cannot be read as it was written."""

    key: str
    track: str
    rows: tuple[tuple[int, int], ...]
    """Stretches of damaged rows, first and stop, counted in the item."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a store."""

    kind: Kind
    path: str
    """The shard's folder, or the file."""
    problem: str
    stream: str | None = None
    """`name@digest`; the digest's first 16 digits alone where the recipe is damaged."""
    items: tuple[LostItem, ...] = ()
    """Items that are lost; a damaged shard's other items are sound, and saved by repairing."""

    @property
    def tracks(self) -> tuple[str, ...]:
        """Tracks of the lost items."""
        return tuple(item.track for item in self.items)

    def record(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Repair:
    """What was done about one finding."""

    path: str
    """The finding's."""
    done: str
    moved_to: str | None = None
    """Where the damaged file or folder lies now."""
    saved: tuple[str, ...] = ()
    """Tracks of a damaged shard whose items were sound."""
    lost: tuple[str, ...] = ()
    """Tracks whose items the next extraction run computes anew, as far as they are known."""

    def record(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)
