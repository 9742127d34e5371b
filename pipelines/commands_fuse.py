"""`concord fuse`: stage two; see also `commands_scores.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from . import commands_scores, commands_submit
from .options import AS_JSON, DEVICE, THREADS, of_grid, of_tables


@click.group("fuse")
def group() -> None:
    """Stage two: train fusion heads on stored rows."""


@group.command()
@AS_JSON
def heads(*, as_json: bool) -> None:
    """List the fusion heads: those of the papers, of their programs, and of installed packages."""
    from ..fuse.catalogue import HEADS, head_names
    from .tables import print_table

    columns = ("head", "variant", "paper", "length", "causal", "modalities", "settings")
    rows = [
        {"head": name, **{column: getattr(info, column) for column in columns[1:]}}
        for name, info in HEADS.items()
    ]
    own = dict.fromkeys(columns, "") | {"variant": "own"}
    rows += [{**own, "head": name} for name in head_names() if name not in HEADS]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    shown = [{**row, "takes": _takes(row), "settings": ", ".join(row["settings"])} for row in rows]
    print_table("fusion heads", ("head", "paper", "takes", "settings"), shown, whole=("head",))


def _takes(row: dict[str, Any]) -> str:
    causal = {"yes": ", causal", "optional": ", causal on request"}.get(row["causal"], "")
    length = {"any": "any length", "fixed": "one length"}.get(row["length"], "")
    return f"{length}{causal}; {row['modalities']}" if length else ""


@group.command()
@of_grid
@of_tables
@click.option("--batch", default="0/1", help="i/n: only the i-th of n batches of runs, from 0.")
@click.option("--receipt", type=click.Path(path_type=Path), help="Where to list the batch's runs.")
@DEVICE
@THREADS
def train(
    results: Path | None,
    table: Path | None,
    markdown: Path | None,
    batch: str,
    receipt: Path | None,
    device: str,
    threads: int,
    **where: Any,
) -> None:
    """Train every experiment of the configuration with every seed, in one process.

    Finished runs are kept and not trained again; one that was broken off is continued. Then all
    experiments are scored, unless --batch leaves some of them to others.
    """
    from ..cache import ConfigError
    from ..cache.atomic import write_json
    from ..fuse.scores import Scores
    from .device import held_device, keep_memory, set_up_torch
    from .grids import opened_grid, portion
    from .progress import note, progress

    part = portion(batch)
    if part[1] > 1 and (results or table or markdown):
        raise ConfigError(
            f"--batch {batch} trains a part of the runs: expected no --results, --csv or "
            "--markdown; run again without --batch when all batches are done"
        )
    set_up_torch(threads)
    keep_memory()
    with held_device(device) as held, progress("fuse") as told:
        grid = opened_grid(**where, device=held)
        digests = grid.train(told, note, part)
        outcome = Scores(grid).results() if part[1] == 1 else None
    if receipt:
        write_json(receipt, {"batch": batch, "runs": digests})
    if outcome:
        commands_scores.write_scores(outcome, results, table, markdown)
        commands_scores.print_scores(outcome)


@group.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="`name` or `name@edition` of a data set in the store.")
@click.option("--store", help="Folder or URL of the store; default `store` beside `runs`.")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), help="Only these tracks; default all."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write; default `predictions` beside `runs`.",
)
@click.option("--this-seed-only", "alone", is_flag=True, help="Leave the other seeds out.")
@DEVICE
@THREADS
def predict(runs: tuple[Path, ...], device: str, threads: int, **how: Any) -> None:
    """Predict the tracks of a data set by a finished run, RUN, and the other seeds beside it.

    Writes a table for each track, `<track>.csv`, and `index.html`, which shows them. The data set
    needs no labels; its streams must be there under the recipes that the run was trained on.
    """
    from .device import held_device, set_up_torch
    from .predicting import predicted

    set_up_torch(threads)
    with held_device(device) as held:
        click.echo(predicted(runs, **how, device=held))


@group.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@AS_JSON
def table(files: tuple[Path, ...], *, as_csv: bool, as_json: bool) -> None:
    """Join results FILES of `concord fuse train` into one table: Markdown, CSV or JSON."""
    from ..fuse.table import table_rows, to_csv, to_json, to_markdown

    rows = table_rows([json.loads(path.read_bytes()) for path in files])
    text = to_csv(rows) if as_csv else to_json(rows) if as_json else to_markdown(rows)
    click.echo(text, nl=False)


commands_scores.add_to(group)
group.add_command(commands_submit.submit)
