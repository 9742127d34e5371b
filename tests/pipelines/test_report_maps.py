"""Maps on the page."""

import base64
import io

import numpy as np
import pytest
from concord.cache.errors import DataError
from PIL import Image

from .pages import CHROMIUM, in_browser, parse


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
    seen = parse(in_browser(url, tmp_path))
    figures = [a for t, a in seen if t == "figure" and "hidden" not in a]
    assert [a["data-window"] for a in figures if "data-window" in a] == [window]
    assert [a["data-track"] for a in figures if "data-track" in a] == ["102"]
