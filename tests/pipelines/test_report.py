import csv
import json
import re
from copy import deepcopy

import pytest
from concord.cache.errors import DataError
from concord.pipelines.report import COLUMNS, write_report

from .pages import CHROMIUM, in_browser, parse, parts, table_of

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x00\ud800 & <b>"


def test_numbers_are_those_of_the_input(write, results):
    page = write()
    report = json.loads(page.with_name("report.json").read_text())
    lines = list(csv.DictReader(page.with_name("report.csv").open()))
    assert tuple(lines[0]) == COLUMNS
    assert report["protocol"] == results["protocol"]
    for given, record, line in zip(
        results["experiments"], report["experiments"], lines, strict=True
    ):
        assert record["experiment"] == line["experiment"] == given["name"]
        assert record["seeds"] == [0, 1, 2]
        assert line["seeds"] == "0 1 2"
        assert int(line["parameters"]) == record["parameters"] == given["parameters"]
        for kind, of in given["scores"].items():
            assert float(line[f"{kind}_mean"]) == record[f"{kind}_mean"] == of["mean"]
            assert float(line[f"{kind}_std"]) == record[f"{kind}_std"] == of["std"]
            low, high = given["intervals"][kind]
            assert (record[f"{kind}_low"], record[f"{kind}_high"]) == (low, high)
            assert (float(line[f"{kind}_low"]), float(line[f"{kind}_high"])) == (low, high)
    assert "seconds" not in page.with_name("report.json").read_text()


def test_page_names_everything_and_loads_nothing(write, results):
    page = write().read_text()
    for text in (*(e["name"] for e in results["experiments"]), "no moov", "in quarantine"):
        assert text in page
    assert "2 of 13 sources in quarantine, 3 allowed" in page
    assert "0.150 ahead of mean / visual (their spreads over seeds do not overlap)" in page
    assert set(re.findall(r"https?://[^\"' ]*", page)) == {"http://www.w3.org/2000/svg"}
    seen = parse(page)
    assert not [attrs for _, attrs in seen if "src" in attrs]
    ids = [attrs["id"] for _, attrs in seen if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert [attrs["data-track"] for _, attrs in seen if "hidden" in attrs and "data-track" in attrs]


def hostile(value):
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return HOSTILE + value if isinstance(value, str) else value


def test_hostile_text_is_escaped(write, coverage, results):
    coverage, results = hostile(coverage), hostile(results)
    for trace in results["traces"]:
        trace["predictions"] = {HOSTILE + k: v for k, v in trace["predictions"].items()}
    coverage["streams"] = {HOSTILE + k: v for k, v in coverage["streams"].items()}
    page = write(coverage=coverage, results=results)
    seen = parse(page.read_text())
    assert [tag for tag, _ in seen].count("script") == 1
    assert not {"img"} & {tag for tag, _ in seen}
    assert not [attrs for _, attrs in seen if any(key.startswith("on") for key in attrs)]
    assert len(list(csv.reader(page.with_name("report.csv").open()))) == 4


def test_intervals_and_counts_are_in_the_table(write, results):
    second = results["experiments"][1]
    second.update(filled=70, without_value=["video9"], in_quarantine=["video9", "102_<left>"])
    results["experiments"][2]["intervals"] = dict.fromkeys(("valence", "arousal", "score"))
    page = write()
    heads, first, third, last = table_of(page.read_text())
    at = heads.index("Mean")
    assert first[at].split() == ["0.510", "±", "0.012", "[0.45,", "0.57]"]
    assert third[at].split() == ["0.360", "±", "0.012"]
    assert parts(last[heads.index("Rows")]) == ["700", "70 filled"]
    told = ["concat (paper)", "1 track without any value", "2 tracks in quarantine"]
    assert parts(last[0])[1:] == told
    assert 'title="video9, 102_&lt;left&gt;"' in page.read_text()
    assert "700 rows of val scored, 0 to 70 of them filled, smoothing: none" in page.read_text()
    lines = list(csv.DictReader(page.with_name("report.csv").open()))
    counts = [[line[name] for line in lines] for name in ("filled", "without_value")]
    assert counts == [["0", "70", "0"], ["0", "1", "0"]]
    assert [line["in_quarantine"] for line in lines] == ["0", "2", "0"]
    assert [line["score_low"] == "" for line in lines] == [False, False, True]


def test_folds_are_told_and_compared_within_one(write, results):
    for number, one in enumerate(results["experiments"]):
        one.update(fold=f"six:{number}", rows=700 + number)
    page = write()
    _, *rows = table_of(page.read_text())
    heads = ["jca", "mean", "concat"]
    told = [f"{head} (paper), fold six:{i}" for head, i in zip(heads, (0, 2, 1), strict=True)]
    assert [parts(row[0])[1] for row in rows] == told
    text = page.read_text()
    assert "(700 to 702 rows of each fold scored" in text
    assert "3 folds, each with tracks of its own: scores compare within one." in text
    # Each is the best of its fold.
    assert text.count('<td class="number best"') == 9
    lines = list(csv.DictReader(page.with_name("report.csv").open()))
    assert [line["fold"] for line in lines] == ["six:0", "six:1", "six:2"]


def test_many_experiments_are_a_page_that_can_be_read(write, results):
    one = results["experiments"][0]
    results["experiments"] = [
        {**deepcopy(one), "name": f"jca / audio+visual, width {number}"} for number in range(200)
    ]
    for number, each in enumerate(results["experiments"]):
        each["scores"]["score"]["mean"] = number / 1000
    names = [each["name"] for each in results["experiments"]]
    shown = names[-12:]
    for trace in results["traces"]:
        series = next(iter(trace["predictions"].values()))
        trace["predictions"] = dict.fromkeys(shown, series)
    page = write().read_text()
    parse(page)
    assert len(table_of(page)) == 201
    assert page.count('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 280') == 24
    assert "Of the 24 best experiments" in page
    assert page.count('type="checkbox"') == 12
    assert len(list(csv.reader((write().with_name("report.csv")).open()))) == 201


def drop(*path):
    def change(coverage, results):
        place = {"coverage": coverage, "results": results}
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = type(place[path[-1]])()

    return change


def undefined(_, results):
    for one in results["experiments"]:
        empty = {"mean": None, "std": None, "values": [None] * 3}
        one["scores"] = {kind: dict(empty) for kind in one["scores"]}
        del one["scores"]["score"]["std"]


def single(_, results):
    results["experiments"] = results["experiments"][:1]
    results["traces"] = []


def no_rows(_, results):
    for trace in results["traces"]:
        trace.update(times=[], labels={"valence": [], "arousal": []}, predictions={})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (drop("coverage", "quarantine"), "Nothing in quarantine"),
        (drop("coverage", "streams"), "There are no streams"),
        (drop("coverage", "tracks"), "Coverage of 0 tracks"),
        (drop("results", "traces"), "No predictions over time"),
        (undefined, "No experiment has a defined score."),
        (single, "Best: <strong>jca / audio+visual</strong>"),
        (no_rows, "0 rows, 0 labelled"),
    ],
)
def test_gaps_in_the_input_are_told(write, coverage, results, change, text):
    change(coverage, results)
    page = write().read_text()
    parse(page)
    assert text in page


def test_no_experiment_at_all(write, results):
    results.update(experiments=[], traces=[])
    assert "No experiment was run." in write().read_text()


def test_two_writes_are_identical(write):
    first, second = write(out="one"), write(out="two")
    names = ["index.html", "report.csv", "report.json"]
    assert sorted(path.name for path in first.parent.iterdir()) == names
    for name in names:
        assert first.with_name(name).read_bytes() == second.with_name(name).read_bytes()


@pytest.mark.parametrize(
    ("kind", "path", "value", "words"),
    [
        ("coverage", ("version",), 2, "'version': expected 1, found 2"),
        ("results", ("version",), True, "'version': expected a whole number, found True"),
        ("results", ("edition",), "other", "'edition': expected '3fa9c1d2e4b5' as in"),
        ("results", ("experiments", 0, "rows"), "7", r"'experiments\[0\].rows': expected a whole"),
        ("results", ("experiments", 1, "runs"), {}, r"'experiments\[1\].runs': expected a list"),
        ("results", ("experiments", 1, "name"), "jca / audio+visual", "a name used once"),
        (
            "results",
            ("traces", 0, "times", 3),
            None,
            r"'traces\[0\].times\[3\]': expected a number",
        ),
        ("results", ("traces", 0, "times"), [0.0], r"labels.valence': expected 1 values, found 40"),
        ("results", ("traces", 0, "predictions", "y"), {"valence": [], "arousal": []}, "'traces"),
        ("results", ("protocol", "filled"), float("nan"), "NaN is not JSON"),
        ("results", ("experiments", 0, "fold"), 3, r"'experiments\[0\].fold': expected text"),
        ("results", ("experiments", 0, "window"), [], r"\[0\].window': expected an object"),
        ("results", ("experiments", 2, "filled"), None, r"\[2\].filled': expected a whole number"),
        ("results", ("experiments", 0, "without_value"), "x", r"without_value': expected a list"),
        ("results", ("experiments", 0, "in_quarantine"), [3], r"in_quarantine\[0\]': expected te"),
        ("results", ("experiments", 0, "intervals", "score"), 0.5, "score': expected a list"),
        (
            "results",
            ("experiments", 1, "intervals", "arousal"),
            [0.5],
            r"'experiments\[1\].intervals.arousal': expected 2 values, found 1 values",
        ),
        ("results", ("traces", 0, "clock"), 1, r"traces\[0\].clock': expected true or false"),
        (
            "coverage",
            ("streams", "audio/resnet18", "dim"),
            1.5,
            "streams.audio/resnet18.dim': expected a whole number, found 1.5",
        ),
        (
            "coverage",
            ("tracks", 0, "streams", "x"),
            3,
            "streams.x': expected an object, found 3",
        ),
    ],
)
def test_malformed_input_names_file_and_key(write, coverage, results, kind, path, value, words):
    place = {"coverage": coverage, "results": results}[kind]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(DataError, match=words) as caught:
        write()
    assert f"{kind}.json" in str(caught.value)


def test_missing_keys_and_files(write, results, tmp_path):
    del results["protocol"]["smoothing"]
    with pytest.raises(DataError, match=r"'protocol.smoothing': expected a value, found none"):
        write()
    with pytest.raises(DataError, match="expected a readable file"):
        write_report(tmp_path / "none.json", tmp_path / "results.json", tmp_path / "out")
    (tmp_path / "results.json").write_text("[1e999]")
    with pytest.raises(DataError, match="1e999 is out of range"):
        write_report(tmp_path / "results.json", tmp_path / "results.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chromium-browser on the path")
@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("sort=score", ["jca / audio+visual", "mean / visual", "concat / audio"]),
        ("sort=arousal&order=ascending", ["concat / audio", "mean / visual", "jca / audio+visual"]),
        (
            "sort=experiment&order=ascending",
            ["concat / audio", "jca / audio+visual", "mean / visual"],
        ),
    ],
)
def test_page_runs_in_a_browser(write, tmp_path, order, names):
    url = f"{write().as_uri()}#{order}&track=102"
    seen = parse(in_browser(url, tmp_path))
    assert dict(seen)["html"]["data-script"] == "ready"
    assert [a["data-value"] for t, a in seen if t == "td" and "name" in a["class"].split()] == names
    shown = [
        a["data-track"]
        for t, a in seen
        if t == "figure" and "data-track" in a and "hidden" not in a
    ]
    assert shown == ["102"]
