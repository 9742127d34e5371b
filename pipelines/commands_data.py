"""`concord data`: what a data set holds, and what the configuration says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..cache.errors import UnfitDataError
from . import commands_submit
from .options import AS_JSON, DATA, EITHER, SETTINGS

SHOWN = 8
"""Names that a finding shows; JSON has all of them."""


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
    from .datasets import dataset_of
    from .tables import print_json, print_table

    dataset = dataset_of(load_config(settings))
    rows = [asdict(track) for track in dataset.tracks]
    if as_json:
        print_json(rows)
        return
    columns = ("name", "split", "source", "region", "media", "labels", "faces")
    print_table(f"{dataset.name}: {len(rows)} tracks in {dataset.root}", columns, rows)


@group.command()
@EITHER
@DATA
@click.option("--no-media", is_flag=True, help="Do not open media files.")
@AS_JSON
def check(settings: str | None, data: Path | None, *, no_media: bool, as_json: bool) -> None:
    """Look at everything that a data set has, and change nothing.

    Reads all labels, counts face crops and opens media files; says what is there, what is missing
    and what is odd, and with --config also what the configured streams will lack. Ends with exit
    code 11 where something prevents a run; warnings do not fail.

    concord data check --data Aff-Wild2
    """
    from .checking import checked
    from .config import load_config, parse_config
    from .datasets import data_settings
    from .tables import print_json

    if (settings is None) == (data is None):
        raise click.UsageError("give either --config or --data")
    config = parse_config({"data": data_settings(data)}) if data else load_config(str(settings))
    found = checked(config, media=not no_media)
    if as_json:
        print_json(found)
    else:
        _print_check(found)
    errors = sum(finding["level"] == "error" for finding in found["findings"])
    if errors:
        raise UnfitDataError(f"{found['root']}: {errors} findings prevent a run; they are above")


def _print_check(found: dict[str, Any]) -> None:
    from .tables import print_table

    columns = ("split", "tracks", "sources", "rows", "labelled", "faceless")
    more = ("without_faces", "without_media")
    title = f"{found['dataset']}: release {found['release']}, edition {found['edition']}"
    rows = [
        {
            "split": split,
            **{name.replace("_", " "): f"{count:,}" for name, count in counts.items()},
        }
        for split, counts in found["splits"].items()
    ]
    print_table(title, (*columns, *(name.replace("_", " ") for name in more)), rows)
    if not found["findings"]:
        click.echo("nothing is missing and nothing is odd")
        return
    told = [
        {"": each["level"], "finding": each["text"], "about": _about(each["names"])}
        for each in found["findings"]
    ]
    print_table("", ("", "finding", "about"), told, whole=("",))


def _about(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)}: {', '.join(names[:SHOWN])}{more}" if names else ""


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


group.add_command(commands_submit.check)
