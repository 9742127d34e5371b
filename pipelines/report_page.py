"""The page of the report: one HTML file that explains itself and loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from . import report_charts as charts
from .report_coverage import coverage_section, quarantine_section
from .report_style import (
    DASH,
    MINUS,
    Children,
    Markup,
    calm,
    comparison,
    count,
    details,
    framed,
    mean_sd,
    node,
    note,
    number,
    page_head,
    paint,
    plural,
    pretty,
    stream_name,
    swatch,
    table,
)
from .report_traces import track_figure

if TYPE_CHECKING:
    from .report_schema import Coverage, Experiment, Results, Run, Score

SHOWN = 3
"""Experiments drawn over a trace at first, the best ones; the others are one click away."""
KINDS = {"valence": "Valence", "arousal": "Arousal", "score": "Mean"}
HEADS = (
    *(("Experiment", "experiment", "ascending"), ("Streams", "streams", "ascending")),
    *(("Width", "width", "descending"), ("Encoder", "encoder", "ascending")),
    *((title, kind, "descending") for kind, title in KINDS.items()),
    ("Mean per seed", None, None),
    *(("Rows", "rows", "descending"), ("Parameters", "parameters", "ascending")),
)
"""Columns of the results: title, key to sort by, and the order of the first click."""
RESULTS_NOTE = (
    "CCC on the scored rows, mean ± standard deviation over seeds. Shaded and bold: the best mean "
    "of its column. Dots: one seed each; bar: mean ± standard deviation."
)
CURVES_NOTE = "One line per seed, axes common to all panels; the circle marks the epoch kept."
TRACES_NOTE = (
    "Predictions are means over seeds; the band is ± one standard deviation over seeds. The "
    "annotation is interrupted where rows carry no label."
)
FORMULA = Markup(
    "CCC = 2 cov(<i>x</i>, <i>y</i>) / (var <i>x</i> + var <i>y</i> + "
    "(mean <i>x</i> &#8722; mean <i>y</i>)&#178;)"
)
SCORE_NOTES = (
    f"The concordance correlation coefficient uses population moments (divided by n, not n {MINUS}"
    " 1), pooled over the labelled rows of all scored tracks: it is no mean of scores per track.\n"
    f"Mean is the mean of the CCC of valence and of arousal. {DASH} stands for undefined "
    "(annotation and prediction both constant); undefined scores are left out of means.\n"
    f"± is the sample standard deviation (divided by n {MINUS} 1) over the n seeds of one "
    "experiment: how far the chance in training moves the score. It says nothing about other "
    "recordings."
)


def render_page(coverage: Coverage, results: Results) -> str:
    """Write the whole page; the same input gives the same bytes."""
    sections = (
        ("results", "Results", _results(results["experiments"])),
        ("learning", "Learning curves", _learning(results["experiments"])),
        ("traces", "Predictions over time", _traces(results)),
        ("coverage", "Data set and coverage", coverage_section(coverage)),
        ("quarantine", "Quarantine", quarantine_section(coverage)),
        ("method", "How it was computed", _method(coverage, results)),
    )
    links = [node("a", title, href=f"#{key}") for key, title, _ in sections]
    parts = [node("section", node("h2", title), body, id=key) for key, title, body in sections]
    nav = node("nav", links, aria_label="Sections")
    body = node("body", _header(results), nav, node("main", parts))
    title = f"{results['dataset']} {results['edition']}: results"
    head = page_head(title, len(results["experiments"]))
    return f"<!DOCTYPE html>\n{node('html', head, body, lang='en')}\n"


def _header(results: Results) -> Markup:
    """Say what was scored, on what, how, and what came out first."""
    protocol, edition = results["protocol"], node("small", f"edition {results['edition']}")
    filled = f"{count(protocol['filled'])} filled" if protocol["filled"] else "none filled"
    scored = f"{plural(protocol['rows'], 'row')} of {protocol['split']} scored"
    facts = f" ({scored}, {filled}, smoothing: {protocol['smoothing']})."
    name = node("b", f"Protocol {protocol['name']}: ")
    return node(
        "header",
        node("h1", results["dataset"], " ", edition),
        node("p", _best(results["experiments"]), class_="best-line"),
        node("p", name, protocol["description"].rstrip("."), facts),
    )


def _best(experiments: Sequence[Experiment]) -> Children:
    """Name the best experiment, and say whether the next one is clearly behind."""
    ranked = [e for e in _ranked(experiments) if _score(e)["mean"] is not None]
    if not ranked:
        return "No experiment has a defined score."
    score, seeds = _score(ranked[0]), plural(len(ranked[0]["seeds"]), "seed")
    best = [
        "Best: ",
        node("strong", ranked[0]["name"]),
        ", mean CCC ",
        mean_sd(score["mean"], score.get("std")),
    ]
    if len(ranked) == 1:
        return best, f" over {seeds}."
    second = _score(ranked[1])
    lead = (score["mean"] or 0.0) - (second["mean"] or 0.0)
    reach = (score.get("std") or 0.0) + (second.get("std") or 0.0)
    verdict = "their intervals overlap" if lead <= reach else "their intervals do not overlap"
    return best, f" over {seeds}; {number(lead)} ahead of {ranked[1]['name']} ({verdict})."


def _score(experiment: Experiment, kind: str = "score") -> Score:
    return cast("Mapping[str, Score]", experiment["scores"])[kind]


def _ranked(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Order by mean score, the best first, undefined ones last."""

    def place(experiment: Experiment) -> tuple[bool, float]:
        mean = _score(experiment)["mean"]
        return mean is None, -(mean or 0.0)

    return sorted(experiments, key=place)


def _results(experiments: Sequence[Experiment]) -> Children:
    """Compare all experiments in one table, the best first."""
    if not experiments:
        return calm("No experiment was run.")
    scale = charts.Scale(*charts.extent(_reach(experiments)), 8, charts.ROW_WIDTH - 8)
    means = {kind: [_score(e, kind)["mean"] for e in experiments] for kind in KINDS}
    best = {k: max((m for m in of if m is not None), default=None) for k, of in means.items()}
    number_of = {experiment["name"]: index for index, experiment in enumerate(experiments)}
    rows = [_row(e, number_of[e["name"]], best, scale) for e in _ranked(experiments)]
    heads = [_result_head(*head, scale) for head in HEADS]
    return framed(heads, rows, "results"), note(RESULTS_NOTE)


def _reach(experiments: Sequence[Experiment]) -> list[float | None]:
    """List everything that the interval charts have to hold."""
    reach: list[float | None] = []
    for score in map(_score, experiments):
        reach += score["values"]
        if score["mean"] is not None:
            half = score.get("std") or 0.0
            reach += [score["mean"] - half, score["mean"] + half]
    return reach


def _result_head(title: str, key: str | None, first: str | None, scale: charts.Scale) -> Markup:
    if key is None:
        return node("th", title, charts.interval_axis(scale), scope="col", class_="chart")
    side = "text" if key in ("experiment", "streams", "encoder") else "number"
    order = "descending" if key == "score" else None
    return node(
        "th", title, scope="col", class_=side, data_key=key, data_first=first, aria_sort=order
    )


def _row(e: Experiment, series: int, best: dict[str, float | None], scale: charts.Scale) -> Markup:
    """Write one experiment; cells know their heading (narrow screens) and value (sorting)."""
    score, look = _score(e), paint(series)
    head = node("small", f"{e['head']} ({e['variant']})")
    streams = [node("div", stream_name(stream)) for stream in e["streams"]]
    cells = [
        _cell("Experiment", (swatch(look), node("b", e["name"]), head), e["name"], "text name"),
        _cell("Streams", streams, " ".join(e["streams"]), "text streams"),
        _cell("Width", count(e["width"]) if e["width"] else "none", e["width"]),
        _cell("Encoder", e["encoder"], e["encoder"], "text"),
    ]
    for kind, title in KINDS.items():
        mean, std = _score(e, kind)["mean"], _score(e, kind).get("std")
        mark = " best" if mean is not None and mean == best[kind] else ""
        cells.append(_cell(title, mean_sd(mean, std), mean, "number" + mark))
    chart = charts.interval_row(e["seeds"], score["values"], score["mean"], score.get("std"), scale)
    cells.append(node("td", chart, class_=f"chart {look}", data_label="Mean per seed"))
    cells += [_cell(key.title(), count(e[key]), e[key]) for key in ("rows", "parameters")]
    return node("tr", cells)


def _cell(title: str, text: Children, value: object, side: str = "number") -> Markup:
    known = "" if value is None else value
    return node("td", text, class_=side, data_label=title, data_value=known)


def _learning(experiments: Sequence[Experiment]) -> Children:
    """Draw small multiples with common axes, one per experiment."""
    curves = [[_curve(run) for run in experiment["runs"]] for experiment in experiments]
    flat = [curve for several in curves for curve in several if curve.epochs]
    if not flat:
        return calm("No learning curves were recorded.")
    epochs = [float(epoch) for curve in flat for epoch in curve.epochs]
    scores = charts.extent(score for curve in flat for score in curve.scores)
    losses = charts.extent(loss for curve in flat for loss in curve.losses)
    domains = (min(epochs), max(*epochs, min(epochs) + 1)), scores, losses
    panels = [
        node(
            "figure",
            node("figcaption", swatch(paint(index)), node("b", experiment["name"])),
            charts.learning_chart(several, index, domains),
            _runs(experiment["runs"]),
        )
        for index, (experiment, several) in enumerate(zip(experiments, curves, strict=True))
    ]
    return node("div", panels, class_="multiples"), note(CURVES_NOTE)


def _curve(run: Run) -> charts.Curve:
    curve, seed, best = run["curve"], run["seed"], run["best_epoch"]
    return charts.Curve(seed, curve["epoch"], curve["score"], curve["train_loss"], best)


def _runs(runs: Sequence[Run]) -> Markup:
    """List the runs behind one panel."""
    heads = ("Seed", "Epoch", *KINDS.values(), "Run")
    rows: list[list[Children]] = []
    for run in runs:
        scores = [number(run["valence"]), number(run["arousal"]), number(run["score"])]
        kept = f"{run['best_epoch']} of {run['epochs']}"
        rows.append([str(run["seed"]), kept, *scores, run["digest"][:8]])
    return details(plural(len(rows), "run"), table(heads, rows, text=(5,), kind="runs"))


def _traces(results: Results) -> Children:
    """Draw every track, with one switch per experiment and a picker for the track."""
    traces, names = results["traces"], [e["name"] for e in results["experiments"]]
    if not traces:
        return calm("No predictions over time were written.")
    best = {experiment["name"] for experiment in _ranked(results["experiments"])[:SHOWN]}
    switches = [_switch(index, name, name in best) for index, name in enumerate(names)]
    tracks = [node("option", trace["track"], value=trace["track"]) for trace in traces]
    tracks.append(node("option", f"all {len(traces)} tracks", value=""))
    picker = node("label", "Track ", node("select", tracks), class_="picker", hidden=True)
    key = node("span", swatch("annotation"), "annotation")
    controls = node("div", picker, node("div", key, switches, class_="switches"), class_="controls")
    panels = [track_figure(trace, names, hidden=index > 1) for index, trace in enumerate(traces)]
    return node("div", controls, panels, note(TRACES_NOTE), class_="traces")


def _switch(index: int, name: str, checked: bool) -> Markup:
    box = node("input", type="checkbox", id=f"show-{index}", checked=checked, autocomplete="off")
    return node("label", box, swatch(paint(index)), name, class_=paint(index))


def _method(coverage: Coverage, results: Results) -> Children:
    """Define the score and show every setting and recipe."""
    settings = [experiment["settings"] for experiment in results["experiments"]]
    heads = [(swatch(paint(i)), e["name"]) for i, e in enumerate(results["experiments"])]
    recipes = [
        details(
            (name, node("small", f" recipe {stream['digest'][:12]}")),
            pretty({"digest": stream["digest"], "recipe": stream["recipe"]}),
        )
        for name, stream in coverage["streams"].items()
    ]
    return (
        node("p", FORMULA, class_="formula"),
        node("ul", [node("li", text) for text in SCORE_NOTES.splitlines()]),
        node("h3", "Settings"),
        comparison(heads, settings) if any(settings) else calm("No settings were recorded."),
        node("h3", "Recipes"),
        recipes or calm("There are no streams."),
    )
