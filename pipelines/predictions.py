"""The folder of a prediction: a table for each track, and one page that shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from ..cache import DataError
from ..cache.atomic import atomic_write
from .report_style import (
    Children,
    Markup,
    count,
    node,
    note,
    number,
    page_head,
    plural,
    stream_name,
    table,
)
from .report_traces import trace_panels

if TYPE_CHECKING:
    from ..fuse.finished import Finished
    from ..fuse.prediction import TrackPrediction
    from .report_schema import Trace

DRAWN = 50
"""Tracks on the page at most; the tables have all of them."""
LONGEST = 255
"""Bytes of a file's name at most."""
UNSAFE = re.compile(r"^\.|[\x00-\x1f\x7f/\\%]")
"""What a file's name is not to hold: separators, a first dot, and `%`, which writes these."""
HEADS = ("Track", "Split", "Rows", "Filled", "Labelled", "Valence", "Arousal", "Spread", "Table")
TABLE_NOTE = (
    "Filled rows have no value in any stream and take the prediction of the nearest row that has "
    "one, as in protocol official; a track without any value is 0. Valence and arousal: means over "
    "the track's rows. Spread: mean over rows of the sample standard deviation over seeds."
)


def file_name(track: str) -> str:
    """Name a track's table; no two tracks share one, and none leaves its folder.

    Raises:
        DataError: The track's name is longer than a file's can be.
    """
    name = UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", track) + ".csv"
    if len(name.encode()) > LONGEST:
        raise DataError(
            f"track {track[:40]!r}…: expected a name of at most {LONGEST - 4} bytes, found "
            f"{len(track.encode())}; rename the track to write a file for it"
        )
    return name


def write_predictions(
    folder: Path, title: str, runs: Sequence[Finished], tracks: Sequence[TrackPrediction]
) -> Path:
    """Write a table for each track and `index.html`, each atomically; give the page's path.

    Args:
        folder: Where; tables of the same tracks are replaced.
        title: Data set and edition.
        runs: Those that predicted.
        tracks: What they predicted.

    Raises:
        DataError: A track's name is longer than a file's can be; nothing is written.
    """
    names = [file_name(track.track) for track in tracks]
    for name, track in zip(names, tracks, strict=True):
        atomic_write(folder / name, track.table().encode())
    page = render_predictions(title, runs, dict(zip(names, tracks, strict=True)))
    atomic_write(folder / "index.html", page.encode("utf-8", errors="backslashreplace"))
    return folder / "index.html"


def render_predictions(
    title: str, runs: Sequence[Finished], tracks: Mapping[str, TrackPrediction]
) -> str:
    """Write the page.

    Args:
        title: Data set and edition.
        runs: Those that predicted.
        tracks: Name of a table to its track.
    """
    name = _name(runs[0])
    drawn = [cast("Trace", each.trace(name)) for each in list(tracks.values())[:DRAWN]]
    rest = len(tracks) - len(drawn)
    more = note(f"These are the first {len(drawn)} tracks; {rest} more have a table below.")
    panels = trace_panels(drawn, [name], {name}), more if rest else ()
    parts = [
        node("section", node("h2", "Predictions over time"), panels),
        node("section", node("h2", "Tracks"), _tracks(tracks), note(TABLE_NOTE)),
    ]
    body = node("body", _header(title, name, runs), node("main", parts))
    head = page_head(f"{title}: predictions of {name}", 1)
    return f"<!DOCTYPE html>\n{node('html', head, body, lang='en')}\n"


def _name(run: Finished) -> str:
    experiment = run.experiment()
    modalities = "+".join(stream.partition("/")[0] for stream in experiment.streams)
    return f"{experiment.head} / {modalities}"


def _header(title: str, name: str, runs: Sequence[Finished]) -> Markup:
    """Say what was predicted, by which runs."""
    identity, experiment = runs[0].identity(), runs[0].experiment()
    streams: list[Children] = []
    for full in identity["streams"]:
        base, _, digest = full.partition("@")
        streams += [", " if streams else "", *stream_name(f"{base}@{digest[:8]}")]
    seeds = ", ".join(str(run.record["seed"]) for run in runs)
    folders = ", ".join(run.path.name for run in runs)
    trained = f"{identity['manifest']}, fold {experiment.fold}"
    facts = f"trained on {trained}; {plural(len(runs), 'seed')}: {seeds}; runs {folders}."
    return node(
        "header",
        node("h1", title),
        node("p", "Predictions of ", node("strong", name), class_="best-line"),
        node("p", "Streams ", streams, "; ", facts),
    )


def _tracks(tracks: Mapping[str, TrackPrediction]) -> Markup:
    rows: list[list[Children]] = []
    for file, track in tracks.items():
        mean, spread = track.mean.mean(0), track.spread
        sizes = [len(track.filled), int(track.filled.sum()), int(track.labelled.sum())]
        cells = [count(size) for size in sizes]
        cells += [number(float(mean[0])), number(float(mean[1]))]
        cells.append(number(None if spread is None else float(spread.mean())))
        link = node("a", "csv", href=quote(file))
        rows.append([track.track, track.split, *cells, link])
    return table(HEADS, rows, text=(0, 1, 8))
