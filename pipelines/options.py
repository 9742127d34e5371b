"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound="Callable[..., Any] | click.Command")

SETTINGS = click.option(
    "--config", "settings", required=True, help="Configuration file, or JSON text."
)
EITHER = click.option("--config", "settings", help="Configuration file, or JSON text.")
DATA = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder in Aff-Wild2's layout, or table of tracks (CSV), instead of a configuration.",
)
STORE = click.option(
    "--store", type=click.Path(path_type=Path), help="Store; default the configuration's."
)
DEVICE = click.option(
    "--device",
    default="auto",
    show_default=True,
    envvar="CONCORD_DEVICE",
    help="auto, cpu or cuda:N; also $CONCORD_DEVICE.",
)
BUDGET = click.option(
    "--budget", default=0.25, show_default=True, help="Share of sources that may fail."
)
THREADS = click.option(
    "--threads", default=0, help="Threads on the processor; 0 is torch's choice."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Give JSON on standard output.")
SENSITIVE = click.option(
    "--sensitive",
    is_flag=True,
    help="Also streams that show people: labels, words, spectrograms, and what is not known.",
)
DATASET = click.option(
    "--dataset", help="`name` or `name@edition`; default the configuration's name."
)
COVERAGE = click.option(
    "--coverage",
    type=click.Path(exists=True, path_type=Path),
    help="Take edition and recipes from here; default the configuration's, where it is.",
)
RUNS = click.option("--runs", type=click.Path(path_type=Path), help="Where finished runs are kept.")
RESULTS = click.option(
    "--results", type=click.Path(path_type=Path), help="Where to write all results, as JSON."
)
CSV = click.option(
    "--csv", "table", type=click.Path(path_type=Path), help="Where to write the table, as CSV."
)
MARKDOWN = click.option(
    "--markdown", type=click.Path(path_type=Path), help="Where to write the table, as Markdown."
)
PROTOCOL = click.option(
    "--protocol", help="official, faces_only, livia or sucv; else the configuration's."
)
SMOOTHING = click.option("--smoothing", help="none, box:N or box:N,M; else the configuration's.")


def of_grid(command: Command) -> Command:
    """Add what `opened_grid` is told: which experiments, over which rows, and where runs are."""
    for option in (RUNS, COVERAGE, DATASET, STORE, SETTINGS):
        command = option(command)
    return command


def of_tables(command: Command) -> Command:
    """Add where results are written."""
    for option in (MARKDOWN, CSV, RESULTS):
        command = option(command)
    return command
