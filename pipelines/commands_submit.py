"""Predictions for a challenge: `concord fuse submit`, `concord data check-submission`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .options import AS_JSON, DEVICE, THREADS

SHOWN = 20
"""Faults that are printed; all of them with --json."""
TEMPLATE = click.option(
    "--template",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The challenge's template, or its list of test tracks.",
)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="`name` or `name@edition` of a data set in the store.")
@TEMPLATE
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File or folder.")
@click.option(
    "--style",
    type=click.Choice(["file", "folder"]),
    default="file",
    show_default=True,
    help="One file with a line per image (ABAW5 and later), or a folder with a file per track.",
)
@click.option(
    "--smoothing",
    default="none",
    show_default=True,
    help="none, box:N or box:N,M: a moving average over N rows, and M of arousal.",
)
@click.option("--store", help="Folder or URL of the store; default `store` beside `runs`.")
@click.option("--this-seed-only", "alone", is_flag=True, help="Leave the other seeds out.")
@DEVICE
@THREADS
def submit(runs: tuple[Path, ...], device: str, threads: int, **how: Any) -> None:
    """Predict a challenge's test tracks by a finished run, RUN, and the seeds beside it.

    Writes the mean over seeds in the template's order, every row of it, clipped to [-1, 1], and
    checks what was written.
    """
    from .device import held_device, set_up_torch
    from .submitting import submitted

    set_up_torch(threads)
    with held_device(device) as held:
        done = submitted(runs, **how, device=held)
    for track in done.empty:
        click.echo(f"no value in any stream, so 0 throughout: {track}", err=True)
    click.echo(
        f"{how['out']}: {done.rows} rows of {done.tracks} tracks, {done.filled} filled, "
        f"mean of {done.seeds} {'seed' if done.seeds == 1 else 'seeds'}"
    )


@click.command("check-submission")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@TEMPLATE
@AS_JSON
def check(path: Path, template: Path, *, as_json: bool) -> None:
    """Check a submission at PATH, a file or a folder, against its template.

    Ends with exit code 4 where it has a fault; each is told with its line and its reason.
    """
    from ..cache.errors import DataError
    from .submission_check import check_submission
    from .submitting import expected_of, told
    from .tables import print_json

    expected = expected_of(template)
    faults = check_submission(path, expected)
    if as_json:
        print_json([asdict(fault) for fault in faults])
    else:
        for fault in faults[:SHOWN]:
            click.echo(told(fault))
        if len(faults) > SHOWN:
            click.echo(f"… and {len(faults) - SHOWN} more")
    if faults:
        raise DataError(
            f"{path}: {len(faults)} faults; mend them, or write it anew by `concord fuse submit`"
        )
    if not as_json:
        rows = sum(count for _, count in expected)
        click.echo(f"{path}: sound, {rows} rows of {len(expected)} tracks")
