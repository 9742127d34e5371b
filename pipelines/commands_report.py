"""`concord report`: tables and pages of results."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("report")
def group() -> None:
    """Tables and pages of results."""


@group.command()
@click.option("--coverage", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--results", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def make(coverage: Path, results: Path, out: Path) -> None:
    """Write the report: OUT/index.html, and the same numbers as report.json and report.csv."""
    from .report import write_report

    click.echo(write_report(coverage, results, out))
