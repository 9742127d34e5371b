"""The report: coverage and results as a self-contained page, with its numbers as JSON and CSV."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cache.atomic import atomic_write
from .report_page import render_page
from .report_published import references
from .report_reading import mismatch, read
from .report_results import KINDS, interval_of, score_of
from .report_schema import Coverage, Experiment, Map, Results

STATISTICS = ("mean", "std", "low", "high")
COUNTS = ("without_value", "in_quarantine")
COLUMNS = (
    *("experiment", "head", "variant", "streams", "strides", "width", "encoder", "fold"),
    *("protocol", "smoothing", "rows", "filled", *COUNTS, "seeds"),
    *(f"{kind}_{part}" for kind in KINDS for part in STATISTICS),
    "parameters",
)
"""Columns of `report.csv`, and keys of every experiment in `report.json`. Tracks without a value
and in quarantine are counted; `low` and `high` are the ends of the 95 % interval."""


def write_report(coverage: Path, results: Path, out: Path) -> Path:
    """Write `report.json`, `report.csv` and `index.html`, each atomically; give the page's path.

    The files depend on the two inputs alone: no dates, no durations.

    Raises:
        DataError: An input is missing, malformed, of another version, or does not fit the other.
    """
    covered, measured = read(coverage, Coverage), read(results, Results)
    _check_series(measured, results)
    for key in ("dataset", "edition"):
        if covered[key] != measured[key]:
            raise mismatch(results, key, f"{covered[key]!r} as in {coverage}", measured[key])
    records = [_record(experiment, measured) for experiment in measured["experiments"]]
    for record, found in zip(records, references(covered, measured).values(), strict=False):
        record["published"] = [each.plain() for each in found]
    top = {key: measured[key] for key in ("version", "dataset", "edition", "protocol")}
    _write(out / "report.json", json.dumps({**top, "experiments": records}, indent=2) + "\n")
    _write(out / "report.csv", _csv(records))
    _write(out / "index.html", render_page(covered, measured))
    return out / "index.html"


def _check_series(results: Results, path: Path) -> None:
    """Refuse repeated names, unknown names, and series of unequal length."""
    names: set[str] = set()
    for i, experiment in enumerate(results["experiments"]):
        where = f"experiments[{i}]"
        if experiment["name"] in names:
            raise mismatch(path, f"{where}.name", "a name used once", experiment["name"])
        names.add(experiment["name"])
        for kind, score in score_of(experiment).items():
            values = {"values": score["values"]}
            _check_lengths(values, experiment["seeds"], path, f"{where}.scores.{kind}")
        _check_lengths(experiment["intervals"], ["low", "high"], path, f"{where}.intervals")
        for j, run in enumerate(experiment["runs"]):
            _check_lengths(run["curve"], run["curve"]["epoch"], path, f"{where}.runs[{j}].curve")
    for i, trace in enumerate(results["traces"]):
        _check_lengths(trace["labels"], trace["times"], path, f"traces[{i}].labels")
        for name, prediction in trace["predictions"].items():
            key = f"traces[{i}].predictions.{name}"
            if name not in names:
                raise mismatch(path, key, "the name of an experiment", name)
            _check_lengths(prediction, trace["times"], path, key)
    for i, maps in enumerate(results.get("maps", [])):
        if maps["experiment"] not in names:
            key = f"maps[{i}].experiment"
            raise mismatch(path, key, "the name of an experiment", maps["experiment"])
        for j, window in enumerate(maps["windows"]):
            for name, one in window["maps"].items():
                _check_map(one, path, f"maps[{i}].windows[{j}].maps.{name}")


def _check_map(one: Map, path: Path, key: str) -> None:
    """Refuse a map whose bytes are not those of its size."""
    try:
        found = len(base64.b64decode(one["cells"], validate=True))
    except ValueError:
        found = -1
    if len(one["size"]) != 2 or len(one["shape"]) != 2 or found != math.prod(one["size"]):
        raise mismatch(path, f"{key}.cells", f"Base64 of {one['size']} bytes", f"{found} bytes")


def _check_lengths(series: Mapping[str, Any], like: list[Any], path: Path, key: str) -> None:
    for name, values in series.items():
        if isinstance(values, list) and len(values) != len(like):
            raise mismatch(path, f"{key}.{name}", f"{len(like)} values", f"{len(values)} values")


def _record(experiment: Experiment, results: Results) -> dict[str, Any]:
    """Flatten one experiment to the line that JSON and CSV share."""
    flat: dict[str, Any] = {**experiment, "experiment": experiment["name"]}
    flat |= {"protocol": results["protocol"]["name"], "smoothing": results["protocol"]["smoothing"]}
    flat |= {name: len(flat[name]) for name in COUNTS}
    for kind, score in score_of(experiment).items():
        low, high = interval_of(experiment)[kind] or (None, None)
        parts = (score["mean"], score.get("std"), low, high)
        flat |= {f"{kind}_{part}": x for part, x in zip(STATISTICS, parts, strict=True)}
    return {column: flat[column] for column in COLUMNS}


def _csv(records: list[dict[str, Any]]) -> str:
    """Write the lines; lists are separated by spaces, undefined numbers are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        cells = (record[column] for column in COLUMNS)
        writer.writerow(" ".join(map(str, c)) if isinstance(c, list) else c for c in cells)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """Publish one file; what UTF-8 cannot carry is written as an escape."""
    atomic_write(path, text.encode("utf-8", errors="backslashreplace"))
