import re
import xml.etree.ElementTree as ET

import pytest
from concord.pipelines import report_charts as charts
from concord.pipelines import report_traces as traces
from concord.pipelines.report_style import join, node, number


def test_geometry():
    up = charts.Scale(-1, 1, 156, 0)
    assert (up(-1), up(0), up(0.5)) == (156, 78, 39)
    assert charts.ticks(-1, 1) == [-1, -0.5, 0, 0.5, 1]
    assert charts.ticks(0, 22.9, 8) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]
    assert charts.extent([0.2, None, 0.7]) == pytest.approx((0.18, 0.72))
    assert charts.line_path([0, 1, 2, 3], [5.0, 6.04, None, 7]) == "M0 5L1 6M3 7h0"
    assert charts.band_path([0, 1], [4.0, 4], [6.0, 6]) == "M0 4L1 4L1 6L0 6Z"
    assert traces.spread([50, 52, 10], 17, 8, 148) == [50, 67, 10]
    assert traces.spread([147, 148], 17, 8, 148) == [131, 148]


def test_a_score_lands_on_its_pixel():
    score = {"mean": 0.25, "std": 0.1, "values": [0.25]}
    row = ET.fromstring(charts.interval_row([7], score, [0.125, 0.5], charts.Scale(0, 1, 0, 160)))
    circle = row.find(".//{*}circle")
    assert circle.get("cx") == "40"
    assert circle[0].text == "seed 7: 0.25"
    whiskers = [line for line in row.iter() if "whisker" in line.get("class", "")]
    assert [(line.get("x1"), line.get("x2")) for line in whiskers] == [
        ("20", "80"),
        ("20", "20"),
        ("80", "80"),
    ]
    undefined = {"mean": None, "std": None, "values": [None]}
    bare = charts.interval_row([7], undefined, None, charts.Scale(0, 1, 0, 160))
    assert "whisker" not in bare
    panel = traces.trace_panel("t: valence", [0, 1, 2], [None, 0.0, 0.5], [], ((0, 2), (-1, 1)))
    assert ET.fromstring(panel).find(".//{*}path").get("d") == "M500 78L1000 39"


def test_bands_stay_within_their_panel():
    prediction = {"valence": [0.0, 1.0], "arousal": [0.0, 0.5], "valence_std": [0.9, 0.5]}
    labels = {"valence": [0.1, None], "arousal": [None, 0.2]}
    trace = {"track": "t", "times": [0.0, 1.0], "clock": True, "labels": labels}
    trace["predictions"] = {"x": prediction}
    figure = ET.fromstring(traces.track_figure(trace, ["x"], hidden=False))
    (band,) = (path for path in figure.iter() if path.get("class") == "band e0 c0")
    heights = [float(y) for y in re.findall(r" ([-.0-9]+)", band.get("d"))]
    assert len(heights) == 4
    assert 0 <= min(heights) < max(heights) <= traces.TRACE_HEIGHT


def test_long_series_keep_their_extremes_and_gaps():
    xs = [row / 10 for row in range(10_000)]
    ys = [float(row % 97) for row in range(10_000)]
    ys[5000], ys[7000] = 500.0, None
    places, kept = traces.thin(xs, ys)
    assert len(kept) <= 3000
    assert max(value for value in kept if value is not None) == 500.0
    assert kept[places.index(700.0)] is None


def test_elements():
    assert (
        node("a", "<", class_="x", data_y='"', hidden=False)
        == '<a class="x" data-y="&quot;">&lt;</a>'
    )
    assert join(["<", node("b", ("x", "&"))]) == "&lt;<b>x&amp;</b>"
    assert number(-0.5) == "\N{MINUS SIGN}0.500"
    assert number(None) == "\N{EN DASH}"
