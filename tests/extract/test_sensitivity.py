"""What a stream's rows tell of people, derived from its recipe."""

from __future__ import annotations

import pytest
from concord.extract.compute import LABEL_RECIPE
from concord.extract.sensitivity import sensitivity

OURS = {"backbone": "resnet18", "weights": "ab" * 32}


@pytest.mark.parametrize(
    ("stream", "recipe", "expected"),
    [
        ("visual/resnet18", OURS, "vectors"),
        ("visual/face@3fa9c1", {**OURS, "backbone": "i3d"}, "vectors"),
        ("visual/r3d18-dense", {**OURS, "backbone": "r3d18", "dense": 8}, "vectors"),
        ("audio/resnet18", OURS, "vectors"),
        ("audio/i3d", {**OURS, "backbone": "i3d"}, "media"),
        ("labels/va", LABEL_RECIPE, "media"),
        ("labels/va", OURS, "media"),
        ("text/bert", {**OURS, "backbone": "BertModel"}, "media"),
        ("visual/mine", {**OURS, "backbone": "faces:Thumbnail"}, "media"),
        ("visual/x", {"backbone": "resnet18"}, "media"),
        ("audio/logmel", {}, "media"),
        ("visual/x", {"backbone": ["resnet18"]}, "media"),
        ("visual/x", {"sensitivity": "vectors"}, "vectors"),
        ("visual/x", {"sensitivity": "metrics"}, "metrics"),
        ("visual/resnet18", {**OURS, "sensitivity": "media"}, "media"),
        ("visual/resnet18", {**OURS, "sensitivity": "Vectors"}, "media"),
        ("visual/resnet18", {**OURS, "sensitivity": ["vectors"]}, "media"),
    ],
)
def test_sensitivity(stream, recipe, expected):
    assert sensitivity(stream, recipe) == expected
