"""`concord demo`: a generated data set."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("demo")
def group() -> None:
    """A generated data set to try everything on: real video and sound, nothing downloaded."""


@group.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--profile",
    type=click.Choice(["demo", "tiny", "standin"]),
    default="demo",
    show_default=True,
    help="Which demo.",
)
@click.option("--seed", default=0, show_default=True, help="Random numbers that make it.")
def make(folder: Path, profile: str, seed: int) -> None:
    """Write a demo data set into FOLDER, in Aff-Wild2's layout.

    The same profile and seed give the same files. The profile standin has everything that is odd
    in Aff-Wild2, and beside it the right answers: counts, folds and scores in expected.json.
    """
    from .demo import make_demo
    from .progress import progress
    from .standin import make_standin
    from .standin_plan import PROFILE

    with progress(f"demo {profile}") as update:
        if profile == PROFILE:
            dataset = make_standin(folder, seed, update)
        else:
            dataset = make_demo(folder, profile, seed, update)
    click.echo(f"{len(dataset.tracks)} tracks of {len(dataset.sources)} sources in {folder}")
