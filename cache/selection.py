"""A selection: which streams, data sets, splits and tracks of a store are to travel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import NotInStoreError

if TYPE_CHECKING:
    from .manifest import Manifest
    from .store import FeatureStore
    from .stream import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is to travel; by default all."""

    dataset: str | None = None
    """`demo`, or `demo@3fa9c1` where it has several editions."""
    split: str | None = None
    streams: tuple[str, ...] = ()
    """`visual/i3d`, or `visual/i3d@3fa9c1`."""
    tracks: tuple[str, ...] = ()
    listed: bool = False
    """Nothing that no manifest lists."""

    def manifests(self, store: FeatureStore) -> tuple[Manifest, ...]:
        """Give the store's manifests, with the items of chosen tracks and streams only.

        Raises:
            NotInStoreError: Nothing is chosen by a name; the message lists what there is.
        """
        chosen = store.manifests() if self.dataset is None else (store.manifest(self.dataset),)
        rows = [row for manifest in chosen for row in manifest]
        for what, wanted, known in (
            ("split", (self.split,) if self.split else (), {row.split for row in rows}),
            ("track", self.tracks, {row.track for row in rows}),
        ):
            for name in wanted:
                if name not in known:
                    some = ", ".join(sorted(known)[:12]) or "none"
                    raise NotInStoreError(
                        f"{store.place}: no {what} {name!r:.80}; there is: {some}"
                    )
        names = {stream.full_name for stream in self.of(store)}
        return tuple(self._reduced(manifest, names) for manifest in chosen)

    def _reduced(self, manifest: Manifest, streams: set[str]) -> Manifest:
        def items(row: Any) -> dict[str, str]:
            wanted = self.split in (None, row.split) and (
                not self.tracks or row.track in self.tracks
            )
            return {s: k for s, k in row.items.items() if wanted and s in streams}

        tracks = tuple(replace(row, items=items(row)) for row in manifest)
        return replace(manifest, tracks=tracks)

    def listed_in(self, store: FeatureStore) -> tuple[Manifest, ...]:
        """Give the same; nothing where the store holds nothing of these names."""
        try:
            return self.manifests(store)
        except NotInStoreError:
            return ()

    def of(self, store: FeatureStore) -> tuple[Stream, ...]:
        """Give the chosen streams of a store."""
        if not self.streams:
            return store.streams()
        return tuple({s.full_name: s for s in (store[name] for name in self.streams)}.values())

    @property
    def listed_only(self) -> bool:
        """Chosen by what only manifests tell, so what none lists stays."""
        named = self.dataset is not None or self.split is not None or bool(self.tracks)
        return self.listed or named


ALL = Selection()


def keys_of(manifests: Iterable[Manifest]) -> dict[str, dict[str, str]]:
    """Give what manifests list: stream to item key to track."""
    found: dict[str, dict[str, str]] = {}
    for manifest in manifests:
        for row in manifest:
            for stream, key in row.items.items():
                found.setdefault(stream, {})[key] = row.track
    return found
