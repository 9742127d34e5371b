"""Sections of the page on coverage and quarantine: what stage one left in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..extract.sensitivity import sensitivity
from .report_charts import share_bar
from .report_style import (
    DASH,
    Children,
    Markup,
    calm,
    count,
    details,
    mean_sd,
    node,
    note,
    plural,
    share,
    table,
)

if TYPE_CHECKING:
    from .report_schema import Coverage, Track

SPLIT_HEADS = (
    *("Split", "Tracks", "Sources", "Families", "Rows", "Labelled", "Share"),
    *("Valence", "Arousal"),
)
SPLITS_NOTE = (
    "Tracks are of persons, sources are recordings, families are recordings that belong together "
    "(the bootstrap draws these). Valence and arousal: mean ± standard deviation of the labelled "
    "rows."
)
STREAMS_NOTE = (
    "Invalid rows have no value in this stream (a missing face, a broken frame). Repeated rows lie "
    "past the last decodable frame and carry its value. A stream of media shows people, or can be "
    "turned back into what does: it stays with those whom the data set's agreement covers. Vectors "
    "are pooled."
)


def coverage_section(coverage: Coverage) -> Children:
    """Count what there is: per split, per stream, per track."""
    splits: list[list[Children]] = []
    for name, s in coverage["splits"].items():
        sizes = [count(s[key]) for key in ("tracks", "sources", "families", "rows", "labelled")]
        moments = [_moments(s["labels"], kind) for kind in ("valence", "arousal")]
        splits.append([name, *sizes, share(s["labelled"], s["rows"]), *moments])
    streams: list[list[Children]] = []
    for name, s in coverage["streams"].items():
        sizes = [count(s["items"]), count(s["rows"]), count(s["invalid"])]
        sizes += [share(s["invalid"], s["rows"]), count(s["repeated"])]
        digest = node("code", s["digest"][:12], title=s["digest"])
        shows = sensitivity(name, s["recipe"])
        streams.append([name, count(s["dim"]), s["dtype"], *sizes, shows, digest])
    heads = ("Stream", "Dim", "Type", "Items", "Rows", "Invalid", "Share", "Repeated")
    tracks = len(coverage["tracks"])
    return (
        node("h3", "Splits"),
        table(SPLIT_HEADS, splits, text=(0,)),
        note(SPLITS_NOTE),
        node("h3", "Streams"),
        table((*heads, "Holds", "Digest"), streams, text=(0, 2, 8, 9)),
        note(STREAMS_NOTE),
        details(f"Coverage of {plural(tracks, 'track')}", _tracks(coverage), opened=tracks <= 20),
    )


def _moments(labels: dict[str, list[float]] | None, kind: str) -> Markup:
    return mean_sd(*labels[kind]) if labels else node("span", DASH)


def _tracks(coverage: Coverage) -> Markup:
    """Show for every track how much of it each stream covers."""
    streams = list(dict.fromkeys(name for t in coverage["tracks"] for name in t["streams"]))
    failed = {(t, item["stream"]) for item in coverage["quarantine"] for t in item["tracks"]}
    heads = ("Track", "Source", "Split", "Rows", "Labelled", *streams)
    rows: list[list[Children]] = []
    for t in coverage["tracks"]:
        cells = [_covered(t, name, (t["track"], name) in failed) for name in streams]
        sizes = [count(t["rows"]), count(t["labelled"])]
        rows.append([t["track"], t["source"], t["split"], *sizes, *cells])
    return table(heads, rows, text=(0, 1, 2, *range(5, len(heads))))


def _covered(track: Track, stream: str, failed: bool) -> Markup:
    gaps = track["streams"].get(stream)
    if gaps is None:
        return node("span", "in quarantine" if failed else "absent", class_="absent")
    bar = share_bar(track["rows"] - gaps["invalid"], track["rows"])
    words = [f"{count(gaps[key])} {key}" for key in ("invalid", "repeated") if gaps[key]]
    return node("span", bar, ", ".join(words) or "complete", class_="covered")


def quarantine_section(coverage: Coverage) -> Children:
    """List what could not be computed, and how much of the failure budget that used."""
    budget, items = coverage["budget"], coverage["quarantine"]
    bar = share_bar(budget["quarantined"], budget["sources"], budget["allowed"])
    used = f"{count(budget['quarantined'])} of {plural(budget['sources'], 'source')} in quarantine"
    line = node("p", bar, f"{used}, {count(budget['allowed'])} allowed.", class_="budget")
    if not items:
        return calm("Nothing in quarantine: every item was computed."), line
    heads = ("Source", "Tracks", "Stream", "Error", "Place", "Message")
    rows: list[list[Children]] = []
    for q in items:
        place = [q["source"], ", ".join(q["tracks"]), q["stream"]]
        rows.append([*place, node("b", q["error"]), q["place"], q["message"]])
    return line, table(heads, rows, text=range(6), kind="wrap")
