"""What stage one's README shows works as it is written there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from concord.cache import FeatureStore
from concord.extract import build_backbone, open_audio, open_video
from concord.pipelines.config import parse_config

README = Path(__file__).parents[2] / "extract" / "README.md"
COMMAND = [sys.executable, "-m", "concord.pipelines", "extract", "run"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def data(tmp_path, media):
    frames = [media.picture(k) for k in range(6)]
    media.write(tmp_path / "mine" / "batch1" / "1.mp4", frames, sound=media.tone(1))
    media.labels(tmp_path / "mine" / "VA_Set" / "Train_Set" / "1.txt", 6)
    return tmp_path / "mine"


def run(folder, *words):
    done = subprocess.run(
        [*COMMAND, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_backbone_of_ones_own(tmp_path, data):
    (code,) = [block for block in blocks("python") if "class Colours" in block]
    (tmp_path / "colours.py").write_text(code)
    (streams,) = [block for block in blocks("yaml") if "colours" in block]
    config = f"data: {{adapter: affwild2, name: mine, path: {data}}}\n{streams}"
    (tmp_path / "my.yaml").write_text(config)
    told = run(tmp_path, "--config", "my.yaml", "--store", "features")
    assert "1 tracks; 0 of 1 sources in quarantine" in told
    rows = FeatureStore(tmp_path / "features")["visual/colours"]["1"].rows
    images = np.stack([frame.image for frame in open_video(data / "batch1" / "1.mp4")])
    # 64 pixels are shrunk to 32, which leaves the mean as it is, but for rounding.
    assert np.allclose(rows, images.mean((1, 2)) / 255, atol=0.01)


def test_dense_streams_are_configured_so():
    (text,) = [block for block in blocks("yaml") if "dense" in block]
    streams = parse_config(yaml.safe_load(text)).streams
    assert {name: (s.window.dense, s.window.edge) for name, s in streams.items()} == {
        "visual/i3d": (1, "replicate"),
        "visual/r3d18": (8, "black"),
    }


def test_a_store_from_a_folder_and_names_of_streams(tmp_path, data):
    words = ["--data", "mine", "--store", "features", "--stream", "visual/resnet18"]
    words += ["--stream", "audio/resnet18", "--weights", "visual/resnet18=seeded"]
    told = run(tmp_path, *words)
    assert told.startswith("mine@")
    store = FeatureStore(tmp_path / "features")
    assert [stream.name for stream in store.streams()] == [
        "audio/resnet18",
        "labels/va",
        "visual/resnet18",
    ]
    for stream in store.streams():
        assert stream["1"].valid.any()
    assert run(tmp_path, *words) == told


def test_the_lines_of_python(data, monkeypatch):
    path = data / "batch1" / "1.mp4"
    assert [(frame.index, frame.image.shape) for frame in open_video(path)] == [
        (k, (64, 64, 3)) for k in range(6)
    ]
    first = next(open_audio(path, 44_100))
    assert (first.rate, first.samples.dtype) == (44_100, np.float32)
    assert build_backbone("resnet18").dim == 512
