"""Reading speed of the store against a plain memory map and against the formats' own libraries.

    python tests/benchmarks/store_reading.py [--items 200] [--seconds 1.0] [--folder DIR]

200 items of 3,000 rows of 512 float16; random windows of 300 rows, each copied into a float16
buffer on both sides; page cache warm; five paired runs, the medians are printed. What is compared
runs in turns within one process, so a noisy machine changes both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from concord.cache import FeatureStore, Manifest, ManifestTrack, NewItem, ShardFormat
from torch.utils.data import default_collate

ROWS, DIM, WINDOW, BATCH, PAIRS = 3000, 512, 300, 32, 5


def make(folder: Path, items: int) -> None:
    """Write the same rows as one .npy file and as a store of each format."""
    random = np.random.default_rng(0)
    block = random.standard_normal((ROWS + items, DIM), np.float32).astype(np.float16)
    plain = np.lib.format.open_memmap(folder / "plain.npy", "w+", np.float16, (items * ROWS, DIM))
    stores = [FeatureStore.create(folder / name, ShardFormat(name)) for name in ("zarr", "hdf5")]
    streams = [store.create_stream("visual/bench", {"version": 1}) for store in stores]
    writers = [stream.writer() for stream in streams]
    keys = {f"track{i}": f"key{i:060}" for i in range(items)}
    for i, (track, key) in enumerate(keys.items()):
        rows = block[i : i + ROWS]
        plain[i * ROWS : (i + 1) * ROWS] = rows
        times = np.arange(ROWS) / 30
        for writer in writers:
            writer.add(
                NewItem(key=key, track=track, rows=rows, valid=np.ones(ROWS, bool), times=times)
            )
    plain.flush()
    for store, stream, writer in zip(stores, streams, writers, strict=True):
        writer.publish()
        tracks = [
            ManifestTrack(
                track=track,
                source=track,
                split="train",
                family=track,
                rows=ROWS,
                rate=30.0,
                items={stream.full_name: key},
            )
            for track, key in keys.items()
        ]
        store.save_manifest(Manifest("bench", "0" * 12, tuple(tracks)))


class Windows:
    """Random windows, the same for every reader."""

    def __init__(self, items: int, count: int = 4096) -> None:
        random = np.random.default_rng(1)
        self.items = random.integers(0, items, count).tolist()
        self.firsts = random.integers(0, ROWS - WINDOW + 1, count).tolist()


def rate(copy, windows: Windows, seconds: float) -> float:
    """Windows per second of copy(item, first, buffer)."""
    buffer = np.zeros((WINDOW, DIM), np.float16)
    done, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        for item, first in zip(windows.items[:256], windows.firsts[:256], strict=True):
            copy(item, first, buffer)
        done += 256
        windows.items = windows.items[256:] + windows.items[:256]
        windows.firsts = windows.firsts[256:] + windows.firsts[:256]
    return done / spent


def plain_reader(folder: Path):
    """Windows out of one .npy memory map."""
    plain = np.load(folder / "plain.npy", mmap_mode="r")

    def copy(item, first, buffer):
        at = item * ROWS + first
        buffer[...] = plain[at : at + WINDOW]

    return copy


def store_reader(folder: Path, name: str):
    """Windows out of a store, by memory map."""
    stream = FeatureStore(folder / name)["visual/bench"]
    rows = [stream[f"track{i}"].rows for i in range(len(stream.items))]

    def copy(item, first, buffer):
        rows[item].read_into(first, buffer)

    return copy


def library_reader(folder: Path, name: str):
    """Windows out of the same files, read by zarr or h5py alone."""
    import h5py
    import zarr

    stream = FeatureStore(folder / name)["visual/bench"]
    place: dict[int, tuple] = {}
    for shard in stream.shards:
        if name == "zarr":
            x = zarr.open_array(f"{shard.path}/x", mode="r")
        else:
            x = h5py.File(f"{shard.path}/shard.h5", "r")["x"]
        place |= {int(e.track[5:]): (x, e.first) for e in shard.entries.values()}

    def copy(item, first, buffer):
        x, start = place[item]
        buffer[...] = x[start + first : start + first + WINDOW]

    return copy


def batches(folder: Path, items: int, seconds: float) -> tuple[float, float, float]:
    """Batches per second: memory map with default collate, gather (zarr), gather (hdf5)."""
    plain = np.load(folder / "plain.npy", mmap_mode="r")
    streams = [FeatureStore(folder / name)["visual/bench"] for name in ("zarr", "hdf5")]
    names = [f"track{i}" for i in range(items)]
    random = np.random.default_rng(2)
    out = torch.empty(BATCH, WINDOW, DIM, dtype=torch.float16)
    steps = np.arange(WINDOW)

    def draw():
        return random.integers(0, items, BATCH), random.integers(0, ROWS - WINDOW + 1, BATCH)

    def collated():
        chosen, firsts = draw()
        at = (chosen * ROWS + firsts).tolist()
        return default_collate([torch.from_numpy(plain[a : a + WINDOW].copy()) for a in at])

    def gathered(stream):
        chosen, firsts = draw()
        stream.gather([names[i] for i in chosen], firsts[:, None] + steps, out)

    def speed(work, *arguments):
        done, begun = 0, time.perf_counter()
        while (spent := time.perf_counter() - begun) < seconds:
            work(*arguments)
            done += 1
        return done / spent

    return speed(collated), speed(gathered, streams[0]), speed(gathered, streams[1])


def drop_caches(folder: Path) -> None:
    """Ask the system to forget the files' pages."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def sequential(folder: Path, items: int, *, cold: bool) -> None:
    """Print MB/s of reading every item from first to last, and of cold random windows."""
    buffer = np.zeros((ROWS, DIM), np.float16)
    for name in ("plain", "zarr", "hdf5"):
        if cold:
            drop_caches(folder)
        copy = None
        begun = time.perf_counter()
        if name == "plain":
            plain = np.load(folder / "plain.npy", mmap_mode="r")
            for i in range(items):
                buffer[...] = plain[i * ROWS : (i + 1) * ROWS]
        else:
            stream = FeatureStore(folder / name)["visual/bench"]
            for i in range(items):
                stream[f"track{i}"].rows.read_into(0, buffer)
        scan = items * buffer.nbytes / 1e6 / (time.perf_counter() - begun)
        line = f"  {name:6} {'cold' if cold else 'warm'} scan {scan:8.0f} MB/s"
        if cold:
            drop_caches(folder)
            copy = plain_reader(folder) if name == "plain" else store_reader(folder, name)
            windows, window = Windows(items, 400), np.zeros((WINDOW, DIM), np.float16)
            begun = time.perf_counter()
            for item, first in zip(windows.items, windows.firsts, strict=True):
                copy(item, first, window)
            speed = 400 * window.nbytes / 1e6 / (time.perf_counter() - begun)
            line += f", cold random windows {speed:6.0f} MB/s"
        print(line)


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make(folder, options.items)
        print(f"{options.items} items x {ROWS} rows x {DIM} float16, windows of {WINDOW} rows")
        sequential(folder, options.items, cold=True)
        sequential(folder, options.items, cold=False)
        readers = {"plain": plain_reader(folder)}
        readers |= {kind: store_reader(folder, kind) for kind in ("zarr", "hdf5")}
        readers |= {f"{kind} library": library_reader(folder, kind) for kind in ("zarr", "hdf5")}
        found: dict[str, list[float]] = {reader: [] for reader in readers}
        for _ in range(PAIRS):
            for reader, copy in readers.items():
                found[reader].append(rate(copy, Windows(options.items), options.seconds))
        print(f"warm random windows/s, median of {PAIRS} paired runs:")
        for reader, rates in found.items():
            ratios = [mine / plain for mine, plain in zip(rates, found["plain"], strict=True)]
            print(
                f"  {reader:13} {statistics.median(rates):8.0f}  "
                f"{statistics.median(ratios):6.3f} of the memory map"
            )
        for kind in ("zarr", "hdf5"):
            pairs = zip(found[kind], found[f"{kind} library"], strict=True)
            times = statistics.median(mine / library for mine, library in pairs)
            print(f"  {kind} by memory map over its own library: {times:.1f} x")
        runs = [batches(folder, options.items, options.seconds) for _ in range(PAIRS)]
        for at, kind in ((1, "zarr"), (2, "hdf5")):
            times = statistics.median(run[at] / run[0] for run in runs)
            rates = statistics.median(run[at] for run in runs)
            print(
                f"gather of {BATCH} windows into a tensor, {kind}: {rates:.0f} batches/s, "
                f"{times:.2f} x memory map with default collate"
            )


if __name__ == "__main__":
    main()
