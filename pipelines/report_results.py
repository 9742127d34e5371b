"""The table of results: a line for each experiment, the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from . import report_charts as charts
from .report_published import published_cell
from .report_style import (
    MINUS,
    Children,
    Markup,
    calm,
    count,
    framed,
    mean_sd,
    node,
    note,
    paint,
    plural,
    stream_name,
    swatch,
)

if TYPE_CHECKING:
    from .published import Reference
    from .report_schema import Experiment, Score

KINDS = {"valence": "Valence", "arousal": "Arousal", "score": "Mean"}
HEADS = (
    *(("Experiment", "experiment", "ascending"), ("Streams", "streams", "ascending")),
    *(("Width", "width", "descending"), ("Encoder", "encoder", "ascending")),
    *((title, kind, "descending") for kind, title in KINDS.items()),
    ("Mean per seed", None, None),
    *(("Rows", "rows", "descending"), ("Parameters", "parameters", "ascending")),
)
"""Columns of the results: title, key to sort by, and the order of the first click."""
PUBLISHED = 7
"""Where the column of published figures stands, if there is one: behind the means."""
RESULTS_NOTE = (
    "CCC on the scored rows: mean ± standard deviation over seeds and, below, the 95 % interval of "
    "the mean over families of tracks. Shaded and bold: the best mean of its column, in its fold. "
    "Dots: one seed each; bar: mean ± standard deviation; line: the interval. Filled rows have no "
    "value in any stream and take another row's prediction; a track without any value gets 0."
)


def score_of(experiment: Experiment) -> Mapping[str, Score]:
    """Give kind to score."""
    return cast("Mapping[str, Score]", experiment["scores"])


def interval_of(experiment: Experiment) -> Mapping[str, list[float] | None]:
    """Give kind to the ends of its interval."""
    return cast("Mapping[str, list[float] | None]", experiment["intervals"])


def ranked(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Order by mean score, the best first, undefined ones last."""

    def place(experiment: Experiment) -> tuple[bool, float]:
        mean = score_of(experiment)["score"]["mean"]
        return mean is None, -(mean or 0.0)

    return sorted(experiments, key=place)


def results_table(
    experiments: Sequence[Experiment], references: Mapping[str, list[Reference]]
) -> Children:
    """Compare all experiments in one table, beside what papers report where that is asked for."""
    if not experiments:
        return calm("No experiment was run.")
    scale = charts.Scale(*charts.extent(_reach(experiments)), 8, charts.ROW_WIDTH - 8)
    best = _best(experiments)
    number_of = {experiment["name"]: index for index, experiment in enumerate(experiments)}
    rows: list[Markup] = []
    for e in ranked(experiments):
        cells = _row(e, number_of[e["name"]], best[e["fold"]], scale)
        if references:
            cells.insert(PUBLISHED, _published(references[e["name"]]))
        rows.append(node("tr", cells))
    heads = [_head(*head, scale) for head in HEADS]
    if references:
        heads.insert(PUBLISHED, node("th", "Published V / A", scope="col", class_="text published"))
    return framed(heads, rows, "results"), note(RESULTS_NOTE)


def _published(found: list[Reference]) -> Markup:
    return node(
        "td", published_cell(found), class_="text published", data_label="Published", data_value=""
    )


def folds_of(experiments: Sequence[Experiment]) -> list[str]:
    """List the folds, each once; scores compare within one, since their tracks differ."""
    return list(dict.fromkeys(experiment["fold"] for experiment in experiments))


def _best(experiments: Sequence[Experiment]) -> dict[str, dict[str, float | None]]:
    """Give the best mean of every fold and kind; None where all are undefined."""
    best: dict[str, dict[str, float | None]] = {}
    for experiment in experiments:
        of = best.setdefault(experiment["fold"], dict.fromkeys(KINDS))
        for kind, score in score_of(experiment).items():
            known = [x for x in (of[kind], score["mean"]) if x is not None]
            of[kind] = max(known, default=None)
    return best


def _head(title: str, key: str | None, first: str | None, scale: charts.Scale) -> Markup:
    if key is None:
        return node("th", title, charts.interval_axis(scale), scope="col", class_="chart")
    side = "text" if key in ("experiment", "streams", "encoder") else "number"
    order = "descending" if key == "score" else None
    return node(
        "th", title, scope="col", class_=side, data_key=key, data_first=first, aria_sort=order
    )


def _reach(experiments: Sequence[Experiment]) -> list[float | None]:
    """List everything that the interval charts have to hold."""
    reach: list[float | None] = []
    for experiment in experiments:
        score = score_of(experiment)["score"]
        reach += [*score["values"], *(interval_of(experiment)["score"] or ())]
        if score["mean"] is not None:
            half = score.get("std") or 0.0
            reach += [score["mean"] - half, score["mean"] + half]
    return reach


def _row(
    e: Experiment, series: int, best: dict[str, float | None], scale: charts.Scale
) -> list[Markup]:
    """Write one experiment; cells know their heading (narrow screens) and value (sorting)."""
    look = paint(series)
    streams = [
        node("div", stream_name(stream), node("small", f" stride {stride}") if stride > 1 else ())
        for stream, stride in zip(e["streams"], e["strides"], strict=True)
    ]
    name = swatch(look), node("b", e["name"]), _facts(e)
    cells = [
        _cell("Experiment", name, e["name"], "text name"),
        _cell("Streams", streams, " ".join(e["streams"]), "text streams"),
        _cell("Width", count(e["width"]) if e["width"] else "none", e["width"]),
        _cell("Encoder", e["encoder"], e["encoder"], "text"),
    ]
    for kind, title in KINDS.items():
        score = score_of(e)[kind]
        mark = " best" if score["mean"] is not None and score["mean"] == best[kind] else ""
        text = mean_sd(score["mean"], score.get("std")), _interval(interval_of(e)[kind])
        cells.append(_cell(title, text, score["mean"], "number" + mark))
    chart = charts.interval_row(e["seeds"], score_of(e)["score"], interval_of(e)["score"], scale)
    cells.append(node("td", chart, class_=f"chart {look}", data_label="Mean per seed"))
    filled = node("small", f"{count(e['filled'])} filled", class_="below") if e["filled"] else ()
    cells.append(_cell("Rows", (count(e["rows"]), filled), e["rows"]))
    return [*cells, _cell("Parameters", count(e["parameters"]), e["parameters"])]


def _interval(interval: list[float] | None) -> Children:
    if interval is None:
        return ()
    text = ", ".join(f"{end:z.2f}".replace("-", MINUS) for end in interval)
    return node("small", f"[{text}]", class_="below")


def _facts(e: Experiment) -> list[Markup]:
    """Name head and fold, and count the tracks that lack values; their names are a hover away."""
    fold = "" if e["fold"] == "official" else f", fold {e['fold']}"
    found = [node("small", f"{e['head']} ({e['variant']}){fold}")]
    told = (("without any value", e["without_value"]), ("in quarantine", e["in_quarantine"]))
    for text, tracks in told:
        if tracks:
            words = f"{plural(len(tracks), 'track')} {text}"
            found.append(node("small", words, title=", ".join(tracks)))
    return found


def _cell(title: str, text: Children, value: object, side: str = "number") -> Markup:
    known = "" if value is None else value
    return node("td", text, class_=side, data_label=title, data_value=known)
