"""The page of the report: one HTML file that explains itself and loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import report_charts as charts
from .report_coverage import coverage_section, quarantine_section
from .report_maps import maps_section
from .report_published import published_section, references
from .report_results import KINDS, folds_of, ranked, results_table, score_of
from .report_style import (
    DASH,
    MINUS,
    Children,
    Markup,
    calm,
    comparison,
    count,
    details,
    mean_sd,
    node,
    note,
    number,
    page_head,
    paint,
    plural,
    pretty,
    swatch,
    table,
)
from .report_traces import trace_panels

if TYPE_CHECKING:
    from .report_schema import Coverage, Experiment, Results, Run

SHOWN = 3
"""Experiments drawn over a trace at first, the best ones; the others are one click away."""
MOST = 24
"""Experiments with learning curves and settings on the page, the best ones; tables have all."""
CURVES_NOTE = (
    "One line per seed, axes common to all panels; the circle marks the epoch kept. Of many "
    f"experiments, the {MOST} best."
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
    "recordings.\n"
    "[ , ] is the 95 % bootstrap interval of that mean, drawn over families of tracks: how far "
    "other recordings might move it. Two heads are compared on the same recordings, in pairs, by "
    "concord fuse compare."
)


def render_page(coverage: Coverage, results: Results) -> str:
    """Write the whole page; the same input gives the same bytes."""
    beside = references(coverage, results)
    published = [("published", "Published figures", published_section(beside))] if beside else []
    sections = (
        ("results", "Results", results_table(results["experiments"], beside)),
        *published,
        ("learning", "Learning curves", _learning(_best_ones(results))),
        ("traces", "Predictions over time", _traces(results)),
        ("maps", "Attention and correlation maps", _maps(results)),
        ("coverage", "Data set card and coverage", coverage_section(coverage)),
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
    experiments = results["experiments"]
    rows = _range([e["rows"] for e in experiments] or [protocol["rows"]])
    filled = _range([e["filled"] for e in experiments] or [0])
    folds = folds_of(experiments)
    where = f"of {protocol['split']}" if folds in ([], ["official"]) else "of the fold"
    where = "of each fold" if len(folds) > 1 else where
    facts = f" ({rows} rows {where} scored, {filled} of them filled, "
    facts += f"smoothing: {protocol['smoothing']})."
    name = node("b", f"Protocol {protocol['name']}: ")
    return node(
        "header",
        node("h1", results["dataset"], " ", edition),
        node("p", _best(results["experiments"]), class_="best-line"),
        node("p", name, protocol["description"].rstrip("."), facts),
    )


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def _best_ones(results: Results) -> list[tuple[int, Experiment]]:
    """Choose the best experiments, in the order of the results, with their places there."""
    best = {e["name"] for e in ranked(results["experiments"])[:MOST]}
    return [(i, e) for i, e in enumerate(results["experiments"]) if e["name"] in best]


def _best(experiments: Sequence[Experiment]) -> Children:
    """Name the best experiment, and say whether the next one is clearly behind."""
    if len(folds := folds_of(experiments)) > 1:
        return f"{len(folds)} folds, each with tracks of its own: scores compare within one."
    first, second, *_ = [*(e for e in ranked(experiments) if _mean(e) is not None), None, None]
    if first is None:
        return "No experiment has a defined score."
    score = score_of(first)["score"]
    best = [
        "Best: ",
        node("strong", first["name"]),
        ", mean CCC ",
        mean_sd(score["mean"], score.get("std")),
        f" over {plural(len(first['seeds']), 'seed')}",
    ]
    if second is None:
        return best, "."
    lead = (_mean(first) or 0.0) - (_mean(second) or 0.0)
    reach = sum(score_of(e)["score"].get("std") or 0.0 for e in (first, second))
    verdict = "overlap" if lead <= reach else "do not overlap"
    facts = f"; {number(lead)} ahead of {second['name']} (their spreads over seeds {verdict})."
    return best, facts


def _mean(experiment: Experiment) -> float | None:
    return score_of(experiment)["score"]["mean"]


def _learning(experiments: Sequence[tuple[int, Experiment]]) -> Children:
    """Draw small multiples with common axes, one per experiment."""
    curves = [[_curve(run) for run in experiment["runs"]] for _, experiment in experiments]
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
        for (index, experiment), several in zip(experiments, curves, strict=True)
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
    best = {experiment["name"] for experiment in ranked(results["experiments"])[:SHOWN]}
    return trace_panels(traces, names, best)


def _maps(results: Results) -> Children:
    return maps_section(results.get("maps", []), [e["name"] for e in results["experiments"]])


def _method(coverage: Coverage, results: Results) -> Children:
    """Define the score and show every setting and recipe."""
    chosen = _best_ones(results)
    settings = [experiment["settings"] for _, experiment in chosen]
    heads = [(swatch(paint(index)), experiment["name"]) for index, experiment in chosen]
    left = len(results["experiments"]) - len(chosen)
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
        note(f"Of the {MOST} best experiments; results.json has all.") if left else (),
        comparison(heads, settings) if any(settings) else calm("No settings were recorded."),
        node("h3", "Recipes"),
        recipes or calm("There are no streams."),
    )
