"""`concord data`: what a data set holds, and what the configuration says."""

from __future__ import annotations

import json

import click

from .options import AS_JSON, SETTINGS


@click.group("data")
def group() -> None:
    """What a data set holds, and what the configuration says."""


@group.command()
@SETTINGS
@AS_JSON
def tracks(settings: str, *, as_json: bool) -> None:
    """List the tracks of a data set and their files, from names alone."""
    from dataclasses import asdict

    from .config import load_config
    from .plan import dataset_of
    from .tables import print_json, print_table

    dataset = dataset_of(load_config(settings))
    rows = [asdict(track) for track in dataset.tracks]
    if as_json:
        print_json(rows)
        return
    columns = ("name", "split", "source", "region", "media", "labels", "faces")
    print_table(f"{dataset.name}: {len(rows)} tracks in {dataset.root}", columns, rows)


@group.command()
@SETTINGS
def config(settings: str) -> None:
    """Check a configuration and print it in full, defaults included, as JSON."""
    from dataclasses import asdict

    from .config import load_config

    click.echo(json.dumps(asdict(load_config(settings)), indent=1))


@group.command()
def schema() -> None:
    """Print the configuration's JSON schema, for editors that complete and check YAML."""
    from .schema import json_schema

    click.echo(json.dumps(json_schema(), indent=1))
