import base64
import csv
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from copy import deepcopy
from html.parser import HTMLParser

import numpy as np
import pytest
from concord.cache.errors import DataError
from concord.pipelines.report import COLUMNS, write_report
from concord.pipelines.report_style import VOID
from PIL import Image

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x00\ud800 & <b>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    "--enable-logging=stderr",
)


class Balance(HTMLParser):
    """Collects the elements of a page and insists that each is closed where it should be."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(page):
    reader = Balance()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        assert ET.fromstring(svg).get("aria-label")
    return reader.seen


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


def table_of(page):
    """The table of results as text: headings, then the cells of each line."""
    table = page.partition('<table class="results">')[2].partition("</table>")[0]
    table = re.sub(r"<svg.*?</svg>", "", table, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in table.split("<tr>")[1:]]
    return [[re.sub(r"<.*?>", "  ", cell).strip() for cell in row] for row in cells]


def parts(cell):
    return [part for part in re.split(" {2,}", cell) if part]


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
    command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    seen = parse(done.stdout)
    assert dict(seen)["html"]["data-script"] == "ready"
    assert [a["data-value"] for t, a in seen if t == "td" and "name" in a["class"].split()] == names
    shown = [
        a["data-track"]
        for t, a in seen
        if t == "figure" and "data-track" in a and "hidden" not in a
    ]
    assert shown == ["102"]


def published(results, *lines):
    """Ask for published figures beside experiments of some heads, streams and encoders."""
    like = results["experiments"][0]
    results["published"] = True
    results["experiments"] = [
        like
        | {"name": f"{head} {n}", "head": head, "encoder": encoder}
        | {"streams": [f"{stream}@3fa9c1d2" for stream in streams]}
        | {"strides": [8 if "visual" in stream else 1 for stream in streams]}
        for n, (head, streams, encoder) in enumerate(lines)
    ]
    results["traces"] = []
    return results


def test_published_figures_stand_beside_ours_and_say_how_they_differ(write, coverage, results):
    audio = "audio/resnet18"
    results = published(
        results,
        ("jca", [audio, "visual/i3d"], "none, tcn"),
        ("jca", [audio, "visual/r3d18"], "none"),
        ("jca:tbiom", [audio, "visual/i3d-left"], "none, tcn"),
        ("leader_follower", [audio, "visual/i3d"], "none"),
        ("jca_any", [audio, "visual/i3d"], "none"),
    )
    results["experiments"][2]["variant"] = "code"
    i3d = {**coverage["streams"]["visual/resnet18"], "recipe": {"backbone": "i3d"}}
    coverage["streams"] = {"visual/i3d-left": i3d}
    coverage["edition"] = results["edition"] = "ABAW3-3fa9c1d2e4b5"
    page = write(coverage=coverage, results=results)
    found = {
        e["experiment"]: e["published"]
        for e in json.loads(page.with_name("report.json").read_text())["experiments"]
    }
    exact, r3d, code, leader, none = found.values()
    assert [(each["validation"], each["differs"]) for each in exact] == [([0.663, 0.584], [])]
    assert [each["validation"] for each in r3d] == [None, [0.663, 0.584]]
    assert [each["differs"] for each in r3d] == [[], ["visual: i3d+tcn"]]
    assert code[0]["differs"] == ["variant"]
    assert leader[0]["differs"] == ["variant"]
    assert "Schoneveld" in leader[0]["note"]
    assert leader[1]["validation"] == [0.469, 0.649]
    assert "labels: ABAW2" in leader[1]["differs"]
    assert none == []
    assert all("arXiv" in each["source"] for several in found.values() for each in several)
    # They are cells of their own: nothing is ranked by them, and the table of numbers lacks them.
    table = table_of(page.read_text())
    at = table[0].index("Published V / A")
    cells = {parts(row[0])[0]: parts(row[at]) for row in table[1:]}
    assert cells["jca 0"] == ["0.663 / 0.584"]
    streams = table[0].index("Streams")
    assert parts(table[1][streams])[-1] == "stride 8"
    assert cells["jca 1"] == ["0.663 / 0.584", "differs: visual: i3d+tcn"]
    assert cells["jca_any 4"] == ["none for this method"]
    assert "0.663" not in page.with_name("report.csv").read_text()
    parse(page.read_text())


def test_without_being_asked_for_no_published_figure_is_shown(write):
    page = write()
    assert "Published" not in page.read_text()
    assert "published" not in page.with_name("report.json").read_text()


@pytest.fixture
def with_maps(results):
    """Three windows of one experiment, each map a checkerboard of 2 by 4 with its own range."""
    cells = base64.b64encode(bytes([0, 255] * 4)).decode()
    one = {"shape": [128, 256], "size": [2, 4], "low": -0.5, "high": 1.0, "cells": cells}
    windows = [
        {
            "track": "102",
            "rows": [k, k + 15],
            "times": [k / 10, k / 10 + 1.5],
            "maps": {"C_a": dict(one)},
        }
        for k in (0, 20, 40)
    ]
    name = results["experiments"][0]["name"]
    results["maps"] = [{"experiment": name, "seed": 0, "windows": windows}]
    return results


def test_maps_are_pictures_with_their_range(write, with_maps):
    page = write(results=with_maps).read_text()
    images = [attrs for tag, attrs in parse(page) if tag == "img"]
    assert [image["alt"] for image in images] == ["C_a, 128 by 256"] * 3
    assert "rows 20 to 35 (2.0 to 3.5 s)" in page
    data = images[0]["src"].removeprefix("data:image/png;base64,")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
    assert picture.shape == (2, 4, 3)
    low, high = picture[0, 0], picture[0, 1]
    # Below zero is blue, above is red, and as strong as it is far from zero.
    assert low[2] > low[0]
    assert high[0] > high[2]
    assert abs(255 - low).sum() < abs(255 - high).sum()
    assert (picture[:, ::2] == low).all()


@pytest.mark.parametrize("change", [{"cells": "AAAA"}, {"cells": "?"}, {"size": [2]}])
def test_a_map_that_does_not_fit_its_size_is_refused(write, with_maps, change):
    with_maps["maps"][0]["windows"][1]["maps"]["C_a"].update(change)
    with pytest.raises(DataError, match=r"maps\[0\]\.windows\[1\]\.maps\.C_a\.cells"):
        write(results=with_maps)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chromium-browser on the path")
@pytest.mark.parametrize("window", ["0", "2"])
def test_a_window_can_be_picked(write, with_maps, tmp_path, window):
    url = f"{write(results=with_maps).as_uri()}#window={window}&track=102"
    command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    figures = [a for t, a in parse(done.stdout) if t == "figure" and "hidden" not in a]
    assert [a["data-window"] for a in figures if "data-window" in a] == [window]
    assert [a["data-track"] for a in figures if "data-track" in a] == ["102"]
