"""Two workers of one thread each, on a local Dask cluster, beside one process of two threads.

    python tests/benchmarks/cluster.py [--sources 24] [--rows 120] [--pairs 3]

resnet18 with seeded weights at crop 112, over films of 320 x 240, each time into a new store. Pairs
run in turns. Timed is the whole of `extract` and of `extract_on`, from the first look at the data
to the last shard: hashing, decoding, computing and publishing; and so is, on both sides, the
loading of the backbone. Not timed is the start of a process: Python, torch, Dask, the cluster. What
each side takes with everything stored (loading and looking) is printed as well.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from concord.cache import FeatureStore
from concord.extract.affwild2 import scan
from concord.extract.cluster import extract_on
from concord.extract.connection import connected
from concord.extract.engine import extract
from concord.extract.settings import VisualSettings
from concord.pipelines.device import prepared_device, set_up_torch
from extraction import make_data

if TYPE_CHECKING:
    from concord.extract.receipt import Receipt

STREAMS = {"visual/resnet18": VisualSettings(weights="seeded", resize=112, crop=112)}


def seconds(run: Callable[..., Receipt], root: Path, store: Path, sources: int) -> float:
    """Seconds of a run that must succeed."""
    begun = time.perf_counter()
    receipt = run(scan(root), STREAMS, FeatureStore.create(store))
    spent = time.perf_counter() - begun
    assert not receipt.quarantine
    assert len(receipt.items["visual/resnet18"]) == sources
    return spent


def main() -> None:
    """Run the pairs and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=24)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    rows = options.sources * options.rows
    set_up_torch(2)
    set_up = partial(prepared_device, "cpu")
    with tempfile.TemporaryDirectory() as folder, connected("local:2", threads=2) as client:
        root = make_data(Path(folder) / "data", options.rows, options.sources)
        spread = partial(extract_on, client, set_up=set_up, device="cpu")
        sides = {"plain": extract, "dask": spread}
        for name, run in sides.items():
            seconds(run, root, Path(folder) / f"{name}-first", options.sources)
            again = seconds(run, root, Path(folder) / f"{name}-first", options.sources)
            print(f"{name}: {again:.1f} s with everything stored", flush=True)
        ratios = []
        for k in range(options.pairs):
            spent = {
                name: seconds(run, root, Path(folder) / f"{name}-{k}", options.sources)
                for name, run in sides.items()
            }
            ratios.append(spent["plain"] / spent["dask"])
            speeds = ", ".join(f"{name} {rows / s:.1f} rows/s" for name, s in spent.items())
            print(f"pair {k + 1}: {speeds}, ratio {ratios[-1]:.2f}", flush=True)
        print(f"two workers of one thread: {statistics.median(ratios):.2f} x one process of two")


if __name__ == "__main__":
    main()
