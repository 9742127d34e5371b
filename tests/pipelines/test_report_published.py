"""Published figures beside ours."""

import json

from .pages import parse, parts, table_of


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
