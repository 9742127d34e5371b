"""Checking a data set of Aff-Wild2's size, and planning its workflow.

    python tests/benchmarks/data_check.py [--folder DIR] [--faces]

A generated folder: 594 tracks of 578 sources, 356 for training, 76 for validation and 162 of a test
template with 927,210 rows; label files of the corpus' lengths (quartiles 2,530, 4,002 and 6,100
rows, from 73 to 47,435, about 3 million in all); media files that are empty. With --faces also an
empty file for each row's face crop, which takes minutes to make. Every figure is a fresh process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
TRAIN, VAL, TEST, SOURCES = 356, 76, 162, 578
LABELLED_ROWS, TEST_ROWS = 1_682_057 + 383_814, 927_210
QUARTILES = {0: 73, 0.25: 2530, 0.5: 4002, 0.75: 6100, 0.97: 11_000, 1: 47_435}
STREAMS = {
    "visual/i3d": {"weights": "seeded"},
    "visual/r3d18": {},
    "visual/resnet18": {},
    "visual/resnet18-faces": {"reads": "faces"},
    "audio/resnet18": {},
}
REPEATS = 3


def lengths(count: int, total: int) -> list[int]:
    """Give track lengths of the corpus' distribution that sum to a total."""
    at = np.linspace(0, 1, count)
    rows = np.interp(at, list(QUARTILES), list(QUARTILES.values()))
    rows = np.maximum(73, np.rint(rows * total / rows.sum()).astype(int))
    rows[count // 2] += total - rows.sum()
    return np.random.default_rng(0).permutation(rows).tolist()


def names() -> list[str]:
    """Name the tracks of 578 sources, 16 of which have two."""
    sources = [f"{k}-30-1280x720" for k in range(501, 651)] + [f"video{k}" for k in range(98)]
    sources += [str(k) for k in range(1150, 1480)]
    pairs = [f"{source}_{side}" for source in sources[:16] for side in ("left", "right")]
    return [*pairs, *sources[16:]]


def label_text(rows: int, random: np.random.Generator) -> str:
    """Write labels as the corpus does: steps of three decimals, half of them repeated."""
    steps = random.uniform(-1, 1, (rows // 2 + 1, 2)).round(3).repeat(2, axis=0)[:rows]
    return "\n".join(["valence,arousal", *(f"{v},{a}" for v, a in steps.tolist())]) + "\n"


def make(folder: Path, *, faces: bool) -> None:
    """Write the data set."""
    random = np.random.default_rng(1)
    tracks = names()
    counts = lengths(TRAIN + VAL, LABELLED_ROWS) + lengths(TEST, TEST_ROWS)
    labels = folder / "6th ABAW Annotations" / "VA_Estimation_Challenge"
    template = ["image_location,valence,arousal"]
    for k, (track, rows) in enumerate(zip(tracks, counts, strict=True)):
        source = track.removesuffix("_left").removesuffix("_right")
        media = folder / f"batch{1 + k % 2}" / f"{source}.mp4"
        if not track.endswith("_right"):
            media.parent.mkdir(parents=True, exist_ok=True)
            media.touch()
        crops = folder / "cropped_aligned" / track
        crops.mkdir(parents=True)
        for row in range(1, rows + 1) if faces else (1,):
            (crops / f"{row:05d}.jpg").touch()
        if k < TRAIN + VAL:
            path = labels / ("Train_Set" if k < TRAIN else "Validation_Set") / f"{track}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(label_text(rows, random))
        else:
            template += [f"{track}/{row:05d}.jpg," for row in range(1, rows + 1)]
    (folder / "CVPR_6th_ABAW_VA_test_set_sample.txt").write_text("\n".join(template) + "\n")


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Give the fastest of some runs in seconds, and what the last one printed."""
    spent: list[float] = []
    computed: list[float] = []
    text = ""
    for _ in range(REPEATS):
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        spent.append(time.perf_counter() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        computed.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        text = done.stdout + done.stderr
    for what, each in (("elapsed", spent), ("processor time", computed)):
        print(f"   {what}:", " ".join(f"{seconds:.2f}" for seconds in each))
    return min(spent), text


def main() -> None:
    """Make the data set, run everything and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--faces", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make(folder / "data", faces=options.faces)
        python = [sys.executable, "-m"]
        check = [*python, "concord.pipelines", "data", "check", "--data", "data", "--json"]
        spent, text = timed(check, folder)
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
        every = found["splits"]["all"]
        print(
            f"concord data check: {spent:.2f} s for {every['tracks']} tracks, {every['sources']} "
            f"sources, {every['rows']:,} rows (fastest of {REPEATS}); release {found['release']}"
        )
        one = {"head": "concat", "streams": ["audio/resnet18"]}
        data = {"adapter": "affwild2", "path": "data"}
        config = {"data": data, "streams": STREAMS, "results": "results"}
        config |= {"fuse": {"experiments": [one]}}
        (folder / "config.json").write_text(json.dumps(config))
        flags = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.json"]
        spent, text = timed([*python, "snakemake", "-n", *flags, "--cores", "2"], folder)
        jobs = [line for line in text.splitlines() if line.startswith("total ")]
        print(
            f"snakemake -n: {spent:.2f} s over {len(STREAMS)} streams, {jobs[0] if jobs else text}"
        )
        parse = "import sys, json, time; from concord.pipelines.plan import Plan\n"
        parse += "begun = time.perf_counter(); plan = Plan.of(json.load(open('config.json')))\n"
        parse += "[plan.stamp(g, p) for g in plan.groups for p in plan.parts]\n"
        parse += "print(time.perf_counter() - begun)"
        _, text = timed([sys.executable, "-c", parse], folder)
        print(f"of which the plan: {statistics.fmean(map(float, text.split())):.2f} s")


if __name__ == "__main__":
    main()
