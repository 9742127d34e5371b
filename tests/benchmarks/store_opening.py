"""Opening a store, resolving items, and the private memory that reading takes.

    python tests/benchmarks/store_opening.py [--folder DIR]

Each figure is taken in a fresh process after imports, page cache warm; a store of 5 streams of 600
items, in shards of 16 items as an extraction leaves them and in merged shards; memory is the
anonymous memory (RssAnon) beyond what the process held after imports.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from concord.cache import FeatureStore
from concord.cache.collect import Roots, plan_collection
from concord.cache.compact import compact

STREAMS, ITEMS, PAIRS = 5, 600, 5

CHILD = """
import sys, time
import numpy as np
import concord.cache.hdf5_format, concord.cache.stream, h5py, zarr
from concord.cache import FeatureStore, Item, Manifest, NewItem

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

def opened(path):
    store = FeatureStore(path)
    store.manifests()
    found = store.streams()
    count = sum(len(stream.items) for stream in found)
    found[0]["track0"]
    return found, count

what, path, items = sys.argv[1], sys.argv[2], int(sys.argv[3])
np.random.default_rng(0).random(10)
before = anonymous()
if what == "open":
    begun = time.perf_counter()
    found, count = opened(path)
    spent = time.perf_counter() - begun
    names = [f"track{i}" for i in range(items)]
    for stream in found:
        stream["track0"]
    begun = time.perf_counter()
    for stream in found:
        for name in names:
            stream[name]
    each = (time.perf_counter() - begun) / count
    print(spent * 1e3, each * 1e6, anonymous() - before)
else:
    stream = FeatureStore(path)["visual/bench0"]
    random = np.random.default_rng(1)
    length = stream["track0"].rows.shape[0]
    window = min(300, length)
    out = np.empty((32, window, stream.dim), np.float16)
    worst = 0.0
    for _ in range(200):
        tracks = [f"track{i}" for i in random.integers(0, items, 32)]
        firsts = random.integers(0, length - window + 1, 32)
        stream.gather(tracks, firsts[:, None] + np.arange(window), out)
        worst = max(worst, anonymous() - before)
    print(worst - out.nbytes / 2**20)
"""


def make(path: Path, streams: int, items: int, rows: int, dim: int, *, form: str) -> None:
    """Write a store of equal items."""
    import numpy as np
    from concord.cache import FeatureStore, Manifest, ManifestTrack, NewItem, ShardFormat

    store = FeatureStore.create(path, ShardFormat(form))
    values = np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float16)
    listed: dict[int, dict[str, str]] = {i: {} for i in range(items)}
    for number in range(streams):
        stream = store.create_stream(f"visual/bench{number}", {"number": number})
        with stream.writer() as writer:
            for i in range(items):
                identity = {"recipe": stream.digest, "rows": rows, "inputs": {"media": f"{i:064x}"}}
                from concord.cache import digest

                key = digest(identity)
                listed[i][stream.full_name] = key
                writer.add(
                    NewItem(
                        key=key,
                        track=f"track{i}",
                        rows=values,
                        valid=np.ones(rows, bool),
                        times=np.arange(rows) / 30,
                        identity=identity,
                    )
                )
    tracks = [
        ManifestTrack(
            track=f"track{i}",
            source=f"track{i}",
            split="train",
            family=f"track{i}",
            rows=rows,
            rate=30.0,
            items=listed[i],
        )
        for i in range(items)
    ]
    store.save_manifest(Manifest("bench", "0" * 12, tuple(tracks)))


def measure(what: str, path: Path, items: int) -> list[list[float]]:
    """Figures of five fresh processes."""
    command = [sys.executable, "-c", CHILD, what, str(path), str(items)]
    runs = [subprocess.run(command, check=True, capture_output=True) for _ in range(PAIRS)]
    return [[float(value) for value in run.stdout.split()] for run in runs]


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for form in ("zarr", "hdf5"):
            make(folder / form, STREAMS, ITEMS, 60, 8, form=form)
            runs = measure("open", folder / form, ITEMS)
            spent, each, memory = (statistics.median(column) for column in zip(*runs, strict=True))
            store = FeatureStore(folder / form)
            for stream in store.streams():
                compact(store, stream)
            roots = Roots(streams=frozenset(stream.full_name for stream in store.streams()))
            plan_collection(store, roots, 0.0).delete()
            merged = statistics.median(run[0] for run in measure("open", folder / form, ITEMS))
            print(
                f"{form}: open {STREAMS} streams x {ITEMS} items {spent:.0f} ms in shards of 16 "
                f"items (fastest {min(runs)[0]:.0f}), {merged:.0f} ms merged; resolve an item "
                f"{each:.1f} us, private memory {memory:.1f} MiB"
            )
            for items in (50, 400):
                make(folder / f"{form}{items}", 1, items, 3000, 512, form=form)
                memory = statistics.median(
                    run[0] for run in measure("read", folder / f"{form}{items}", items)
                )
                size = items * 3000 * 512 * 2 / 1e6
                print(f"{form}: windows out of {size:.0f} MB, private memory {memory:.1f} MiB")


if __name__ == "__main__":
    main()
