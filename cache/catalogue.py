"""The catalogue of a remote: every shard and every manifest that it holds, in one small file.

A server of plain files has no listing worth trusting, so all of a remote is reached from here.
Each push adds a page, which is named by its content and never changes; the catalogue is all pages
joined, and says which. So one that was overwritten in a race is made whole again from the pages.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .atomic import json_bytes
from .digests import digest, parsed_digest
from .entries import check_version
from .errors import StoreError
from .manifest import Manifest, ManifestTrack, parse_manifest
from .place import parse_record

VERSION = 1
FILE = "catalogue.json"
PAGES = "pages"
PAGE = re.compile(r"([0-9a-f]{24})\.json")
SHARD = re.compile(r"([a-z0-9_]+)/([a-z0-9_.-]+@[0-9a-f]{16})/([0-9a-f]{24})")
_SHA256 = re.compile("[0-9a-f]{64}")
LARGEST = 1 << 48


@dataclass(frozen=True, slots=True)
class ListedShard:
    """A shard of a remote."""

    seal: str
    """SHA-256 of its seal.json."""
    bytes: int
    """Of all its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What a remote holds, or what one push brought (a page)."""

    pages: frozenset[str] = frozenset()
    """Names of the pages that are part of it."""
    shards: Mapping[str, ListedShard] = field(default_factory=dict)
    """`visual/x@<16 hex>/<24 hex>`, the shard's folder, to the shard."""
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    """`dataset@edition` to the manifest; it lists only what is on the remote."""

    def with_page(self, name: str, page: Catalogue) -> Catalogue:
        """Add a page; where both list an item of one track and stream, the page's is taken."""
        manifests = dict(self.manifests)
        for manifest in page.manifests.values():
            old = manifests.get(manifest.name)
            manifests[manifest.name] = joined(old, manifest) if old else manifest
        return Catalogue(
            pages=self.pages | {name},
            shards={**self.shards, **page.shards},
            manifests=manifests,
        )

    def holds(self, page: Catalogue) -> bool:
        """Say whether a page would add nothing."""
        new = self.with_page("", page)
        return (new.shards, new.manifests) == (self.shards, self.manifests)

    def content(self) -> bytes:
        """Give the catalogue as it is written; its last field covers the others."""
        body: dict[str, Any] = {
            "pages": sorted(self.pages),
            "shards": {name: asdict(shard) for name, shard in self.shards.items()},
            "manifests": [self.manifests[name].record() for name in sorted(self.manifests)],
        }
        return json_bytes({"version": VERSION, **body, "sha256": digest(body)})


def page_name(content: bytes) -> str:
    """Name a page, or a shard by its seal: by what it holds."""
    return hashlib.sha256(content).hexdigest()[:24]


def joined(old: Manifest, new: Manifest) -> Manifest:
    """Join two manifests of one edition; where both list an item, the new one's is taken.

    Raises:
        StoreError: They differ in tracks, splits or rows, so they are not one edition.
    """
    before = {row.track: row for row in old}
    tracks: list[ManifestTrack] = []
    for row in new:
        known = before.pop(row.track, None)
        if known is None or (known.split, known.rows) != (row.split, row.rows):
            raise _other_edition(old, row.track)
        rate = known.rate if row.rate is None else row.rate
        tracks.append(replace(row, rate=rate, items={**known.items, **row.items}))
    if before:
        raise _other_edition(old, next(iter(before)))
    return replace(new, tracks=tuple(tracks))


def _other_edition(manifest: Manifest, track: str) -> StoreError:
    return StoreError(
        f"manifest {manifest.name}: track {track!r:.80} differs between here and the remote in "
        "split or rows, or is missing in one: they are not the same edition; index again"
    )


def parse_catalogue(content: bytes, where: str) -> Catalogue:
    """Read a catalogue or a page.

    Raises:
        StoreError: Damaged, of a newer version, or with a name that is none of this format.
    """
    record = parse_record(content, where)
    check_version(record, where, VERSION)
    body = {name: record.get(name) for name in ("pages", "shards", "manifests")}
    if record.get("sha256") != parsed_digest(body, where):
        raise StoreError(f"{where}: damaged: it does not have its own SHA-256; push once more")
    try:
        shards = {name: ListedShard(**shard) for name, shard in record["shards"].items()}
        manifests = [
            parse_manifest(json_bytes(each), f"{where}: manifest {number}")
            for number, each in enumerate(record["manifests"])
        ]
        pages = frozenset(record["pages"])
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{where}: not a catalogue: {error!r:.200}") from error
    for name in pages:
        if not (isinstance(name, str) and PAGE.fullmatch(f"{name}.json")):
            raise StoreError(f"{where}: not a name of a page: {name!r:.80}")
    for name, shard in shards.items():
        sound = SHARD.fullmatch(name) and _SHA256.fullmatch(str(shard.seal))
        sound = sound and type(shard.bytes) is int
        if not sound or not 0 <= shard.bytes < LARGEST:
            raise StoreError(f"{where}: not a shard's name, seal and size: {name!r:.120}")
    named = {manifest.name: manifest for manifest in manifests}
    if len(named) != len(manifests):
        raise StoreError(f"{where}: a manifest is there twice")
    return Catalogue(pages=pages, shards=shards, manifests=named)
