"""Attention and correlation maps on the page: a picture for each, and a picker for the window."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .report_style import Children, Markup, calm, node, note, number, paint, swatch

if TYPE_CHECKING:
    from .report_schema import Map, Maps, MapWindow

SIDE = 160
"""Pixels of a picture's shorter side, and half of its longer one at most."""
LESS, MORE = (33, 102, 172), (178, 24, 43)
"""Colours (RGB) of the value that is farthest below zero, and above; zero is white."""
LEVELS = 255
NOTE = (
    "Of the first seed's best weights, for windows of the longest validation track; names as in "
    "concord.fuse.equations: C are correlations of features (rows) with the joint representation "
    "(columns), Z and A scores and weights of attention from step to step; row by row where an "
    "attention joins modalities. White is zero, blue below, red above. Large maps are averaged "
    "over blocks."
)


def maps_section(several: Sequence[Maps], names: Sequence[str]) -> Children:
    """Show the maps of every experiment that has some.

    Args:
        several: Maps of experiments.
        names: Of all experiments; their places give the colours.
    """
    shown = [maps for maps in several if maps["windows"]]
    if not shown:
        return calm("No head shows maps: none has them, or fuse.maps is 0.")
    count = max(len(maps["windows"]) for maps in shown)
    options = [node("option", f"{k + 1} of {count}", value=str(k)) for k in range(count)]
    options.append(node("option", f"all {count} windows", value=""))
    select = node("select", options, data_shows="window")
    picker = node("label", "Window ", select, class_="picker", hidden=True)
    figures = [
        _figure(maps, window, k, names)
        for maps in shown
        for k, window in enumerate(maps["windows"])
    ]
    return node("div", picker, class_="controls"), figures, note(NOTE)


def _figure(maps: Maps, window: MapWindow, place: int, names: Sequence[str]) -> Markup:
    first, last = window["rows"]
    where = f" {window['track']}, rows {first} to {last}"
    if window["times"]:
        where += f" ({number(window['times'][0], 1)} to {number(window['times'][1], 1)} s)"
    look = swatch(paint(names.index(maps["experiment"])))
    caption = node("figcaption", look, node("b", maps["experiment"]), where)
    pictures = [_picture(name, one) for name, one in window["maps"].items()]
    body = caption, node("div", pictures, class_="maps")
    return node("figure", body, class_="window", data_window=str(place), hidden=place > 0)


def _picture(name: str, one: Map) -> Markup:
    rows, columns = one["shape"]
    height, width = _pixels(*one["size"])
    image = node(
        "img",
        src=f"data:image/png;base64,{base64.b64encode(png(one)).decode()}",
        alt=f"{name}, {rows} by {columns}",
        width=str(width),
        height=str(height),
    )
    ends = f"{rows} by {columns}, {number(one['low'], 2)} to {number(one['high'], 2)}"
    return node("div", node("code", name), image, node("small", ends))


def _pixels(rows: int, columns: int) -> tuple[int, int]:
    """Give height and width of a picture, in proportion as far as it stays readable."""
    short = max(1, min(rows, columns))
    return round(SIDE * min(2, rows / short)), round(SIDE * min(2, columns / short))


def png(one: Map) -> bytes:
    """Draw a map's cells: white is zero, and colours are as strong as values are far from it."""
    from PIL import Image

    rows, columns = one["size"]
    image = Image.frombytes("P", (columns, rows), base64.b64decode(one["cells"]))
    image.putpalette(_palette(one["low"], one["high"]))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=False)
    return file.getvalue()


def _palette(low: float, high: float) -> list[int]:
    farthest = max(abs(low), abs(high)) or 1.0
    colours: list[int] = []
    for step in range(LEVELS + 1):
        share = (low + (high - low) * step / LEVELS) / farthest
        end = MORE if share > 0 else LESS
        colours += [round(255 + (part - 255) * abs(share)) for part in end]
    return colours
