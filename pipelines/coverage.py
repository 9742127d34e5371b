"""What a stream covers of each data set, and what computing it once more would need."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..extract.sensitivity import sensitivity

if TYPE_CHECKING:
    from ..cache import FeatureStore, ManifestTrack, Stream

PARTS = ("backbone", "variant", "weights", "code", "tokenizer", "config", "reader", "precision")
"""Parts of a recipe that must be had, by digest or version, to compute the same numbers."""
SURROUNDINGS = ("versions", "python", "device")
"""Parts of a shard's provenance that say what it was computed with."""


def described(stream: Stream, store: FeatureStore) -> dict[str, Any]:
    """Say of a stream what is known of it, as plain values."""
    versions = {json.dumps(s.provenance.get("versions"), sort_keys=True) for s in stream.shards}
    tracks = sorted(item.entry.track for item in stream.items.values())
    return {
        "name": stream.name,
        "digest": stream.digest,
        "sensitivity": sensitivity(stream.name, stream.recipe),
        "recipe": stream.recipe,
        "versions": [json.loads(text) for text in sorted(versions)],
        "needs": needs(stream),
        "items": len(tracks),
        "damaged": [damage.problem for damage in stream.damages],
        "coverage": coverage(stream, store),
        "tracks": tracks,
    }


def coverage(stream: Stream, store: FeatureStore) -> dict[str, dict[str, str]]:
    """Give how many tracks of each manifest and split a stream has: `3 of 4 tracks`."""
    return {
        manifest.name: {
            split: _share(stream.full_name, manifest.split(split))
            for split in sorted({track.split for track in manifest})
        }
        for manifest in store.manifests()
    }


def _share(stream: str, tracks: Sequence[ManifestTrack]) -> str:
    return f"{sum(stream in track.items for track in tracks)} of {len(tracks)} tracks"


def needs(stream: Stream) -> dict[str, Any]:
    """Give what is needed to compute a stream again: parts of its recipe, and its surroundings.

    Returns:
        `recipe`: what must be had; `computed`: each distinct set of versions, Python and device
        that its shards were computed with.
    """
    recipe = {name: stream.recipe[name] for name in PARTS if stream.recipe.get(name)}
    found = {json.dumps(each, sort_keys=True) for each in _surroundings(stream)}
    return {"recipe": recipe, "computed": [json.loads(text) for text in sorted(found)]}


def _surroundings(stream: Stream) -> list[dict[str, Any]]:
    wholes: list[dict[str, Any]] = []
    for shard in stream.shards:
        plain = shard.provenance
        merged = plain.get("merged")
        parts = merged if isinstance(merged, list) else [{}]
        wholes += [{**plain, **part} for part in parts if isinstance(part, dict)]
    return [{name: each[name] for name in SURROUNDINGS if name in each} for each in wholes]
