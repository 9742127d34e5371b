"""Charts of the report as pure functions: numbers in, escaped markup out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .report_style import MINUS, Markup, node, paint

if TYPE_CHECKING:
    from .report_schema import Score

Values = Sequence[float | None]
"""One number per row or epoch; None where there is none."""

ROW_WIDTH, ROW_HEIGHT = 160.0, 26.0
"""The interval chart in a line of the results table, in px."""
CURVE_WIDTH, CURVE_HEIGHT = 280.0, 226.0
"""One panel of learning curves, in px."""
STEPS = ((1, math.sqrt(2)), (2, math.sqrt(10)), (5, math.sqrt(50)))
"""Round steps of an axis, each with the ratio from which the next one is nearer."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from values to pixels; `start` belongs to `low`, and may be the larger one."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Give the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Curve:
    """What one seed did over its epochs."""

    seed: int
    epochs: Sequence[int]
    scores: Values
    losses: Values
    best: int


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """List the round numbers (steps of 1, 2 or 5) in an interval, about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    # The nearest of 1, 2, 5 and 10 by ratio: the bounds are geometric means of neighbours.
    step = power * next((m for m, bound in STEPS if raw < bound * power), 10)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) + 0.0 for index in range(first, last + 1)]


def extent(values: Iterable[float | None], least: float = 0.1) -> tuple[float, float]:
    """Give the interval, at least `least` wide, that holds all values with a little air."""
    known = [value for value in values if value is not None]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    air = max(0.04 * (high - low), (least - (high - low)) / 2)
    return low - air, high + air


def label(value: float) -> str:
    """Write an axis number with a true minus sign."""
    return f"{value:g}".replace("-", MINUS)


def line_path(xs: Sequence[float], ys: Values) -> str:
    """Write the path of a line that is interrupted where a value is None."""
    return "".join(
        "M" + "L".join(_point(x, low) for x, low, _ in run) + ("h0" if len(run) == 1 else "")
        for run in _runs(xs, ys, ys)
    )


def band_path(xs: Sequence[float], tops: Values, bottoms: Values) -> str:
    """Write the outline of a band that is interrupted where either edge is None."""
    outlines: list[str] = []
    for run in _runs(xs, tops, bottoms):
        edge = [_point(x, top) for x, top, _ in run]
        edge += [_point(x, bottom) for x, _, bottom in reversed(run)]
        outlines.append("M" + "L".join(edge) + "Z")
    return "".join(outlines)


def interval_axis(scale: Scale) -> Markup:
    """Draw the common axis of the interval charts, for the head of their column."""
    return drawing(
        ROW_WIDTH, 16, "axis of the scores", _interval_ticks(scale, 11), class_="interval"
    )


def interval_row(
    seeds: Sequence[int], score: Score, interval: Sequence[float] | None, scale: Scale
) -> Markup:
    """Draw one experiment's seeds as dots over mean ± deviation and over the mean's interval."""
    middle, scores, mean = ROW_HEIGHT / 2, score["values"], score["mean"]
    parts = [rule(scale(t), 0, scale(t), ROW_HEIGHT) for t in ticks(scale.low, scale.high)]
    # Shown only where the table is too narrow for its column head.
    parts.append(node("g", _interval_ticks(scale, ROW_HEIGHT + 11), class_="own-axis"))
    if interval is not None:
        ends = [scale(end) for end in interval]
        parts.append(rule(ends[0], middle, ends[1], middle, "whisker"))
        parts += [rule(end, middle - 4, end, middle + 4, "whisker") for end in ends]
    if mean is not None:
        half = score.get("std") or 0.0
        left, right = scale(mean - half), scale(mean + half)
        parts.append(rule(left, middle, right, middle, "span"))
        parts.append(rule(scale(mean), middle - 7, scale(mean), middle + 7, "mean"))
    for seed, value in zip(seeds, scores, strict=True):
        if value is not None:
            name = node("title", f"seed {seed}: {label(round(value, 4))}")
            parts.append(node("circle", name, class_="dot", cx=px(scale(value)), cy=middle, r=3.2))
    text = ", ".join("undefined" if s is None else label(round(s, 3)) for s in scores)
    return drawing(ROW_WIDTH, ROW_HEIGHT, f"score per seed: {text}", parts, class_="interval")


def learning_chart(
    curves: Sequence[Curve],
    series: int,
    domains: tuple[tuple[float, float], tuple[float, float], tuple[float, float]],
) -> Markup:
    """Draw the score and, below it, the loss of every seed over the epochs.

    Args:
        curves: One per seed.
        series: Number of the experiment, for its colour.
        domains: Intervals of epochs, scores and losses that all panels share.
    """
    across = Scale(*domains[0], 40, CURVE_WIDTH - 8)
    score, loss = Scale(*domains[1], 122, 22), Scale(*domains[2], 196, 154)
    parts = [
        node("text", "validation score", class_="name", x=40, y=12),
        node("text", "training loss", class_="name", x=40, y=144),
        _axis(score, 5),
        _axis(loss, 3),
        _epochs(across),
    ]
    for curve in curves:
        xs = [across(epoch) for epoch in curve.epochs]
        parts.append(stroke(xs, scaled(score, curve.scores), f"seed {curve.seed}"))
        parts.append(stroke(xs, scaled(loss, curve.losses), f"seed {curve.seed}"))
    parts += [mark for curve in curves for mark in _best(curve, across, score)]
    title = f"validation score and training loss per epoch, {len(curves)} seeds"
    group = node("g", parts, class_=paint(series))
    return drawing(CURVE_WIDTH, CURVE_HEIGHT, title, [group], class_="learning")


def share_bar(part: int, whole: int, limit: int | None = None) -> Markup:
    """Draw a part of a whole as a bar, with a mark where a limit lies."""
    across = Scale(0, max(whole, 1), 0, 100)
    parts = [
        node("rect", class_="whole", x=0, y=2, width=100, height=6),
        node("rect", class_="part", x=0, y=2, width=px(across(min(part, whole))), height=6),
    ]
    if limit is not None:
        parts.append(rule(across(min(limit, whole)), 0, across(min(limit, whole)), 10, "limit"))
    return drawing(100, 10, f"{part} of {whole}", parts, class_="share")


def drawing(width: float, height: float, title: str, body: Iterable[str], **more: object) -> Markup:
    """Frame a drawing and name it for those who cannot see it."""
    return node(
        "svg",
        node("title", title),
        body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {px(width)} {px(height)}",
        role="img",
        aria_label=title,
        **more,
    )


def _interval_ticks(scale: Scale, y: float) -> list[Markup]:
    return [
        node("text", label(tick), class_="tick", x=px(scale(tick)), y=y, text_anchor="middle")
        for tick in ticks(scale.low, scale.high)
    ]


def px(value: float) -> str:
    """Write a coordinate to a tenth."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def _point(x: float, y: float) -> str:
    return f"{px(x)} {px(y)}"


def scaled(scale: Scale, values: Values) -> list[float | None]:
    """Map every known value of a series to its pixel."""
    return [None if value is None else scale(value) for value in values]


def _runs(
    xs: Sequence[float], first: Values, second: Values
) -> list[list[tuple[float, float, float]]]:
    """Cut two series into the stretches where both have values."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for x, one, two in zip(xs, first, second, strict=True):
        if one is not None and two is not None:
            runs[-1].append((x, one, two))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def rule(x1: float, y1: float, x2: float, y2: float, kind: str = "") -> Markup:
    """Draw a thin straight line."""
    return node("line", class_=f"rule {kind}".strip(), x1=px(x1), y1=px(y1), x2=px(x2), y2=px(y2))


def stroke(xs: Sequence[float], ys: Values, name: str, kind: str = "") -> Markup:
    """Draw a series as a line that tells its name."""
    return node("path", node("title", name), class_=f"line {kind}".strip(), d=line_path(xs, ys))


def _axis(up: Scale, count: int) -> list[Markup]:
    """Draw level lines with their numbers at the left."""
    marks: list[Markup] = []
    for tick in ticks(up.low, up.high, count):
        y = up(tick)
        marks.append(rule(40, y, CURVE_WIDTH - 8, y))
        text = node("text", label(tick), class_="tick", x=34, y=px(y + 4), text_anchor="end")
        marks.append(text)
    return marks


def _epochs(across: Scale) -> list[Markup]:
    """Write the epochs that are whole numbers, and the axis name."""
    marks = [
        node("text", label(tick), class_="tick", x=px(across(tick)), y=211, text_anchor="middle")
        for tick in ticks(across.low, across.high, 5)
        if tick == int(tick)
    ]
    name = node("text", "epoch", class_="tick", x=CURVE_WIDTH - 8, y=224, text_anchor="end")
    return [*marks, name]


def _best(curve: Curve, across: Scale, up: Scale) -> list[Markup]:
    """Mark the epoch that was kept, if its score is known."""
    known = dict(zip(curve.epochs, curve.scores, strict=True))
    score = known.get(curve.best)
    if score is None:
        return []
    name = node("title", f"seed {curve.seed}: best epoch {curve.best}, {label(round(score, 4))}")
    x, y = px(across(curve.best)), px(up(score))
    return [node("circle", name, class_="best-epoch", cx=x, cy=y, r=3.4)]
