"""Charts of predictions over time, drawn over the annotation."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .report_charts import (
    Scale,
    Values,
    band_path,
    drawing,
    extent,
    label,
    px,
    rule,
    scaled,
    stroke,
    ticks,
)
from .report_style import MINUS, Markup, count, node, note, paint, plural, short, swatch

if TYPE_CHECKING:
    from .report_schema import Trace

TRACE_WIDTH = 1000.0
"""Units across a trace; the browser stretches them to the width that it has."""
TRACE_HEIGHT = 156.0
"""Height of one trace panel in px."""
TRACES_NOTE = (
    "Predictions are means over seeds; the band is ± one standard deviation over seeds. The "
    "annotation is interrupted where rows carry no label."
)


@dataclass(frozen=True, slots=True)
class Line:
    """One experiment's prediction over the rows of a track; `spread` is over its seeds."""

    series: int
    name: str
    values: Values
    spread: Values | None = None


def trace_panels(traces: Sequence[Trace], names: Sequence[str], shown: Collection[str]) -> Markup:
    """Draw every track, with one switch per name and a picker for the track.

    Args:
        traces: The tracks.
        names: Of what is drawn over the annotation; their places give the colours.
        shown: Those that are drawn at first.
    """
    drawn = {name for trace in traces for name in trace["predictions"]}
    switches = [_switch(i, n, n in shown) for i, n in enumerate(names) if n in drawn]
    tracks = [node("option", trace["track"], value=trace["track"]) for trace in traces]
    tracks.append(node("option", f"all {len(traces)} tracks", value=""))
    picker = node(
        "label", "Track ", node("select", tracks, data_shows="track"), class_="picker", hidden=True
    )
    key = node("span", swatch("annotation"), "annotation")
    controls = node("div", picker, node("div", key, switches, class_="switches"), class_="controls")
    panels = [track_figure(trace, names, hidden=index > 1) for index, trace in enumerate(traces)]
    return node("div", controls, panels, note(TRACES_NOTE), class_="traces")


def _switch(index: int, name: str, checked: bool) -> Markup:
    box = node("input", type="checkbox", id=f"show-{index}", checked=checked, autocomplete="off")
    return node("label", box, swatch(paint(index)), name, class_=paint(index))


def track_figure(trace: Trace, names: Sequence[str], *, hidden: bool) -> Markup:
    """Draw valence and arousal of one track on the same scales, above one axis of time."""
    times, labels = trace["times"], trace["labels"]
    start, end = min(times, default=0.0), max(times, default=1.0)
    lines = {
        kind: [
            Line(names.index(name), name, series[kind], series.get(f"{kind}_std"))
            for name, series in trace["predictions"].items()
        ]
        for kind in ("valence", "arousal")
    }
    values = [value for kind in lines for value in reach(labels[kind], lines[kind])]
    domains = (start, max(end, start + 0.1)), extent(values)
    panels: list[Markup] = []
    for kind, several in lines.items():
        panels.append(node("h3", kind.title(), node("small", f" ({MINUS}1 to 1)")))
        title = f"{trace['track']}: {kind}"
        panels.append(trace_panel(title, times, labels[kind], several, domains))
    labelled = sum(value is not None for value in labels["valence"])
    size = f" {plural(len(times), 'row')}, {count(labelled)} labelled"
    caption = node("figcaption", node("b", trace["track"]), size)
    body = (caption, panels, time_axis(domains[0], "time (s)" if trace["clock"] else "row"))
    return node("figure", body, class_="track", data_track=trace["track"], hidden=hidden)


def reach(annotation: Values, lines: Sequence[Line]) -> list[float | None]:
    """List everything that a panel has to hold, the edges of the bands included."""
    values = list(annotation)
    for line in lines:
        tops, bottoms = _edges(line)
        values += [*line.values, *tops, *bottoms]
    return values


def trace_panel(
    name: str,
    times: Sequence[float],
    annotation: Values,
    lines: Sequence[Line],
    domains: tuple[tuple[float, float], tuple[float, float]],
) -> Markup:
    """Draw one dimension of one track: its annotation and the predictions, labelled at their ends.

    Args:
        name: `valence` or `arousal`, with the track for the accessible label.
        times: Seconds, one per row.
        annotation: One value per row; gaps where the row has no label.
        lines: The experiments.
        domains: Intervals of seconds and of values.
    """
    across, up = Scale(*domains[0], 0, TRACE_WIDTH), Scale(*domains[1], TRACE_HEIGHT, 0)
    xs = [across(time) for time in times]
    marks = ticks(*domains[1])
    grid = [rule(0, up(tick), TRACE_WIDTH, up(tick), "zero" if tick == 0 else "") for tick in marks]
    grid += [rule(across(t), 0, across(t), TRACE_HEIGHT) for t in ticks(*domains[0], 8)]
    body = [*grid, *(_band(xs, line, up) for line in lines)]
    body += [_trace(xs, line.values, up, line.name, paint(line.series)) for line in lines]
    body.append(_trace(xs, annotation, up, "annotation", "annotation"))
    svg = drawing(TRACE_WIDTH, TRACE_HEIGHT, f"{name} over time", body, preserveAspectRatio="none")
    scale = [node("span", label(t), style=f"top:{px(up(t))}px") for t in marks]
    return node(
        "div", node("div", scale, class_="up"), svg, _ends(annotation, lines, up), class_="panel"
    )


def time_axis(domain: tuple[float, float], name: str) -> Markup:
    """Write the numbers below a trace; every second one goes where there is little room."""
    across = Scale(*domain, 0, 100)
    marks = [node("span", label(t), style=f"left:{px(across(t))}%") for t in ticks(*domain, 8)]
    return node("div", marks, node("em", name), class_="across")


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places apart to at least `gap`, keeping their order and, if they fit, the bounds."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for rank, index in enumerate(order):
        least = low if rank == 0 else moved[order[rank - 1]] + gap
        moved[index] = max(moved[index], least)
    for rank, index in reversed(list(enumerate(order))):
        most = high if rank == len(order) - 1 else moved[order[rank + 1]] - gap
        moved[index] = min(moved[index], most)
    return moved


def thin(
    xs: Sequence[float], ys: Values, most: int = 2000
) -> tuple[list[float], list[float | None]]:
    """Keep, of a long series, the extremes and the gaps of every column one unit wide."""
    if len(xs) <= most:
        return list(xs), list(ys)
    columns: dict[int, list[int]] = {}
    for index, x in enumerate(xs):
        columns.setdefault(math.floor(x), []).append(index)
    kept: list[int] = []
    for rows in columns.values():
        known = [(ys[index], index) for index in rows if ys[index] is not None]
        gaps = [index for index in rows if ys[index] is None][:1]
        extremes = [min(known)[1], max(known)[1]] if known else []
        kept += sorted({*extremes, *gaps})
    return [xs[index] for index in kept], [ys[index] for index in kept]


def _trace(xs: Sequence[float], values: Values, up: Scale, name: str, kind: str) -> Markup:
    places, kept = thin(xs, values)
    return stroke(places, scaled(up, kept), name, kind)


def _band(xs: Sequence[float], line: Line, up: Scale) -> Markup:
    """Fill mean ± deviation of a prediction, where a deviation is given."""
    if line.spread is None:
        return Markup()
    tops, bottoms = _edges(line)
    step = max(1, len(xs) // 1000)
    outline = band_path(xs[::step], scaled(up, tops[::step]), scaled(up, bottoms[::step]))
    return node("path", class_=f"band {paint(line.series)}", d=outline)


def _edges(line: Line) -> tuple[list[float | None], list[float | None]]:
    """Give the upper and the lower edge of a band, None where a deviation is unknown."""
    pairs = list(zip(line.values, line.spread or [None] * len(line.values), strict=True))
    tops = [None if v is None or s is None else v + s for v, s in pairs]
    bottoms = [None if v is None or s is None else v - s for v, s in pairs]
    return tops, bottoms


def _ends(annotation: Values, lines: Sequence[Line], up: Scale) -> Markup:
    """Write each series' name beside its last value, none over another."""
    series = [("annotation", "annotation", annotation)]
    series += [(line.name, paint(line.series), line.values) for line in lines]
    named = [(name, kind, last) for name, kind, values in series if (last := _last(values))]
    gap = min(17, (TRACE_HEIGHT - 16) / max(1, len(named) - 1))
    places = spread([up(last[0]) for _, _, last in named], gap, 8, TRACE_HEIGHT - 8)
    labels = [
        node("span", short(name), class_=f"end {kind}", style=f"top:{px(place)}px", title=name)
        for (name, kind, _), place in zip(named, places, strict=True)
    ]
    return node("div", labels, class_="ends")


def _last(values: Values) -> tuple[float] | None:
    """Give the last known value, boxed so that zero is a value too."""
    return next(((value,) for value in reversed(values) if value is not None), None)
