"""Finding items by what a user types: a path that begins with a store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..cache import ConfigError, FeatureStore, NotInStoreError, StoreError

if TYPE_CHECKING:
    from ..cache import Item, Manifest, Stream

KEY = re.compile("[0-9a-f]{4,64}")


def find_item(text: str) -> tuple[Stream, Item]:
    """Find an item by STORE/STREAM/TRACK, STORE/STREAM/DATASET@EDITION/TRACK or STORE/KEY.

    Raises:
        StoreError: No part of the path is a store.
        NotInStoreError: The store holds no such item, or several.
    """
    store, rest = _split(text)
    if KEY.fullmatch(rest):
        return _by_key(store, rest)
    parts = rest.split("/", 3)
    if len(parts) < 3:
        raise ConfigError(
            f"{text}: expected STORE/STREAM/TRACK, such as "
            f"{store.place}/visual/resnet18/video3, or STORE/KEY with 4 or more digits"
        )
    stream = store["/".join(parts[:2])]
    if len(parts) > 3 and any(parts[2] == found.name for found in store.manifests()):
        return stream, stream.of(parts[2])[parts[3]]
    return stream, stream["/".join(parts[2:])]


def _split(text: str) -> tuple[FeatureStore, str]:
    """Split a path into the store that it begins with and the rest."""
    parts = text.split("/")
    for count in range(len(parts) - 1, 0, -1):
        try:
            return FeatureStore("/".join(parts[:count]) or "/"), "/".join(parts[count:])
        except StoreError as error:
            if "no store here" not in str(error):
                raise
    raise StoreError(f"{text}: no part of this path is a store (a folder that holds store.json)")


def _by_key(store: FeatureStore, start: str) -> tuple[Stream, Item]:
    found = [
        (stream, item)
        for stream in store.streams()
        for key, item in stream.items.items()
        if key.startswith(start)
    ]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{stream.name} {item.key[:16]}" for stream, item in found[:8]) or "none"
    raise NotInStoreError(f"{store.place}: items whose key starts with {start}: {listed}")


def record_of(stream: Stream, item: Item) -> dict[str, Any]:
    """Give everything that an item's key stands for, the recipe in full."""
    return {**item.identity, "stream": stream.name, "recipe": stream.recipe}


def keys_of(
    store: FeatureStore, stream: Stream, manifest: str | None, split: str | None
) -> list[str] | None:
    """Give the item keys of a data set or split, each once; None for all of the stream."""
    if manifest is None:
        _refuse_split(split)
        return None
    tracks = _tracks(store.manifest(manifest), split)
    return list(
        dict.fromkeys(
            track.items[stream.full_name] for track in tracks if stream.full_name in track.items
        )
    )


def tracks_of(
    store: FeatureStore, stream: Stream, manifest: str | None, split: str | None
) -> Mapping[str, Item]:
    """Give a stream's items by track, of one data set or split, or of the whole store.

    Raises:
        NotInStoreError: A track's name is in several data sets or editions.
    """
    if manifest is None:
        _refuse_split(split)
        every = [track for found in store.manifests() for track in found]
        chosen = stream.tracks
    else:
        found = store.manifest(manifest)
        every = list(_tracks(found, split))
        chosen = stream.of(found.name)
    names = {track.track for track in every if stream.full_name in track.items}
    return {name: chosen[name] for name in sorted(names)}


def _tracks(manifest: Manifest, split: str | None):
    tracks = manifest.tracks if split is None else manifest.split(split)
    if not tracks:
        splits = ", ".join(sorted({track.split for track in manifest}))
        raise NotInStoreError(f"{manifest.name}: no track in split {split!r}; splits: {splits}")
    return tracks


def _refuse_split(split: str | None) -> None:
    if split is not None:
        raise ConfigError("--split needs --of DATASET, since every data set has its own splits")
