"""Fall-backs: which rows come from which store of a project's list, and what is left to compute.

Decided from manifests alone; nothing here opens a store.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..cache import ConfigError
from ..extract.settings import LABELS

if TYPE_CHECKING:
    from ..cache import Manifest, ManifestTrack

LOCAL = "local"
"""The project's own store, in a list of stores."""

Keys = dict[str, str]
"""Track to item key."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of the streams of a configuration."""

    compute: tuple[str, ...]
    """Streams that are computed here."""
    unlisted: Mapping[str, tuple[ManifestTrack, ...]]
    """Other streams to the tracks that they lack, as if in quarantine."""


def chosen_edition(
    dataset: str, edition: str, listings: Mapping[str, Sequence[Manifest]], own: str = ""
) -> Manifest | None:
    """Choose the edition of a data set: the remotes' first, the local store's where none has any.

    Args:
        dataset: The data set's name.
        edition: How the edition's name begins; empty for any.
        listings: Store to its manifests, in the order of the list.
        own: The edition that the recipient's own labels make, where known: it decides between
            several.

    Returns:
        The manifest, as the first store that has it lists it; None where no store has the data set.

    Raises:
        ConfigError: A store has several editions that could be meant.
    """
    for store in sorted(listings, key=lambda name: name == LOCAL):
        found = [
            manifest
            for manifest in listings[store]
            if manifest.dataset == dataset and manifest.edition.startswith(edition)
        ]
        mine = [manifest for manifest in found if manifest.edition == own]
        found = mine or found
        if len(found) > 1:
            listed = ", ".join(manifest.edition for manifest in found)
            raise ConfigError(
                f"data.edition: {store} has several editions of {dataset}: {listed}; choose one"
            )
        if found:
            return found[0]
    return None


def offered(manifests: Sequence[Manifest], name: str, stream: str) -> Keys:
    """Give what a store lists of a stream in one edition.

    Args:
        manifests: The store's.
        name: `dataset@edition`.
        stream: Full name: only this recipe will do.
    """
    return {
        row.track: row.items[stream]
        for manifest in manifests
        if manifest.name == name
        for row in manifest
        if stream in row.items
    }


def settle(
    manifest: Manifest | None, held: Mapping[str, Keys], budget: float, own_labels: bool
) -> Settled:
    """Decide what is computed, from what is here once everything was pulled.

    A stream that is listed is not computed again: its few unlisted tracks count as quarantined. It
    is only where it is not listed at all, or lacks more sources than the failure budget allows.

    Args:
        manifest: Of the edition; None where no store has the data set.
        held: Stream to the tracks that are listed and here.
        budget: Share of the sources that may be in quarantine.
        own_labels: Labels come from the recipient's own folder.
    """
    rows = [] if manifest is None else list(manifest)
    allowed = math.floor(budget * len({row.source for row in rows}) + 1e-9)
    compute: list[str] = []
    unlisted: dict[str, tuple[ManifestTrack, ...]] = {}
    for stream, keys in held.items():
        lacking = tuple(_lacking(rows, stream, keys))
        most = 0 if stream == LABELS else allowed
        too_many = len({row.source for row in lacking}) > most
        if not keys or too_many or (own_labels and stream == LABELS):
            compute.append(stream)
        elif lacking:
            unlisted[stream] = lacking
    return Settled(tuple(compute), unlisted)


def _lacking(rows: Sequence[ManifestTrack], stream: str, keys: Keys) -> Iterator[ManifestTrack]:
    for row in rows:
        # A test track's labels are nobody's.
        withheld = stream == LABELS and row.split == "test"
        if row.track not in keys and not withheld:
            yield row
