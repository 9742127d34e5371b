"""What eight seeds cost at once beside the same eight one after another.

    python tests/benchmarks/ensembles.py [--pairs N] [--head NAME] [--widths 0 32 128]

Both sides take the same training steps (gather, forward, loss, backward, clipping, AdamW) over rows
in memory, batch 64, windows of 16; the figure is the median of paired ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from concord.cache import ManifestTrack
from concord.fuse.evaluate import Problem
from concord.fuse.groups import why_apart
from concord.fuse.rows import Rows
from concord.fuse.run import Run
from concord.fuse.scaling import Scaling
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings
from concord.fuse.sources import Resident
from concord.fuse.state import State
from concord.fuse.training import Steps, build
from concord.pipelines.device import keep_memory, set_up_torch

STREAMS = ("audio/resnet18", "visual/resnet18")
SEEDS = range(8)


def problem(rows=60_000, dim=512):
    generator = torch.Generator().manual_seed(0)
    track = ManifestTrack(track="t", source="t", split="train", family="t", rows=rows, rate=30.0)
    made = Rows(
        tracks=(track,),
        firsts=(0,),
        sources={s: Resident(torch.randn(rows, dim, generator=generator).half()) for s in STREAMS},
        valid={s: torch.ones(rows, dtype=torch.bool) for s in STREAMS},
        labels=torch.rand(rows, 2, generator=generator) * 2 - 1,
        labelled=torch.ones(rows, dtype=torch.bool),
        times=np.arange(rows) / 30,
        face=np.ones(rows, bool),
    )
    return Problem(made, STREAMS, (0,), (0,), Scaling.of(made, STREAMS, (0,)))


def states(given, experiment, members):
    runs = [Run(experiment, seed) for seed in SEEDS]
    groups = [runs[first : first + members] for first in range(0, len(runs), members)]
    return [State(g, [build(given, experiment, run.seed) for run in g]) for g in groups]


def timed(steps, some, count):
    begun = time.perf_counter()
    for state in some:
        for _ in range(count):
            steps.take(state)
    return time.perf_counter() - begun


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--head", default="jca")
    parser.add_argument("--widths", type=int, nargs="+", default=[0, 32, 64, 128])
    parser.add_argument("--members", type=int, default=8, help="trained at once")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    set_up_torch(options.threads)
    keep_memory()
    given = problem()
    for width in options.widths:
        experiment = ExperimentSettings(
            head=options.head,
            streams=STREAMS,
            width=width,
            dropout=0.1,
            window=WindowSettings(preset="livia"),
            training=TrainingSettings(batch=64),
        )
        steps = Steps.of(given, experiment)
        both = [states(given, experiment, members) for members in (options.members, 1)]
        count = max(2, int(0.5 / max(timed(steps, both[0], 3) / 3, 1e-4)))
        timed(steps, both[1], 2)
        ratios = []
        for pair in range(options.pairs):
            order = (0, 1) if pair % 2 == 0 else (1, 0)
            spent = {side: timed(steps, both[side], count) for side in order}
            ratios.append((spent[0] / spent[1], spent[0] / count / 8 * 1e3))
        heads = [build(given, experiment, seed) for seed in (0, 1)]
        dims = given.rows.dims(STREAMS)
        why = why_apart(experiment, heads, dims, "cpu") or "at once"
        ratio, spent = (statistics.median(column) for column in zip(*ratios, strict=True))
        print(
            f"{options.head}, width {width}, {options.threads} threads: at once {ratio:.2f} x one "
            f"by one ({spent:.2f} ms per member and step); concord chooses: {why}",
            flush=True,
        )


if __name__ == "__main__":
    main()
