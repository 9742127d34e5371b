"""The README of the store: its code runs, and plain zarr and h5py read every array by it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from concord.cache import FeatureStore, NewItem, ShardFormat

README = Path(__file__).parents[2] / "cache" / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
FORMATS = [(name, compressed) for name in ("zarr", "hdf5") for compressed in (False, True)]

# Runs in a process of its own, in which importing concord is an error.
READER = """
import sys
sys.modules["concord"] = None
{code}
import numpy as np
tracks = read_tracks(Path(sys.argv[1]))
flat = {{f"{{track}}|{{name}}": values for track, found in tracks.items()
        for name, values in found.items()}}
np.savez(sys.argv[2], **flat)
"""


def items(count=20):
    random = np.random.default_rng(3)
    for k in range(count):
        rows = 100 + 37 * k
        yield NewItem(
            key=f"key{k}",
            track=f"track {k} é",
            rows=random.standard_normal((rows, 5)).astype(np.float16),
            valid=random.random(rows) < 0.7,
            times=random.random(rows),
            flags=random.integers(0, 2, rows).astype(np.uint8),
        )


@pytest.mark.parametrize(("name", "compressed"), FORMATS)
def test_zarr_and_h5py_alone_read_every_array(tmp_path, name, compressed):
    store = FeatureStore.create(tmp_path / "store", ShardFormat(name, compressed=compressed))
    stream = store.create_stream("visual/x", {"v": 1})
    with stream.writer() as writer:
        for item in items():
            writer.add(item)
    code = next(block for block in BLOCKS if "def read_tracks" in block)
    target = tmp_path / "read.npz"
    command = [sys.executable, "-c", READER.format(code=code), stream.place.path, str(target)]
    subprocess.run(command, check=True, timeout=60)
    with np.load(target) as found:
        assert len(found) == 4 * 20
        for item in items():
            for array, expected in item.arrays().items():
                values = found[f"{item.track}|{array}"]
                assert values.dtype == expected.dtype
                assert np.array_equal(values, expected)


def test_writing_and_reading_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reading, writing = (
        next(block for block in BLOCKS if text in block) for text in ("stream.gather", "writer.add")
    )
    rows = np.arange(500 * 4, dtype=np.float32).reshape(500, 4).astype(np.float16)
    scope = {
        "rows": rows,
        "valid": np.ones(500, bool),
        "times": np.arange(500) / 30,
        "media_sha256": "0" * 64,
    }
    exec(writing, scope)
    reading = reading.replace("results/demo/store", "my_store").replace("resnet18", "mine")
    for old, new in (("video3", "a"), ("video5", "a"), ("demo@3488ad", "mine@2026")):
        reading = reading.replace(old, new)
    exec(reading, scope)
    assert np.array_equal(scope["item"].rows, rows)
    windows = scope["stream"].gather(["a", "a"], [[0, 1, 2], [7, 8, -1]])
    assert np.array_equal(windows[0], rows[:3])
    assert not windows[1, 2].any()
    assert np.array_equal(scope["stream"].to_dask().compute(), rows)
    assert scope["stream"].of("mine@2026")["a"].key == scope["identity"].key


def test_the_layout_names_every_file(tmp_path):
    text = README.read_text()
    for name in ("zarr", "hdf5"):
        store = FeatureStore.create(tmp_path / name, ShardFormat(name))
        with store.create_stream("visual/x", {}).writer() as writer:
            writer.add(next(items()))
        for path in (tmp_path / name).rglob("*"):
            if path.is_file():
                first = path.relative_to(tmp_path / name).parts
                assert any(part in text for part in (path.name, f"{first[0]}/"))
