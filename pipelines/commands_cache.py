"""`concord cache`: what a store holds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import AS_JSON

STORE = click.argument("store", type=click.Path(path_type=Path))


@click.group("cache")
def group() -> None:
    """The feature store: what is in it."""


@group.command("ls")
@STORE
@AS_JSON
def list_streams(store: Path, *, as_json: bool) -> None:
    """List the streams of STORE."""
    from ..cache import FeatureStore
    from .commands_data import print_table

    rows = [
        {
            "stream": f"{stream.name}@{stream.digest[:8]}",
            "dim": stream.dim if stream.shards else None,
            "dtype": str(stream.shards[0].dtype) if stream.shards else None,
            "items": len(stream.items),
            "rows": sum(item.entry.rows for item in stream.items.values()),
            "shards": len(stream.shards),
        }
        for stream in FeatureStore(store).streams()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    print_table(str(store), ("stream", "dim", "dtype", "items", "rows", "shards"), rows)


@group.command()
@STORE
@click.argument("stream")
def info(store: Path, stream: str) -> None:
    """Print the recipe of a STREAM in STORE, and what its rows were computed with, as JSON."""
    from ..cache import FeatureStore

    found = FeatureStore(store)[stream]
    record = {
        "name": found.name,
        "digest": found.digest,
        "recipe": found.recipe,
        "provenance": [shard.provenance.get("versions") for shard in found.shards[:1]],
        "tracks": sorted(item.entry.track for item in found.items.values()),
    }
    click.echo(json.dumps(record, indent=1))
