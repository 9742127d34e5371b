"""A card: what a bundle holds, in Markdown, for those who are given it. It names no path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..extract.sensitivity import sensitivity
from .coverage import coverage, needs

if TYPE_CHECKING:
    from ..cache import FeatureStore, Manifest, Stream
    from ..cache.licences import Licence

SHOWS = {
    "media": "**shows people**, or can be turned back into what does",
    "vectors": "pooled vectors",
    "metrics": "scores and counts",
}


def card(store: FeatureStore, licences: Mapping[str, Licence | None]) -> str:
    """Write the card of a packed store.

    Args:
        store: The store.
        licences: `dataset@edition` to the record by which it may go; None where it needs none.
    """
    return "\n".join(_lines(store, licences)) + "\n"


def _lines(store: FeatureStore, licences: Mapping[str, Licence | None]) -> Iterator[str]:
    names = ", ".join(manifest.name for manifest in store.manifests())
    yield f"# Features of {names}"
    yield ""
    yield "Take it in with `concord cache unbundle FILE --store FOLDER`, which checks every byte."
    for manifest in store.manifests():
        yield from _of_manifest(manifest)
        yield from _of_licence(licences.get(manifest.name))
    for stream in store.streams():
        yield from _of_stream(stream, store)


def _of_manifest(manifest: Manifest) -> Iterator[str]:
    yield from (
        "",
        f"## Data set {manifest.name}",
        "",
        "| split | tracks | rows |",
        "| - | - | - |",
    )
    for split in sorted({row.split for row in manifest}):
        rows = manifest.split(split)
        yield f"| {_plain(split)} | {len(rows)} | {sum(row.rows for row in rows)} |"


def _of_licence(licence: Licence | None) -> Iterator[str]:
    yield from ("", "### Licence", "")
    if licence is None:
        yield "No licence record: generated data, or given on without one at the sender's word."
        return
    until = f", until {licence.expires}" if licence.expires else ""
    yield (
        f"Under the agreement signed by {_plain(licence.signed_by)} for "
        f"{_plain(licence.edition) or 'every edition'}, which covers "
        f"{_plain(', '.join(licence.covers))}{until}. Who passes it on must be covered too."
    )
    if licence.note:
        yield from ("", _plain(licence.note))
    yield from ("", "### Citation", "")
    yield _plain(licence.citation) or "Cite the data set as its agreement asks."


def _of_stream(stream: Stream, store: FeatureStore) -> Iterator[str]:
    kind = sensitivity(stream.name, stream.recipe)
    yield from ("", f"## Stream {stream.name}@{stream.digest[:12]}", "")
    yield f"{len(stream.items)} items of {stream.dim} x {stream.dtype}; {SHOWS[kind]}."
    yield from ("", "| data set | split | tracks |", "| - | - | - |")
    for name, splits in coverage(stream, store).items():
        yield from (f"| {name} | {_plain(split)} | {share} |" for split, share in splits.items())
    yield from ("", "Recipe:", "", *_block(stream.recipe))
    yield from ("", "Computed with:", "", *_block(needs(stream)))


def _block(value: Any) -> Iterator[str]:
    text = json.dumps(value, indent=1, sort_keys=True)
    yield from ("```json", *text.replace("```", "'''").split("\n"), "```")


def _plain(text: str) -> str:
    """Give text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in text)
