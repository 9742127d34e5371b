"""One table of one or several results files: what made each number, and how sure it is."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..cache import DataError
from .results import SCORES, spread
from .settings import WindowSettings

Row = dict[str, Any]
FIRST = (
    "head",
    "variant",
    "streams",
    "stride",
    "width",
    "encoder",
    "fold",
    "window",
    "protocol",
    "smoothing",
)
"""Columns that say what was measured; settings that differ within the table follow them."""
LAST = ("seeds", "rows")
STATISTICS = ("mean", "std", "low", "high")
"""Columns of each score: over the seeds, and the ends of its interval; empty where undefined."""
WINDOW = tuple(field.name for field in fields(WindowSettings))
TOLD = {*FIRST, *LAST, *WINDOW, "encoders"}
"""Settings that have a column in every table."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A row before it is known which settings need a column."""

    row: Row
    settings: Row

    @property
    def set(self) -> tuple[Any, ...]:
        """What experiments that differ in their fold alone have in common.

        Folds are dealt within one scheme: a mean over several schemes would mean nothing.
        """
        scheme = self.row["fold"].partition(":")[0]
        named = tuple(self.row[name] for name in (*FIRST, "seeds") if name != "fold")
        return (*named, *sorted(self.settings.items()), "six" if scheme == "official" else scheme)


def table_rows(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Give a line for each experiment, and one for each set that differs in the fold alone.

    Such a set's line has the mean and the sample standard deviation over its folds' means, and
    follows its last experiment. There is none where a fold is there twice (`six:0` is `official`).

    Args:
        results: Results files of `concord fuse train`, parsed.

    Returns:
        Lines of the same columns: `FIRST`, the settings that differ, `LAST`, and `STATISTICS` of
        each score, such as `valence_mean`. Values are text, numbers, or None.

    Raises:
        DataError: A results file lacks something.
    """
    lines = [line for number, one in enumerate(results, 1) for line in _lines(one, number)]
    own = _differing([line.settings for line in lines])
    sets: dict[tuple[Any, ...], list[_Line]] = {}
    for line in lines:
        sets.setdefault(line.set, []).append(line)
    rows: list[Row] = []
    for line in lines:
        rows.append(_row(line.row, line.settings, own))
        alike = sets[line.set]
        if line is alike[-1] and (mean := _over_folds(alike)):
            rows.append(_row(mean, line.settings, own))
    return rows


def to_csv(rows: Sequence[Row]) -> str:
    """Write rows of `table_rows` as CSV; undefined numbers are empty, others exact."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = _columns(rows)
    writer.writerow(columns)
    writer.writerows([row[column] for column in columns] for row in rows)
    return text.getvalue()


def to_json(rows: Sequence[Row]) -> str:
    """Write rows of `table_rows` as JSON; undefined numbers are null."""
    return json.dumps(list(rows), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_markdown(rows: Sequence[Row]) -> str:
    """Write rows of `table_rows` as a table for people, a score as `0.512 ± 0.010 [0.47, 0.55]`."""
    scores = {f"{score}_{part}" for score in SCORES for part in STATISTICS}
    plain = [column for column in _columns(rows) if column not in scores]
    lines = [[*plain, *SCORES], ["---"] * (len(plain) + len(SCORES))]
    for row in rows:
        cells = ["" if row[column] is None else str(row[column]) for column in plain]
        lines.append([_escaped(cell) for cell in cells] + [_score(row, score) for score in SCORES])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(rows[0]) if rows else list(_row({}, {}, []))


def _row(row: Row, settings: Row, own: Sequence[str]) -> Row:
    """Put the columns in their order."""
    scores = [f"{score}_{part}" for score in SCORES for part in STATISTICS]
    first = {name: row.get(name) for name in FIRST}
    last = {name: row.get(name) for name in (*LAST, *scores)}
    return {**first, **{name: settings.get(name) for name in own}, **last}


def _lines(results: Mapping[str, Any], number: int) -> Iterator[_Line]:
    place = f"results {number}"
    protocol = _taken(results, "protocol", place)
    edition = {name: _taken(results, name, place) for name in ("dataset", "edition")}
    for at, experiment in enumerate(_taken(results, "experiments", place)):
        where = f"{place}, experiments[{at}]"
        row = {name: _taken(experiment, name, where) for name in ("head", "variant", "width")}
        row |= {name: _taken(experiment, name, where) for name in ("encoder", "fold", "rows")}
        row |= {
            "streams": " + ".join(_taken(experiment, "streams", where)),
            "stride": " + ".join(map(str, _taken(experiment, "strides", where))),
            "window": _window(_taken(experiment, "window", where)),
            "protocol": _taken(protocol, "name", f"{place}, protocol"),
            "smoothing": _taken(protocol, "smoothing", f"{place}, protocol"),
            "seeds": _plain(_taken(experiment, "seeds", where)),
        }
        for score in SCORES:
            row |= _statistics(experiment, score, where)
        yield _Line(row, {**edition, **_settings(_taken(experiment, "settings", where))})


def _taken(record: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in record:
        raise DataError(
            f"{where}: expected {key!r}, found {', '.join(record) or 'nothing'}; "
            "write the file again with `concord fuse train`"
        )
    return record[key]


def _statistics(experiment: Mapping[str, Any], score: str, where: str) -> Row:
    found = _taken(_taken(experiment, "scores", where), score, f"{where}.scores")
    interval = _taken(_taken(experiment, "intervals", where), score, f"{where}.intervals")
    numbers = (_taken(found, "mean", where), found.get("std"), *(interval or (None, None)))
    return _named(score, numbers)


def _named(score: str, numbers: Sequence[float | None]) -> Row:
    finite = [x if x is None or math.isfinite(x) else None for x in numbers]
    return {f"{score}_{part}": x for part, x in zip(STATISTICS, finite, strict=True)}


def _settings(settings: Mapping[str, Any]) -> Row:
    """Give the settings without a column of their own, by name, however they are nested."""
    flat: Row = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _settings(value)
        elif name not in TOLD:
            flat[name] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    """Give lists as text, separated by spaces."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _window(window: Mapping[str, Any]) -> str:
    """Describe a window of resolved settings on a line."""
    preset = str(window["preset"])
    if preset == "whole":
        return preset
    shown = {name: window[name] for name in WINDOW if name != "preset"}
    return ", ".join([preset, *(f"{name} {value}" for name, value in shown.items())])


def _differing(settings: Sequence[Row]) -> list[str]:
    """Name settings that are not the same in all experiments, in the order met."""
    names = dict.fromkeys(name for one in settings for name in one)
    first = settings[0] if settings else {}
    return [n for n in names if any(s.get(n) != first.get(n) for s in settings)]


def _over_folds(lines: Sequence[_Line]) -> Row | None:
    """Give the line of experiments that differ in their fold alone; None where there is none."""
    folds = [line.row["fold"] for line in lines]
    # The first of six folds is the official split.
    if len(set(folds)) < max(2, len(folds)) or {"official", "six:0"} <= set(folds):
        return None
    row = {**lines[0].row, "fold": f"mean of {', '.join(folds)}"}
    row["rows"] = sum(line.row["rows"] for line in lines)
    for score in SCORES:
        over = spread([line.row[f"{score}_mean"] for line in lines])
        row |= _named(score, (over["mean"], over["std"], None, None))
    return row


def _score(row: Row, score: str) -> str:
    mean, std, low, high = (row[f"{score}_{part}"] for part in STATISTICS)
    if mean is None:
        return "undefined"
    deviation = "" if std is None else f" ± {std:.3f}"
    interval = "" if low is None or high is None else f" [{low:z.2f}, {high:z.2f}]"
    return f"{mean:z.3f}{deviation}{interval}"


def _escaped(text: str) -> str:
    """Keep a cell in its column and on its line."""
    return " ".join(text.split()).replace("|", r"\|")
