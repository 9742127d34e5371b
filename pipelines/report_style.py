"""How the report is written: escaped elements, numbers as text, style sheet and script."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

COLOURS: Final = 8
"""Series colours in `report.css`; later series repeat them dashed."""
VOID: Final = frozenset({"img", "input", "link", "meta"})
"""Elements that have no end."""
UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""Characters that neither XML nor UTF-8 can carry."""
PACKAGE: Final = "concord.pipelines"
"""Where `report.css` and `report.js` lie."""
DASH: Final = "\N{EN DASH}"
"""Stands for a number that is undefined."""
MINUS: Final = "\N{MINUS SIGN}"


class Markup(str):
    """Text that is markup already, so that `node` does not escape it again."""

    __slots__ = ()


Children = str | Iterable["Children"]
"""Text, markup, or any nesting of them."""


def escape(text: str) -> Markup:
    """Make any text safe inside an element and inside a quoted attribute."""
    return Markup(html.escape(UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)))


def join(children: Children) -> Markup:
    """Set children side by side, escaping those that are plain text."""
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return escape(children)
    return Markup("".join(join(child) for child in children))


def node(name: str, /, *children: Children, **attributes: object) -> Markup:
    """Write one element; every child that is not `Markup` is escaped.

    Attributes are named as in Python: `class_` is `class`, `aria_label` is `aria-label`. None and
    False leave an attribute out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape("" if value is True else str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def paint(series: int) -> str:
    """Give the style classes of a series: its own, its colour, and dashes beyond the palette."""
    return f"e{series} c{series % COLOURS}" + (" dashed" if series >= COLOURS else "")


def number(value: float | None, digits: int = 3) -> str:
    """Write a score with a true minus sign; an en dash where it is undefined."""
    if value is None:
        return DASH
    return f"{value:.{digits}f}".replace("-", MINUS)


def mean_sd(mean: float | None, std: float | None) -> Markup:
    """Write mean ± deviation, or the mean alone."""
    after = () if std is None else node("span", f" ± {number(std)}", class_="sd")
    return node("span", number(mean), after, class_="mean-sd")


def stream_name(name: str) -> Children:
    """Write a stream's name, with the start of its digest in the background."""
    stream, at, digest = name.partition("@")
    return stream, node("small", at + digest) if at else ()


def count(value: int) -> str:
    """Write a whole number in groups of three."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(value: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{count(value)} {noun}" + ("" if value == 1 else "s")


def share(part: int, whole: int) -> str:
    """Write a part of a whole in per cent."""
    return f"{100 * part / whole:.1f} %" if whole else DASH


def short(text: str, length: int = 26) -> str:
    """Cut a name that would not fit beside its line."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def asset(name: str) -> Markup:
    """Read the style sheet or the script that lies beside this module."""
    return Markup(files(PACKAGE).joinpath(name).read_text(encoding="utf-8"))


def page_head(title: str, series: int) -> Markup:
    """Carry style and script inside, and forbid everything else, foreign scripts included."""
    script = asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    policy += f"; script-src 'sha256-{digest}'"
    switches = "".join(
        f".traces:has(#show-{index}:not(:checked)) .track .e{index}{{display:none}}\n"
        for index in range(series)
    )
    return node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", http_equiv="Content-Security-Policy", content=policy),
        node("link", rel="icon", href="data:,"),
        node("title", title),
        node("style", asset("report.css"), Markup(switches)),
        node("script", script),
    )


def swatch(kind: str) -> Markup:
    """Draw the colour of a series, named by its style classes."""
    return node("i", class_=f"swatch {kind}", aria_hidden="true")


def pretty(value: object) -> Markup:
    """Print a JSON value with indentation."""
    return node("pre", json.dumps(value, indent=2, ensure_ascii=False))


def details(title: Children, *body: Children, opened: bool = False) -> Markup:
    """Fold something away under a title."""
    return node("details", node("summary", title), *body, open=opened)


def calm(text: str) -> Markup:
    """Say that there is nothing to show."""
    return node("p", text, class_="calm")


def note(text: str) -> Markup:
    """Explain what was shown."""
    return node("p", text, class_="note")


def table(
    heads: Sequence[Children],
    rows: Iterable[Sequence[Children]],
    text: Collection[int],
    kind: str | None = None,
) -> Markup:
    """Write a plain table; columns in `text` are set from the left, others from the right."""
    sides = ["text" if index in text else "number" for index in range(len(heads))]
    head = [node("th", t, scope="col", class_=s) for t, s in zip(heads, sides, strict=True)]
    body = [
        node("tr", [node("td", cell, class_=s) for cell, s in zip(row, sides, strict=True)])
        for row in rows
    ]
    return framed(head, body, kind)


def framed(head: Children, body: Children, kind: str | None = None) -> Markup:
    """Put heading cells and rows into a table that scrolls where it is too wide."""
    parts = node("thead", node("tr", head)), node("tbody", body)
    return node("div", node("table", *parts, class_=kind), class_="scroll")


def comparison(heads: Sequence[Children], columns: Sequence[Mapping[str, Any]]) -> Markup:
    """Set settings side by side; a setting that all columns share is written once."""
    rows: list[Markup] = []
    for key in dict.fromkeys(key for column in columns for key in column):
        values = [setting(column.get(key, DASH)) for column in columns]
        cells = [node("td", value, class_="text") for value in values]
        if len(set(values)) == 1:
            everywhere = node("small", " in all") if len(values) > 1 else ()
            cells = [node("td", values[0], everywhere, colspan=len(values), class_="text same")]
        rows.append(node("tr", node("th", key, scope="row", class_="text"), cells))
    head = [node("th", title, scope="col", class_="text") for title in ("Setting", *heads)]
    return framed(head, rows, "settings")


def setting(value: object) -> str:
    """Write a JSON value in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
