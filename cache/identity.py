"""Identity: what an item's numbers depend on, the key made of it, and how two of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from .digests import canonical, digest


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything that the numbers of an item depend on.

    No path, no time and no name of the data set is part of it: moving data changes no key.
    """

    recipe: str
    """Digest of the stream's recipe."""
    rows: int
    """Rows of the track, as its label file or template has them."""
    row_map: str | None = None
    """Digest of the rows' times where the data set states them; None: row i is frame i."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What is read (`media`, `faces`, `labels`, `transcript`, ...) to the digest of its bytes."""

    def record(self) -> dict[str, Any]:
        """Give the identity as plain values."""
        return json.loads(canonical(asdict(self)))

    @cached_property
    def key(self) -> str:
        """The item key: SHA-256 of the identity's canonical form."""
        return digest(self.record())


@dataclass(frozen=True, slots=True)
class Difference:
    """One part in which two records differ."""

    part: str
    """Where: `inputs.faces`, `recipe.resize`."""
    left: Any
    """The value in the first; None where it has none."""
    right: Any


def differences(left: Any, right: Any, part: str = "") -> Iterator[Difference]:
    """List the parts in which two records differ, by name."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for name in sorted({*left, *right}):
            below = f"{part}.{name}" if part else str(name)
            yield from differences(left.get(name), right.get(name), below)
    elif left != right or type(left) is not type(right):
        yield Difference(part, left, right)
