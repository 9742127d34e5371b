"""`concord cache bundle` and `unbundle`: a part of a store as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .commands_remote import (
    SETTINGS,
    STORE,
    WITHOUT_LICENCE,
    YES,
    ask,
    of_selection,
    selection_of,
    store_at,
)
from .options import AS_JSON, SENSITIVE

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("out", type=FILE)
@STORE
@SETTINGS
@of_selection
@click.option("--to", "recipient", default="", help="Who is given it, as a licence record says.")
@SENSITIVE
@WITHOUT_LICENCE
@YES
@AS_JSON
def bundle(
    out: Path,
    store: Path | None,
    settings: str | None,
    recipient: str,
    *,
    sensitive: bool,
    without_licence: bool,
    yes: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Make one file OUT (.tar or .zip) of a part of the store, to be handed over.

    It holds what is chosen of what data sets list, their tables of tracks, and a card for people
    (README.md): recipes, versions, coverage, licence, citation. The rules are those of `push`, with
    --to in place of a remote. Labels of one edition never go with test tracks of another.
    """
    from dataclasses import asdict

    from ..cache import FeatureStore
    from ..cache.bundle import packing, plan_bundle, write_bundle
    from ..cache.transfer_log import logged, planned
    from .card import card
    from .progress import progress
    from .sharing import Rules, licences_of
    from .tables import print_json

    what, path = f"bundle {out.name}", store_at(store, settings)
    rules = Rules(
        recipients=(recipient,) if recipient else (),
        sensitive=sensitive,
        without_licence=without_licence,
    )
    with packing(out) as folder:
        plan = plan_bundle(FeatureStore(path), folder, selection_of(chosen))
        rules.check(plan, what)
        licences = licences_of(plan, rules)
        ask(plan, what, yes=yes)
        with logged(path, "bundle", recipient or out.name, planned(plan)) as log:
            with progress(what) as told:
                moved = write_bundle(plan, folder, out, lambda s: card(s, licences), told)
            log.moved(moved)
    if as_json:
        print_json({"bundle": str(out), **asdict(moved)})
        return
    click.echo(f"{out}: {moved.items} items, {out.stat().st_size / 1e6:.1f} MB")


@click.command()
@click.argument("file", type=FILE)
@STORE
@SETTINGS
@AS_JSON
def unbundle(file: Path, store: Path | None, settings: str | None, *, as_json: bool) -> None:
    """Check a bundle FILE and take it into the store, which is made where there is none.

    Every byte is checked before anything of it reaches the store: a bundle that is damaged, or that
    holds names that lead elsewhere, links or more than it says, is refused.
    """
    from dataclasses import asdict

    from ..cache.bundle import plan_unbundle, unpacked
    from ..cache.transfer_log import logged, planned
    from .progress import progress
    from .tables import print_json

    path = store_at(store, settings)
    with unpacked(file, path) as folder:
        plan = plan_unbundle(folder, path)
        with logged(path, "unbundle", file.name, planned(plan)) as log:
            with progress(f"unbundle {file.name}") as told:
                moved = plan.carry_out(told)
            log.moved(moved)
    if as_json:
        print_json(asdict(moved))
        return
    listed = ", ".join(moved.manifests) or "none"
    click.echo(f"{path}: {moved.items} items in {moved.shards} shards; manifests: {listed}")


def add_to(group: click.Group) -> None:
    """Put these commands into a group."""
    for command in (bundle, unbundle):
        group.add_command(command)
