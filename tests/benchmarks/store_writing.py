"""Writing 1.2 GB into a store against numpy.save on the same disk, fsync included on both sides.

    python tests/benchmarks/store_writing.py [--items 400] [--folder DIR]

400 items of 3,000 rows of 512 float16, through the store's writer and into one .npy file, in turns;
five paired runs, medians. Memory is the highest anonymous memory (RssAnon) during the writing,
beyond what the process held after imports and the making of the input.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import h5py  # noqa: F401 - imported before memory is measured, as zarr is
import numpy as np
import zarr.codecs  # noqa: F401
from concord.cache import FeatureStore, NewItem, ShardFormat

ROWS, DIM, PAIRS = 3000, 512, 5


def anonymous() -> float:
    """Anonymous memory of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


class Highest:
    """The highest anonymous memory while a block runs, looked at every 2 ms."""

    def __enter__(self) -> Highest:
        self._before, self.beyond, self._on = anonymous(), 0.0, True
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while self._on:
            self.beyond = max(self.beyond, anonymous() - self._before)
            time.sleep(0.002)

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()


def save(path: Path, values: np.ndarray) -> float:
    """Seconds of numpy.save and fsync."""
    begun = time.perf_counter()
    with path.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())
    spent = time.perf_counter() - begun
    path.unlink()
    return spent


def write(path: Path, values: np.ndarray, form: str) -> tuple[float, float]:
    """Seconds of writing the same rows as items of a store, and MiB that it took."""
    valid, times = np.ones(ROWS, bool), np.arange(ROWS) / 30
    with Highest() as highest:
        begun = time.perf_counter()
        store = FeatureStore.create(path, ShardFormat(form))
        with store.create_stream("visual/bench", {"version": 1}).writer() as writer:
            for i in range(0, len(values), ROWS):
                # A copy, as an extraction makes each item anew.
                rows = values[i : i + ROWS].copy()
                writer.add(NewItem(key=f"k{i}", track=f"t{i}", rows=rows, valid=valid, times=times))
        spent = time.perf_counter() - begun
    shutil.rmtree(path)
    return spent, highest.beyond


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    values = random.standard_normal((options.items * ROWS, DIM), np.float32).astype(np.float16)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for form in ("zarr", "hdf5"):
            ratios, speeds, memory = [], [], 0.0
            for _ in range(PAIRS):
                plain = save(folder / "plain.npy", values)
                spent, beyond = write(folder / form, values, form)
                ratios.append(plain / spent)
                speeds.append(values.nbytes / 1e6 / spent)
                memory = max(memory, beyond)
            print(
                f"{form}: {values.nbytes / 1e6:.0f} MB at {statistics.median(speeds):.0f} MB/s, "
                f"{statistics.median(ratios):.2f} of numpy.save; memory at most {memory:.0f} MiB"
            )


if __name__ == "__main__":
    main()
