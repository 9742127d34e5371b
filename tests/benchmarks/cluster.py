"""Two workers of one thread each, on a local Dask cluster, beside one process of two threads.

    python tests/benchmarks/cluster.py [--sources 24] [--rows 120] [--pairs 3]

resnet18 with seeded weights at crop 112, over films of 320 x 240, each time into a new store. Pairs
run in turns. Timed is from the first look at the data to the last shard: hashing, decoding (the
start of the decoders included), computing, publishing. Not timed is what comes before: the start of
Python, torch and the cluster, and the loading of the backbone. On a machine that others use as well
the ratio of speeds says little; that of processor time, which is printed too, hardly depends on it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
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


def make_sources(root: Path, rows: int, sources: int) -> Path:
    """Make one film, and others of the same pictures that are different files."""
    make_data(root, rows)
    film = (root / "batch1" / "1.mp4").read_bytes()
    labels = root / "VA_Set" / "Train_Set"
    for k in range(2, sources + 1):
        # An empty box at the end, with a number in it.
        (root / "batch1" / f"{k}.mp4").write_bytes(film + struct.pack(">I4sI", 12, b"free", k))
        shutil.copy(labels / "1.txt", labels / f"{k}.txt")
    return root


def spent_so_far() -> tuple[float, float]:
    """Seconds by the clock, and of the processor in all our processes."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return time.perf_counter(), sum(each.user + each.system for each in times)


def seconds(
    run: Callable[..., Receipt], root: Path, store: Path, sources: int
) -> tuple[float, float]:
    """Seconds of a run that must succeed: by the clock, and of the processor."""
    looked: list[tuple[float, float]] = []
    receipt = run(
        scan(root),
        STREAMS,
        FeatureStore.create(store),
        progress=lambda *_: looked.append(spent_so_far()),
    )
    assert not receipt.quarantine, receipt.quarantine
    assert len(receipt.items["visual/resnet18"]) == sources
    clock, processor = (end - begin for begin, end in zip(looked[0], looked[-1], strict=True))
    return clock, processor


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
        root = make_sources(Path(folder) / "data", options.rows, options.sources)
        spread = partial(extract_on, client, set_up=set_up, device="cpu")
        sides = {"plain": extract, "dask": spread}
        ratios: list[list[float]] = []
        for k in range(options.pairs):
            spent = {
                name: seconds(run, root, Path(folder) / f"{name}-{k}", options.sources)
                for name, run in sides.items()
            }
            pair = [a / b for a, b in zip(spent["plain"], spent["dask"], strict=True)]
            ratios.append(pair)
            told = "; ".join(
                f"{name} {rows / clock:.1f} rows/s, {rows / processor:.1f} per processor second"
                for name, (clock, processor) in spent.items()
            )
            print(f"pair {k + 1}: {told}; ratios {pair[0]:.2f} and {pair[1]:.2f}", flush=True)
        clock, processor = (statistics.median(column) for column in zip(*ratios, strict=True))
        print(
            f"two workers of one thread: {clock:.2f} x the speed of one process of two, "
            f"{processor:.2f} x for the same processor time"
        )


if __name__ == "__main__":
    main()
