"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

SETTINGS = click.option(
    "--config", "settings", required=True, help="Configuration file, or JSON text."
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
