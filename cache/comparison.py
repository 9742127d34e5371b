"""Comparing two stores by what their manifests list: what is in both, in one alone, or differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Tracks of one stream in one data set, here and there."""

    manifest: str
    """`dataset@edition`."""
    stream: str
    """Full name."""
    both: tuple[str, ...]
    """The same item here and there."""
    here: tuple[str, ...]
    """Here only."""
    there: tuple[str, ...]
    """There only."""
    other: tuple[str, ...]
    """Another item here than there: other inputs under the same recipe; see `concord cache why`."""

    @property
    def same(self) -> bool:
        """All that one lists the other lists too."""
        return not (self.here or self.there or self.other)

    def record(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


def compare(here: Iterable[Manifest], there: Iterable[Manifest]) -> tuple[Compared, ...]:
    """Compare manifests of two stores, by name, stream and track."""
    own, other = _listed(here), _listed(there)
    return tuple(
        _compared(*name, own.get(name, {}), other.get(name, {})) for name in sorted({*own, *other})
    )


def _listed(manifests: Iterable[Manifest]) -> dict[tuple[str, str], dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = {}
    for manifest in manifests:
        for row in manifest:
            for stream, key in row.items.items():
                found.setdefault((manifest.name, stream), {})[row.track] = key
    return found


def _compared(
    manifest: str, stream: str, here: Mapping[str, str], there: Mapping[str, str]
) -> Compared:
    shared = sorted(here.keys() & there.keys())
    return Compared(
        manifest=manifest,
        stream=stream,
        both=tuple(track for track in shared if here[track] == there[track]),
        here=tuple(sorted(here.keys() - there.keys())),
        there=tuple(sorted(there.keys() - here.keys())),
        other=tuple(track for track in shared if here[track] != there[track]),
    )
