"""Rules of sharing: what may leave a store, and what must be said first."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import ConfigError
from ..cache.licences import Licence, check_licensed, licences
from ..cache.remote_names import remotes
from ..cache.selection import keys_of
from ..extract.sensitivity import sensitivity
from .demo import PROFILES

if TYPE_CHECKING:
    from ..cache import Manifest, Stream
    from ..cache.transfer import Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who is to receive something, and what the user has said of it."""

    recipients: tuple[str, ...]
    """All names that the recipient goes by, what the user typed first."""
    sensitive: bool = False
    """Streams that show people may go."""
    without_licence: bool = False
    """Data sets may go whose licence is not on record."""
    project: Path = Path()
    """Where the records lie."""

    def check(self, plan: Transfer, what: str) -> None:
        """Check what would leave a store, before any of it does.

        The generated demo shows nobody, so all of it may go.

        Args:
            plan: What would.
            what: `push lab`: for messages.

        Raises:
            ConfigError: A stream shows people, a data set has no licence record that covers the
                recipient, or items are of no data set that is known.
        """
        real = [manifest for manifest in plan.manifests if not is_demo(manifest)]
        demo = keys_of(manifest for manifest in plan.manifests if manifest not in real)
        streams = {
            parcel.stream.full_name: parcel.stream
            for parcel in plan.parcels
            if any(item.key not in demo.get(parcel.stream.full_name, {}) for item in parcel.items)
        }
        check_sensitive(streams.values(), what, sensitive=self.sensitive)
        if self.without_licence:
            return
        known = licences(self.project)
        for manifest in real:
            check_licensed(manifest.name, self.recipients, known)
        _check_listed(plan, what)


def recipients_of(project: Path, remote: str, where: str) -> tuple[str, ...]:
    """Give all names of a remote: what was typed, its URL, and every name that it has here."""
    names = (name for name, url in remotes(project).items() if url == where)
    return tuple(dict.fromkeys((remote, where, *names)))


def licences_of(plan: Transfer, rules: Rules) -> dict[str, Licence | None]:
    """Give the record by which each data set of a plan may go; None for the demo, or without."""
    known = licences(rules.project)
    found: dict[str, Licence | None] = {}
    for manifest in plan.manifests:
        found[manifest.name] = None
        if not (rules.without_licence or is_demo(manifest)):
            found[manifest.name] = check_licensed(manifest.name, rules.recipients, known)
    return found


def check_sensitive(streams: Iterable[Stream], what: str, *, sensitive: bool) -> None:
    """Refuse streams that show people, unless that is meant.

    Args:
        streams: What is to leave a store.
        what: `export`, `push lab`: for the message.
        sensitive: It is meant.

    Raises:
        ConfigError: Some are `media`; names them.
    """
    if sensitive:
        return
    refused = [
        f"{s.name}@{s.digest[:8]}" for s in streams if sensitivity(s.name, s.recipe) == "media"
    ]
    if refused:
        raise ConfigError(
            f"{what}: {', '.join(refused)}: expected pooled vectors, found what shows people or is "
            "not known (labels, words, spectrograms, crops, a backbone of your own): choose "
            "other streams, or add --sensitive if your data's licence allows it"
        )


def _check_listed(plan: Transfer, what: str) -> None:
    """Refuse items that no manifest lists, since nobody knows whose licence covers them."""
    listed = keys_of(plan.manifests)
    for parcel in plan.parcels:
        name = parcel.stream.full_name
        loose = [item for item in parcel.items if item.key not in listed.get(name, {})]
        if loose:
            raise ConfigError(
                f"{what}: {parcel.stream.name}: item {loose[0].key[:12]} of track "
                f"{loose[0].entry.track!r:.80} is in no data set's manifest, so no licence is "
                "known to cover it: choose one with --dataset NAME, which leaves such items out, "
                "or add --without-licence"
            )


def is_demo(manifest: Manifest) -> bool:
    """Say whether a manifest is of the generated demo: its tracks, splits and rows, and no other.

    The plan of a profile fixes them; by a name alone any data set could pass for it.
    """
    tracks = {(row.track, row.split, row.rows) for row in manifest}
    return bool(tracks) and any(tracks <= plan for plan in _plans())


def _plans() -> Collection[set[tuple[str, str, int]]]:
    return [
        {
            (clip.track(region).name, clip.split, clip.rows)
            for clip in profile.clips
            for region in clip.regions
        }
        for profile in PROFILES.values()
    ]
