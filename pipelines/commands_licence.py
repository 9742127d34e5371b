"""`concord cache licence`: a project's records of what its data sets' agreements allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import AS_JSON


@click.group("licence")
def records() -> None:
    """Records of your data sets' licences, kept in `concord.licences.json` in the current folder.

    `push` and `bundle` send features of a data set only to those whom a record of it names. Read
    the agreement that you signed: concord cannot know what it says.
    """


@records.command("add")
@click.argument("dataset")
@click.option("--signed-by", required=True, help="Who signed the agreement.")
@click.option(
    "--covers",
    required=True,
    multiple=True,
    metavar="REMOTE",
    help="Name or URL of a remote, or name of who is given bundles; may repeat; `*` is everyone.",
)
@click.option("--expires", default="", metavar="DATE", help="Last day: 2027-12-31; default none.")
@click.option("--edition", default="", help="Edition, such as ABAW6; default every one.")
@click.option("--note", default="", help="What those who receive features must know.")
@click.option("--citation", default="", help="What they must cite.")
def add(**record: Any) -> None:
    """Record a licence of DATASET; replaces one of the same data set, edition and signer."""
    from ..cache.licences import Licence, add_licence

    add_licence(Path(), Licence(**record))
    click.echo(f"{record['dataset']}: covers {', '.join(record['covers'])}")


@records.command("ls")
@AS_JSON
def list_records(*, as_json: bool) -> None:
    """List the records."""
    from dataclasses import asdict

    from ..cache.licences import licences
    from .tables import print_json, print_table

    rows = [asdict(each) for each in licences(Path())]
    if as_json:
        print_json(rows)
        return
    columns = ("dataset", "edition", "signed_by", "covers", "expires", "note")
    print_table("licences", columns, [{**row, "covers": ", ".join(row["covers"])} for row in rows])


@records.command("rm")
@click.argument("dataset")
def remove(dataset: str) -> None:
    """Forget all records of DATASET."""
    from ..cache.licences import remove_licence

    for licence in remove_licence(Path(), dataset):
        click.echo(f"{licence.dataset}: forgot the one signed by {licence.signed_by}")
