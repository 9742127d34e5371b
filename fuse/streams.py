"""The streams of a data set edition: which recipe a name means there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..cache import ConfigError, NotInStoreError

if TYPE_CHECKING:
    from ..cache import FeatureStore, Manifest, Stream

SHOWN = 12
"""Hex digits of a recipe's digest in messages."""


def stream_of(
    store: FeatureStore, manifest: Manifest, name: str, recipes: Mapping[str, str]
) -> Stream:
    """Find a stream that a manifest lists.

    Args:
        store: The store.
        manifest: The data set's edition.
        name: `modality/name`, or with `@` and the start of a digest.
        recipes: Stream name to recipe digest, where the manifest lists several.

    Raises:
        NotInStoreError: None, or several.
    """
    base, _, start = name.partition("@")
    start = start or recipes.get(base, "")
    wanted = f"{base}@{start}"
    found = [full for full in listed(manifest, base) if full.startswith(wanted)]
    if len(found) == 1:
        return store[found[0]]
    raise NotInStoreError(
        f"{manifest.name}: expected one stream {name!r}, found {', '.join(found) or 'none'}; "
        "run with --forcerun extract, or name one by the start of its digest"
    )


def visual_of(manifest: Manifest) -> str:
    """Name the first visual stream of a data set.

    Raises:
        NotInStoreError: There is none.
    """
    names = {full.partition("@")[0] for track in manifest for full in track.items}
    visual = sorted(name for name in names if name.startswith("visual/"))
    if not visual:
        raise NotInStoreError(f"{manifest.name}: protocol faces_only needs a visual stream")
    return visual[0]


def same_stream(store: FeatureStore, manifest: Manifest, full_name: str) -> Stream:
    """Find a stream of a manifest under the very recipe that a run was trained on.

    Args:
        store: The store.
        manifest: The data set's edition.
        full_name: `modality/name@` and the whole digest.

    Raises:
        ConfigError: The manifest lists it under another recipe only.
        NotInStoreError: The manifest does not list it at all.
    """
    base, _, digest = full_name.partition("@")
    found = listed(manifest, base)
    if full_name in found:
        return store[full_name]
    wanted = f"{manifest.name}: expected stream {base}@{digest[:SHOWN]}, which the run was trained"
    if not found:
        raise NotInStoreError(
            f"{wanted} on, found no {base!r}; extract it into {store.place} with the "
            "configuration of the run"
        )
    others = ", ".join(f"{base}@{full.partition('@')[2][:SHOWN]}" for full in found)
    raise ConfigError(
        f"{wanted} on, found {others}; `concord cache info` shows both recipes: extract the data "
        "set under the run's, or train on this one"
    )


def listed(manifest: Manifest, base: str) -> list[str]:
    """List the recipes under which a manifest has a stream, as full names, in order."""
    start = f"{base}@"
    return sorted({name for t in manifest for name in t.items if name.startswith(start)})
