"""The commands of `concord fuse` that score finished runs, and how scores are printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .options import AS_JSON, PROTOCOL, SMOOTHING, of_grid, of_tables


def add_to(group: click.Group) -> None:
    """Add these commands to a group."""
    for command in (evaluate, compare):
        group.add_command(command)


@click.command()
@of_grid
@of_tables
@PROTOCOL
@SMOOTHING
@click.option("--tracks", is_flag=True, help="Show every track of every experiment.")
@AS_JSON
def evaluate(
    results: Path | None,
    table: Path | None,
    markdown: Path | None,
    *,
    tracks: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Score the finished runs of a configuration by a named protocol.

    Shows mean and spread over the seeds, and 95 % intervals over families of tracks.
    """
    from ..fuse.scores import Scores
    from .grids import opened_grid

    scores = Scores(opened_grid(**where))
    outcome = scores.results()
    shown = scores.diagnostics() if tracks else []
    write_scores(outcome, results, table, markdown)
    if as_json:
        click.echo(json.dumps({**outcome, "tracks": shown}, indent=1, allow_nan=False))
        return
    print_scores(outcome)
    if tracks:
        _print_tracks(shown)


@click.command()
@click.argument("first")
@click.argument("second")
@of_grid
@PROTOCOL
@SMOOTHING
@AS_JSON
def compare(first: str, second: str, *, as_json: bool, **where: Any) -> None:
    """Compare two experiments, FIRST less SECOND, named as the table names them.

    Predictions are averaged over the seeds; families of tracks are resampled in pairs.
    """
    from ..fuse.scores import Scores
    from .grids import opened_grid
    from .tables import print_table

    found = Scores(opened_grid(**where)).compare(first, second)
    if as_json:
        click.echo(json.dumps(found, indent=1, allow_nan=False))
        return
    rows = [
        {
            "measure": measure,
            first: _number(found["first"][measure]),
            second: _number(found["second"][measure]),
            "difference": _number(found["difference"][measure]),
            "95 % interval": _interval(found["intervals"][measure]),
            "not above": _share(found["not_positive"][measure]),
        }
        for measure in ("valence", "arousal", "score")
    ]
    title = f"paired bootstrap over {found['families']} families, {_told(found['protocol'])}"
    print_table(title, tuple(rows[0]), rows)


def write_scores(
    outcome: dict[str, Any], results: Path | None, table: Path | None, markdown: Path | None
) -> None:
    """Write results as JSON and as tables, where a path is given."""
    from ..cache.atomic import atomic_write, write_json
    from ..fuse.table import table_rows, to_csv, to_markdown

    if results:
        write_json(results, outcome)
    rows = table_rows([outcome]) if table or markdown else []
    for path, form in ((table, to_csv), (markdown, to_markdown)):
        if path:
            atomic_write(path, form(rows).encode())


def print_scores(found: dict[str, Any]) -> None:
    """Print a line for each experiment, and the tracks that were filled as a whole."""
    from .tables import print_table

    columns = ("experiment", "fold", "valence", "arousal", "score", "seeds", "rows")
    rows = [
        {
            "experiment": e["name"],
            "fold": e["fold"],
            **{name: _mean(e, name) for name in ("valence", "arousal", "score")},
            "seeds": len(e["seeds"]),
            "rows": f"{e['rows']:,}",
        }
        for e in found["experiments"]
    ]
    title = f"CCC on the validation tracks, {_told(found['protocol'])}: mean ± spread over seeds"
    print_table(f"{title} [95 % interval over families]", columns, rows)
    for text, key in (("no value in any row", "without_value"), ("quarantine", "in_quarantine")):
        tracks = sorted({track for e in found["experiments"] for track in e[key]})
        if tracks:
            click.echo(f"{len(tracks)} tracks with {text}: {', '.join(tracks)}")


def _print_tracks(shown: list[dict[str, Any]]) -> None:
    from .tables import print_table

    columns = ("track", "rows", "scored", "filled", "valence", "arousal", "absent")
    for each in shown:
        rows = [
            {
                **row,
                "valence": _number(row["valence"]),
                "arousal": _number(row["arousal"]),
                "absent": ", ".join(row["absent"]),
            }
            for row in each["tracks"]
        ]
        print_table(f"{each['name']}, seed {each['seed']}, track by track", columns, rows)


def _told(protocol: dict[str, Any]) -> str:
    return f"protocol {protocol['name']}, smoothing {protocol['smoothing']}"


def _mean(experiment: dict[str, Any], name: str) -> str:
    spread = experiment["scores"][name]
    if spread["mean"] is None:
        return "undefined"
    std = "" if spread["std"] is None else f" ± {spread['std']:.3f}"
    interval = experiment["intervals"][name]
    return f"{spread['mean']:.3f}{std}{'' if interval is None else f' {_interval(interval)}'}"


def _interval(interval: list[float] | None) -> str:
    return "undefined" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1%}"
