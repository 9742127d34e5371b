"""Printing for people and for programs; names from a store are printed, never interpreted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.text import Text

LONGEST_LIST = 12


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    click.echo(json.dumps(value, indent=1))


def print_table(
    title: str,
    columns: tuple[str, ...],
    rows: Sequence[Mapping[str, Any]],
    *,
    whole: tuple[str, ...] = (),
) -> None:
    """Print rows as a table on standard output; what is in the columns `whole` is not broken."""
    from rich.console import Console
    from rich.table import Column, Table

    headers = [Column(name, no_wrap=name in whole) for name in columns]
    table = Table(*headers, title=_text(title) if title else None, title_justify="left")
    for row in rows:
        table.add_row(*("" if row[name] is None else _text(row[name]) for name in columns))
    Console().print(table)


def print_tree(title: str, record: Mapping[str, Any]) -> None:
    """Print nested values as a tree on standard output."""
    from rich.console import Console
    from rich.tree import Tree

    tree = Tree(_text(title))
    _grow(tree, record)
    Console().print(tree)


def _grow(tree: Any, record: Mapping[str, Any]) -> None:
    for name, value in record.items():
        if isinstance(value, Mapping):
            _grow(tree.add(_text(name)), value)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for part in value:
                _grow(tree.add(_text(name)), part)
        else:
            tree.add(_text(f"{name}: {_brief(value)}"))


def _brief(value: Any) -> str:
    if isinstance(value, list):
        more = f" and {len(value) - LONGEST_LIST} more" if len(value) > LONGEST_LIST else ""
        return ", ".join(map(str, value[:LONGEST_LIST])) + more or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> Text:
    """Give text without mark-up, and without the control characters that a terminal obeys."""
    from rich.text import Text

    plain = value if isinstance(value, str) else _brief(value)
    return Text("".join(c if c.isprintable() else ascii(c)[1:-1] for c in plain))
