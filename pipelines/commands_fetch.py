"""`concord cache fetch`: what a project's fall-back stores hold is brought, not computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import AS_JSON, SETTINGS, STORE

if TYPE_CHECKING:
    from .fetching import Fetched


@click.command()
@SETTINGS
@STORE
@click.option("--receipt", type=click.Path(path_type=Path), help="Where to leave the receipt.")
@click.option(
    "--summary", type=click.Path(path_type=Path), help="Where to write what came from where."
)
@click.option("--round", "round_", default=0, help="Number that the summary repeats.")
@AS_JSON
def fetch(
    settings: str,
    store: Path | None,
    receipt: Path | None,
    summary: Path | None,
    round_: int,
    *,
    as_json: bool,
) -> None:
    """Bring the rows that a configuration's `stores` list, and say what must be computed.

    Each track's rows come from the first store of the list that has them under the configured
    recipe; no media are needed. The workflow runs this by itself. Exit code 10 where a store does
    not answer and rows are missing, unless the configuration says `unreachable: compute`.

    concord cache fetch --config my.yaml
    """
    from dataclasses import replace

    from ..cache.atomic import write_json
    from ..extract.receipt import Receipt
    from .config import load_config
    from .fetching import fetch as bring
    from .progress import progress
    from .tables import print_json

    config = load_config(settings)
    config = replace(config, store=str(store)) if store else config
    with progress("fetch") as told:
        fetched = bring(config, told)
    if receipt:
        (fetched.receipt or Receipt(dataset=config.data_name, part="fetched")).save(receipt)
    if summary:
        write_json(summary, {**fetched.record(), "round": round_})
    if as_json:
        print_json(fetched.record())
        return
    _print(fetched, config.data_name)


def _print(fetched: Fetched, dataset: str) -> None:
    click.echo(fetched.edition or f"{dataset}: in no store that answers")
    for stream, stores in fetched.streams.items():
        found = ", ".join(f"{count} tracks from {store}" for store, count in stores.items())
        click.echo(f"  {stream}: {found or 'nothing'}")
    if fetched.removed:
        click.echo(f"{fetched.removed / 1e6:.1f} MB removed, used least recently (cache_limit)")
    click.echo(f"to be computed here: {', '.join(fetched.compute) or 'nothing'}")


def add_to(group: click.Group) -> None:
    """Put this command into a group."""
    group.add_command(fetch)
