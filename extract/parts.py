"""Parts: the pieces that a data set's sources are cut into, one extraction job each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def part_of(source: str, parts: int) -> int:
    """Give the part (from 1) of a source: a stable hash of its name, so that adding a source
    changes one part only.
    """  # noqa: D205
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], "big") % parts + 1


def sources_of_part(sources: Iterable[str], part: int, parts: int) -> list[str]:
    """Sources of one part, in their order."""
    return [source for source in sources if part_of(source, parts) == part]
