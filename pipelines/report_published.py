"""What papers report, on the page: a cell beside each of our results, and a table of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .published import PROTOCOL, UNKNOWN, Pair, Published, Reference, references_of
from .report_style import DASH, Children, Markup, calm, node, note, number, table

if TYPE_CHECKING:
    from .report_schema import Coverage, Results

NOTE = (
    "Copied from the papers, not computed here; weights of backbones are theirs. Protocol: "
    f"{PROTOCOL}. "
    "Backbones are named with their temporal encoder (i3d+tcn). What a published result has "
    "otherwise than ours stands behind “differs”."
)


def references(coverage: Coverage, results: Results) -> dict[str, list[Reference]]:
    """Give the published lines beside each experiment; none where they are not asked for."""
    recipes = {name: stream["recipe"] for name, stream in coverage["streams"].items()}
    asked = results["experiments"] if results.get("published") else []
    return {e["name"]: references_of(e, results["edition"], recipes) for e in asked}


def published_cell(found: list[Reference]) -> Children:
    """Write the figures beside one of our results, and in what they differ."""
    shown = [each for each in found if each.published.validation] or found
    if not shown:
        return node("small", "none for this method")
    line = shown[0]
    figures = pair(line.published.validation)
    differs = ", ".join(line.differs)
    below = node("small", f"differs: {differs}", class_="below") if differs else ()
    return node("i", figures, title=line.published.source), below


def published_section(found: dict[str, list[Reference]]) -> Children:
    """List all published lines that stand beside our results, and beside which."""
    lines: dict[Published, list[tuple[str, Reference]]] = {}
    for name, several in found.items():
        for each in several:
            lines.setdefault(each.published, []).append((name, each))
    if not lines:
        return calm("No paper of these methods reports figures that are known here.")
    rows: list[list[Children]] = []
    for line, beside in lines.items():
        backbones = "; ".join(
            f"{modality}: {' and '.join(names)}"
            for modality, names in line.backbones.items()
            if names
        )
        cells = [line.method, backbones, line.release, pair(line.validation), pair(line.test)]
        ours = [
            node("div", name, node("small", f" differs: {', '.join(each.differs) or 'nothing'}"))
            for name, each in beside
        ]
        told = [line.source, *([line.note] if line.note else [])]
        rows.append([*cells, "; ".join(told), ours])
    heads = ("Method", "Backbones", "Labels", "Validation V / A", "Test V / A", "Source", "Beside")
    return table(heads, rows, text=range(7), kind="wrap"), note(NOTE)


def pair(figures: Pair | None) -> Markup:
    """Write the CCC of valence and of arousal."""
    if figures is None:
        return node("span", DASH, title=UNKNOWN)
    return node("span", " / ".join(number(each) for each in figures))
