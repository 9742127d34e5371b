"""`concord cache remote`: names of remotes."""

from __future__ import annotations

from pathlib import Path

import click

from .options import AS_JSON


@click.group("remote")
def names() -> None:
    """Names of remotes, kept in `concord.remotes.json` in the current folder.

    A remote is a URL that fsspec can open (`s3://bucket/store`, `https://host/store`), or a folder
    that others mount. Credentials come from the environment or the cloud's own configuration; a URL
    with a password is refused.
    """


@names.command("add")
@click.argument("name")
@click.argument("url")
def add(name: str, url: str) -> None:
    """Call URL, or a folder, NAME."""
    from ..cache.remote_names import add_remote

    add_remote(Path(), name, url)
    click.echo(f"{name}: {url}")


@names.command("ls")
@AS_JSON
def list_names(*, as_json: bool) -> None:
    """List the names."""
    from ..cache.remote_names import remotes
    from .tables import print_json, print_table

    rows = [{"name": name, "url": url} for name, url in remotes(Path()).items()]
    if as_json:
        print_json(rows)
        return
    print_table("remotes", ("name", "url"), rows, whole=("url",))


@names.command("rm")
@click.argument("name")
def remove(name: str) -> None:
    """Forget NAME; what is at its URL stays."""
    from ..cache.remote_names import remove_remote

    remove_remote(Path(), name)
    click.echo(f"{name}: forgotten")
