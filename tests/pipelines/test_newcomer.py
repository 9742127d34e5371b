"""The README's paths, typed as it says: a folder in Aff-Wild2's layout, and videos with a table."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from concord.cache import FeatureStore
from concord.pipelines.demo import make_demo
from concord.pipelines.demo_media import encode_mp4, publish_file

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TEMPLATE = "CVPR_6th_ABAW_VA_test_set_example.txt"
SMALL = {
    "base": "demo",
    "failure_budget": 0.5,
    "streams": {
        "visual/resnet18": {"weights": "seeded", "resize": 64, "crop": 64},
        "audio/resnet18": {"weights": "seeded", "stride": 4},
    },
    "fuse": {"training": {"epochs": 2, "seeds": [0, 1]}},
}


def typed(folder, command):
    """Run what a newcomer types, in their folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def checked_and_run(folder, data, results):
    """Steps 2 to 4 of "Your own data"."""
    (folder / "my.yaml").write_text(yaml.safe_dump({**SMALL, "data": data, "results": results}))
    told = json.loads(typed(folder, "concord data check --config my.yaml --json"))
    # In the clone itself, the Snakefile need not be named.
    command = f"snakemake --snakefile {ROOT / 'Snakefile'} --cores 2 --configfile my.yaml"
    typed(folder, command)
    assert "Nothing to be done" in typed(folder, f"{command} --dry-run 2>&1")
    page = (folder / results / "report" / "index.html").read_text()
    assert "jca / audio+visual" in page
    with (folder / results / "report" / "report.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    return told


def test_a_folder_in_the_layout_of_affwild2(tmp_path):
    """From the folder to a submission that is sound."""
    data = tmp_path / "Aff-Wild2"
    make_demo(data, "tiny")
    film, held_out = next(data.rglob("video3.mp4")), 90
    shutil.copy(film, film.with_name("video77.mp4"))
    rows = [f"video77/{number:05d}.jpg," for number in range(1, held_out + 1)]
    (data / TEMPLATE).write_text("\n".join(["image_location,valence,arousal", *rows]) + "\n")
    told = checked_and_run(
        tmp_path, {"adapter": "affwild2", "name": "mine", "path": "Aff-Wild2"}, "results/mine"
    )
    assert told["splits"]["test"]["rows"] == held_out
    run = min((tmp_path / "results/mine/runs").glob("*/run.json")).parent
    out = f"--template Aff-Wild2/{TEMPLATE} --out submission.txt"
    typed(tmp_path, f"concord fuse submit {run} --data mine {out}")
    typed(tmp_path, f"concord data check-submission submission.txt --template Aff-Wild2/{TEMPLATE}")
    lines = (tmp_path / "submission.txt").read_text().splitlines()
    assert len(lines) == held_out + 1
    assert all(-1 <= float(x) <= 1 for line in lines[1:] for x in line.split(",")[1:])


def test_plain_videos_and_a_table(tmp_path):
    """Labels every 100 ms, two seconds late, of films at 25 frames a second."""
    columns = ("track", "media", "split", "labels", "rate", "delay_s")
    lines = [",".join(columns)]
    for k in range(6):
        noise = np.random.default_rng(k).integers(0, 256, (250, 64, 64, 3), np.uint8)
        sound = np.random.default_rng(k).normal(0, 0.1, 10 * 44_100).astype(np.float32)
        publish_file(tmp_path / f"films/v{k}.mp4", encode_mp4(noise, Fraction(25), sound, 0.0))
        t = np.arange(100) / 10
        rows = "".join(f"{np.sin(x + k):.4f},{np.cos(x + k):.4f}\n" for x in t)
        publish_file(tmp_path / f"gold/v{k}.csv", f"valence,arousal\n{rows}".encode())
        split = "train" if k < 4 else "val"
        lines.append(f"v{k},films/v{k}.mp4,{split},gold/v{k}.csv,10,2")
    (tmp_path / "tracks.csv").write_text("\n".join(lines) + "\n")
    data = {"adapter": "table", "name": "mine", "path": "tracks.csv"}
    told = checked_and_run(tmp_path, data, "results/mine")
    assert told["splits"]["train"]["tracks"] == 4
    store = FeatureStore(tmp_path / "results/mine/store")
    item = store["labels/va"]["v0"]
    # A label at 2 s is of what was seen at 0 s; the last two seconds have none.
    assert np.allclose(np.asarray(item.rows[0], float), [np.sin(2), np.cos(2)], atol=1e-3)
    assert np.asarray(item.valid).sum() == 80
    assert store["visual/resnet18"]["v0"].rows.shape == (100, 512)
