"""What training costs beside the head's own arithmetic, on a store of Aff-Wild2's size.

    python tests/benchmarks/training.py [--store FOLDER] [--share 1.0] [--only PART ...]

A store of 1.68 M training and 0.38 M validation rows is made (4.2 GB; `--share` makes a smaller
one): 512 visual and 512 audio dimensions, float16. Parts: `gather` batches beside NumPy's fancy
indexing over arrays in memory; `step` training steps beside the same steps on batches that are in
memory already, and beside a DataLoader with two workers over .npy maps; `rows` rows per second at
several widths; `memory` anonymous memory, resident and mapped; `load` reading the rows beside
numpy.fromfile. Figures are medians of paired ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from concord.cache import FeatureStore, Manifest, ManifestTrack, NewItem
from concord.fuse.evaluate import Problem
from concord.fuse.folds import fold_of
from concord.fuse.rows import Rows, load_rows
from concord.fuse.run import Run
from concord.fuse.scaling import Scaling
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings
from concord.fuse.state import State
from concord.fuse.training import Steps, build
from concord.pipelines.device import keep_memory, set_up_torch

STREAMS = ("audio/resnet18", "visual/resnet18")
DIM = 512
SPLITS = {"train": (356, 1_682_057), "val": (76, 383_814)}
PARTS = ("load", "gather", "step", "rows", "memory")
MAPPED = 1e-6


def make_store(path, share):
    """Write tracks of one length per split; every row is a random one of a pool, with noise."""
    store = FeatureStore.create(path)
    random = np.random.default_rng(0)
    pool = random.standard_normal((65_536, DIM), np.float32).astype(np.float16)
    streams = {s: store.create_stream(s, {"made": "up", "stream": s}) for s in STREAMS}
    labels = store.create_stream("labels/va", {"made": "up"})
    writers = {stream: stream.writer() for stream in (*streams.values(), labels)}
    tracks = []
    for split, (count, total) in SPLITS.items():
        rows = int(total * share / count)
        for number in range(count):
            name, times = f"{split}{number}", np.arange(rows) / 30
            items = {}
            for stream, writer in writers.items():
                if stream is labels:
                    x = random.uniform(-1, 1, (rows, 2))
                else:
                    x = pool[random.integers(0, len(pool), rows)]
                key = f"{name}-{stream.name}"
                ok = np.ones(rows, bool)
                writer.add(NewItem(key=key, track=name, rows=x, valid=ok, times=times))
                items[stream.full_name] = key
            tracks.append(
                ManifestTrack(
                    track=name,
                    source=name,
                    split=split,
                    family=name,
                    rows=rows,
                    rate=30.0,
                    items=items,
                )
            )
    for writer in writers.values():
        writer.publish()
    store.save_manifest(Manifest("big", "made", tuple(tracks)))


def opened(path):
    store = FeatureStore(path)
    return store, store.manifests()[0], {s: store[s] for s in STREAMS}, store["labels/va"]


def loaded(path, memory=100.0) -> Rows:
    store, manifest, streams, labels = opened(path)
    return load_rows(store, manifest, streams, labels, memory=memory)


def problem_of(rows, scaling=None):
    fold = fold_of(rows.tracks, "official")
    if scaling is None:
        scaling = Scaling.of(rows, STREAMS, fold.train[:8])
    return Problem(rows, STREAMS, fold.train, fold.val, scaling)


def experiment(head="jca", width=64, preset="livia", batch=64):
    return ExperimentSettings(
        head=head,
        streams=STREAMS,
        width=width,
        window=WindowSettings(preset=preset),
        training=TrainingSettings(batch=batch, epochs=1000),
    )


def timed(call):
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def paired(first, second, pairs):
    """Median of the time of the second over that of the first, called in turns."""
    found = []
    for pair in range(pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        spent = {side: timed((first, second)[side]) for side in order}
        found.append((spent[1] / spent[0], spent[0], spent[1]))
    return [statistics.median(column) for column in zip(*found, strict=True)]


def load(path, pairs):
    rows = loaded(path)
    flat = {stream: Path(path) / f"{stream.replace('/', '-')}.bin" for stream in STREAMS}
    for stream, file in flat.items():
        if not file.exists():
            rows.sources[stream].x.numpy().tofile(file)
    del rows

    def read():
        return [np.fromfile(file, np.float16) for file in flat.values()]

    size = sum(file.stat().st_size for file in flat.values()) / 1e9
    found = []
    for pair in range(pairs):
        order = ("ours", "fromfile") if pair % 2 == 0 else ("fromfile", "ours")
        spent = {side: float(told(path, "--once", side)) for side in order}
        found.append((spent["fromfile"] / spent["ours"], spent["ours"], spent["fromfile"]))
    ratio, ours, theirs = (statistics.median(column) for column in zip(*found, strict=True))
    print(
        f"load, as a run does in a process of its own: {ratio:.2f} of the speed of numpy.fromfile "
        f"({size:.2f} GB in {ours:.2f} s, fromfile {theirs:.2f} s)"
    )
    ratio, ours, theirs = paired(lambda: loaded(path), read, pairs)
    print(
        f"load, into memory that the process had before: {ratio:.2f} ({ours:.2f} s, fromfile "
        f"{theirs:.2f} s)",
        flush=True,
    )


def once(path, side):
    """Print the seconds of one loading."""
    files = [Path(path) / f"{stream.replace('/', '-')}.bin" for stream in STREAMS]
    ways = {
        "ours": lambda: loaded(path),
        "fromfile": lambda: [np.fromfile(file, np.float16) for file in files],
    }
    print(timed(ways[side]))


def told(path, *options):
    """What a process of its own prints."""
    command = [sys.executable, __file__, "--store", str(path), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def gather(path, pairs):
    held = [source.x.numpy() for source in loaded(path).sources.values()]
    for memory, name in ((100.0, "resident"), (MAPPED, "mapped")):
        rows = loaded(path, memory)
        for preset, batch in (("livia", 64), ("sucv", 8)):
            settings = experiment(preset=preset, batch=batch)
            steps = Steps.of(problem_of(rows, Scaling({}, {})), settings)
            random = np.random.default_rng(0)
            chosen = [random.integers(0, len(steps.windows), batch) for _ in range(200)]
            numbers = [steps.windows.rows(each) for each in chosen]

            def ours(rows=rows, steps=steps, chosen=chosen):
                for each in chosen:
                    rows.batch(STREAMS, steps.windows.rows(each))

            def numpy(numbers=numbers):
                for each in numbers:
                    for x in held:
                        x[each]

            ours()
            numpy()
            ratio, spent, _ = paired(ours, numpy, pairs)
            print(
                f"gather {preset}, {name}: {ratio:.2f} of NumPy's fancy indexing "
                f"({200 * batch / spent:,.0f} windows/s, "
                f"{200 * numbers[0].size / spent:,.0f} rows/s)",
                flush=True,
            )


class Held:
    """Rows whose batches lie in memory."""

    def __init__(self, rows, batches):
        self.rows, self.batches, self.at = rows, batches, 0

    def __getattr__(self, name):
        return getattr(self.rows, name)

    def batch(self, streams, numbers):
        del streams, numbers
        self.at += 1
        return self.batches[(self.at - 1) % len(self.batches)]


class Windows(torch.utils.data.Dataset):
    """Windows from .npy maps, as one would write it."""

    def __init__(self, files, windows, labels):
        self.files, self.windows, self.labels, self.maps = files, windows, labels, None

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, at):
        if self.maps is None:
            self.maps = [np.load(file, mmap_mode="r") for file in self.files]
        numbers = self.windows.rows(np.array([at]))[0]
        return [torch.from_numpy(x[numbers]) for x in self.maps], self.labels[numbers], numbers


def stepping(problem, settings):
    run = Run(settings, 0)
    state = State([run], [build(problem, settings, 0)])
    steps = Steps.of(problem, settings)
    return lambda: steps.take(state)


def step(path, pairs, count=100):
    rows = loaded(path)
    problem = problem_of(rows)
    settings = experiment()
    steps = Steps.of(problem, settings)
    random = np.random.default_rng(1)
    numbers = [
        steps.windows.rows(random.integers(0, len(steps.windows), (1, 64))) for _ in range(count)
    ]
    batches = [rows.batch(STREAMS, each) for each in numbers]
    held = problem_of(Held(rows, batches), problem.scaling)
    ours, theirs = stepping(problem, settings), stepping(held, settings)
    for take in (ours, theirs):
        for _ in range(5):
            take()
    ratio, kept, mine = paired(
        lambda: [theirs() for _ in range(count)], lambda: [ours() for _ in range(count)], pairs
    )
    per_epoch = steps.per_epoch
    print(
        f"step jca, width 64: {ratio:.3f} x the same steps on batches in memory "
        f"({mine / count * 1e3:.1f} and {kept / count * 1e3:.1f} ms; an epoch of {per_epoch} steps "
        f"takes {mine / count * per_epoch:.0f} s)",
        flush=True,
    )
    files = []
    for stream in STREAMS:
        files.append(Path(path) / f"{stream.replace('/', '-')}.npy")
        if not files[-1].exists():
            np.save(files[-1], rows.sources[stream].x.numpy())
    data = Windows(files, steps.windows, rows.labels)
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True, num_workers=2)
    passing = iter(loader)
    next(passing)

    def workers():
        for number in range(count):
            features, _, _ = next(passing)
            batch = batches[number]
            batch.features.update(zip(STREAMS, [x[None] for x in features], strict=True))
            theirs()

    ratio, slow, _ = paired(workers, lambda: [ours() for _ in range(count)], pairs)
    print(
        f"with a DataLoader of two workers: {slow / mine:.2f} x ours ({slow / count * 1e3:.1f} ms)"
    )


def rows_per_second(path, pairs, count=40):
    problem = problem_of(loaded(path))
    for width in (0, 64, 128):
        settings = experiment(width=width)
        take = stepping(problem, settings)
        for _ in range(3):
            take()
        spent = statistics.median(timed(take) for _ in range(count))
        print(f"rows/s of jca, width {width}: {64 * 16 / spent:,.0f} ({spent * 1e3:.1f} ms a step)")


def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def held_memory(path, memory):
    before = anonymous()
    problem = problem_of(loaded(path, memory))
    take = stepping(problem, experiment())
    peak = 0
    for _ in range(60):
        take()
        peak = max(peak, anonymous())
    rows = problem.rows
    size = sum(len(rows) * rows.sources[s].dim * 2 for s in STREAMS)
    print(f"{(peak - before) / 2**20:.0f} MiB anonymous, {(peak - before) / size:.2f} of the rows")


def memory(path):
    for budget, name in ((100.0, "resident"), (MAPPED, "mapped")):
        print(f"memory, {name}: {told(path, '--memory', str(budget))}", flush=True)


def main() -> None:
    """Run the parts and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="/tmp/concord-benchmark-store")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--memory", type=float)
    parser.add_argument("--once", choices=("ours", "fromfile"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    set_up_torch(options.threads)
    keep_memory()
    if options.memory:
        held_memory(options.store, options.memory)
        return
    if options.once:
        once(options.store, options.once)
        return
    if not Path(options.store).exists():
        print(f"store made in {timed(lambda: make_store(options.store, options.share)):.0f} s")
    timings = {"load": load, "gather": gather, "step": step, "rows": rows_per_second}
    for part in options.only:
        if part == "memory":
            memory(options.store)
        else:
            timings[part](options.store, options.pairs)


if __name__ == "__main__":
    main()
