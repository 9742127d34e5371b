"""`concord cache`: what a store holds, and why; see also `commands_upkeep.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import (
    commands_bundle,
    commands_fetch,
    commands_licence,
    commands_remote,
    commands_remote_names,
    commands_upkeep,
)
from .commands_remote import named, of_selection
from .options import AS_JSON, SENSITIVE

STORE = click.argument("store", callback=named)


@click.group("cache")
def group() -> None:
    """The feature store: what is in it, whether it is sound, and keeping it small.

    STORE is the folder that holds store.json, or for reading a URL that fsspec can open, or the
    name of a remote. Exit codes: 2 wrong use, 5 no such store, stream or track, 7 damage found, 8
    inputs have changed, 10 a remote does not answer or refuses.
    """


@group.command("ls")
@STORE
@of_selection
@AS_JSON
def list_streams(store: str, *, as_json: bool, **chosen: Any) -> None:
    """List the streams and data sets of STORE; its items, one a line, where some are chosen."""
    from ..cache import FeatureStore
    from .tables import print_json, print_table

    opened = FeatureStore(store)
    if any(chosen.values()):
        items = commands_remote.tracks_of(opened, chosen)
        if as_json:
            print_json(items)
            return
        print_table(store, ("manifest", "track", "split", "rows", "stream", "key"), items)
        return
    rows = [
        {
            "stream": f"{stream.name}@{stream.digest[:8]}",
            "dim": stream.dim if stream.shards else None,
            "dtype": str(stream.dtype) if stream.shards else None,
            "items": len(stream.items),
            "rows": sum(item.entry.rows for item in stream.items.values()),
            "shards": len(stream.shards),
            "damaged": len(stream.damages),
        }
        for stream in opened.streams()
    ]
    manifests = [
        {"manifest": found.name, "tracks": len(found.tracks)} for found in opened.manifests()
    ]
    if as_json:
        print_json({"streams": rows, "manifests": manifests})
        return
    print_table(store, ("stream", "dim", "dtype", "items", "rows", "shards", "damaged"), rows)
    print_table("", ("manifest", "tracks"), manifests)


@group.command()
@STORE
@click.argument("stream", required=False)
@AS_JSON
def info(store: str, stream: str | None, *, as_json: bool) -> None:
    """Show the recipe of a STREAM in STORE, what computing it again needs, and its coverage.

    Without STREAM, all of them: what to look at before features of others are used.
    """
    from ..cache import FeatureStore
    from .coverage import described
    from .tables import print_json, print_tree

    opened = FeatureStore(store)
    found = (opened[stream],) if stream else opened.streams()
    records = [described(each, opened) for each in found]
    if as_json:
        print_json(records[0] if stream else records)
        return
    for record in records:
        brief = {name: value for name, value in record.items() if name != "tracks"}
        print_tree(f"{record['name']}@{record['digest'][:8]}", brief)


@group.command()
@click.argument("a")
@click.argument("b")
@AS_JSON
def why(a: str, b: str, *, as_json: bool) -> None:
    """Say which parts of the keys of two items differ: recipe, rows, inputs.

    A and B are STORE/STREAM/TRACK, or STORE/STREAM/DATASET@EDITION/TRACK, or STORE/KEY with the
    first digits of an item key: `results/demo/store/visual/resnet18/video3`.
    """
    from ..cache.identity import differences
    from .items import find_item, record_of
    from .tables import print_json, print_table

    left, right = find_item(a), find_item(b)
    found = [
        {"part": part.part, "a": part.left, "b": part.right}
        for part in differences(record_of(*left), record_of(*right))
    ]
    if as_json:
        print_json({"a": left[1].key, "b": right[1].key, "differences": found})
        return
    if not found:
        same = "one item" if left[1].key == right[1].key else "no recorded part"
        click.echo(f"{same}: {left[1].key} {right[1].key}")
        return
    title = f"a {left[1].key[:16]}  b {right[1].key[:16]}"
    print_table(title, ("part", "a", "b"), found)


@group.command()
@STORE
@click.argument("stream")
@click.option("--of", "manifest", help="Items of this data set or edition only.")
@click.option("--split", help="Items of this split only; needs --of.")
@AS_JSON
def stats(
    store: str, stream: str, manifest: str | None, split: str | None, *, as_json: bool
) -> None:
    """Measure a STREAM: mean, spread, range, dead and constant dimensions, over valid rows."""
    from ..cache import FeatureStore
    from ..cache.statistics import statistics
    from .items import keys_of
    from .progress import progress
    from .tables import print_json, print_tree

    opened = FeatureStore(store)
    found = opened[stream]
    with progress(f"stats {stream}") as told:
        measured = statistics(found, keys_of(opened, found, manifest, split), told)
    record = measured.record()
    if as_json:
        print_json(record)
        return
    brief = {name: value for name, value in record.items() if name != "dimensions"}
    print_tree(f"{found.name}@{found.digest[:8]}", brief)


@group.command()
@STORE
@click.argument("stream")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--of", "manifest", help="Tracks of this data set or edition only.")
@click.option("--split", help="Tracks of this split only; needs --of.")
@SENSITIVE
@AS_JSON
def export(
    store: str,
    stream: str,
    target: Path,
    manifest: str | None,
    split: str | None,
    *,
    sensitive: bool,
    as_json: bool,
) -> None:
    """Write a STREAM's tracks to TARGET: one file if it ends in .npz, else a folder of .npy.

    Labels, words, spectrograms and what is not known to be a pooled vector need --sensitive.
    """
    from ..cache import FeatureStore
    from ..cache.export import export as write
    from .items import tracks_of
    from .progress import progress
    from .sharing import check_sensitive
    from .tables import print_json

    opened = FeatureStore(store)
    found = opened[stream]
    check_sensitive([found], "export", sensitive=sensitive)
    with progress(f"export {stream}") as told:
        count = write(found, target, tracks_of(opened, found, manifest, split), told)
    if as_json:
        print_json({"target": str(target), "tracks": count})
        return
    click.echo(f"{target}: {count} tracks of {found.name}@{found.digest[:8]}")


commands_upkeep.add_to(group)
commands_remote.add_to(group)
commands_bundle.add_to(group)
group.add_command(commands_remote_names.names)
group.add_command(commands_licence.records)
commands_fetch.add_to(group)
