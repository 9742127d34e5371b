"""Pages: what each push adds to a remote's catalogue, so that pushes at the same time all count."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from .atomic import json_bytes
from .catalogue import FILE, PAGES, Catalogue, ListedShard, joined, page_name, parse_catalogue
from .catalogued_place import MANIFESTS, unlisted_pages, with_pages
from .drivers import RaceError
from .entries import SEAL
from .errors import RemoteError, StoreError
from .place import LocalPlace
from .store import FeatureStore

if TYPE_CHECKING:
    from .place import Place
    from .url_place import UrlPlace

ROUNDS = 20
"""How often the catalogue is written anew because somebody else wrote it meanwhile."""


def settle(place: LocalPlace | UrlPlace, page: Catalogue) -> None:
    """Add a page to a remote, and see to it that the catalogue and the manifests have it.

    Each writer looks at the pages once more after it wrote, so the last one to write has seen them
    all, whichever order a race took. Where the server writes on condition, a catalogue that
    somebody else wrote meanwhile is not overwritten at all.

    Raises:
        RemoteError: The remote does not answer, or others write without end.
    """
    content = page.content()
    name = page_name(content)
    old = _read(place, FILE)
    if not old or not _parsed(place, old).holds(page):
        place.write(f"{PAGES}/{name}.json", content)
    for _ in range(ROUNDS):
        try:
            if not _round(place):
                return
        except RaceError:
            continue
    raise RemoteError(
        f"{place}: others write the catalogue without end; what was pushed is there: push once more"
    )


def _round(place: LocalPlace | UrlPlace) -> bool:
    """Write what is not as the pages say; True if there was something to write."""
    tag = None if isinstance(place, LocalPlace) else place.tag(FILE)
    old = _read(place, FILE)
    catalogue = _parsed(place, old)
    catalogue = with_pages(place, catalogue, unlisted_pages(place, catalogue))
    if isinstance(place, LocalPlace):
        catalogue = _with_listing(catalogue, listing_of(FeatureStore(place.path)))
    files = {
        f"{MANIFESTS}/{name}.json": json_bytes(manifest.record())
        for name, manifest in catalogue.manifests.items()
    }
    wrong = {name: text for name, text in files.items() if _read(place, name) != text}
    for name, text in wrong.items():
        place.write(name, text)
    new = catalogue.content()
    if new != old:
        place.write(FILE, new, tag)
    return bool(wrong) or new != old


def _with_listing(catalogue: Catalogue, listing: Catalogue) -> Catalogue:
    """Believe a folder more than the pages: others may write shards and manifests there too."""
    manifests = {**catalogue.manifests, **listing.manifests}
    for name in catalogue.manifests.keys() & listing.manifests.keys():
        manifests[name] = joined(catalogue.manifests[name], listing.manifests[name])
    return replace(catalogue, shards=listing.shards, manifests=manifests)


def _parsed(place: Place, content: bytes) -> Catalogue:
    """Read a catalogue; one that is missing or damaged is made anew of the pages."""
    try:
        return parse_catalogue(content, f"{place}/{FILE}")
    except StoreError:
        return Catalogue()


def _read(place: Place, name: str) -> bytes:
    try:
        return place.read(name)
    except FileNotFoundError:
        return b""


def listing_of(store: FeatureStore) -> Catalogue:
    """List a store as a page: its sound shards, and of its manifests what these hold."""
    shards: dict[str, ListedShard] = {}
    for stream in store.streams():
        folder = f"{stream.name}@{stream.digest[:16]}"
        for shard in stream.shards:
            seal = shard.place.read(SEAL)
            size = len(seal) + sum(size for size, _ in shard.seal.files.values())
            listed = ListedShard(hashlib.sha256(seal).hexdigest(), size)
            shards[f"{folder}/{shard.name}"] = listed
    return Catalogue(shards=shards, manifests={m.name: m for m in store.manifests()})
