"""What dense passes cost beside stride-1 windows of 16 frames, per row of a clip of 60 s.

    python tests/benchmarks/dense.py [--windows 20] [--pairs 1] [--only r3d18] [--whole]

Seeded weights, one thread, noise that lies ready in the network's size, so decoding is left out.
Windows and dense passes run in turns, three times `--windows` windows around a chunk of one pass
and one of eight passes; what is printed are ratios of processor seconds, on which others on the
machine have little influence. Every row of a window costs the same, so windows are extrapolated to
the clip's 1,800 rows exactly. Of dense passes one chunk from the middle of the clip is measured,
which sees frames of both neighbours, and extrapolated to all chunks of the clip by their frames,
those that they share counted with each. `--whole` runs one pass over all of the clip instead.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from concord.extract.decoder import FrameChunk
from concord.extract.dense_stream import DenseStream
from concord.extract.settings import VisualSettings, WindowSettings
from concord.extract.visual import VisualStream

if TYPE_CHECKING:
    from concord.extract.dense import Chunk, Passes

NAMES = ("r3d18", "i3d")
COUNTS = (1, 8)
ROWS, SENT = 1800, 60
CPU = torch.device("cpu")


def settings_of(dense: int) -> VisualSettings:
    """Random weights, windows or passes."""
    return VisualSettings(weights="seeded", window=WindowSettings(dense=dense))


def noise(frames: int, side: int) -> torch.Tensor:
    """(3, frames, side, side) uint8."""
    return torch.randint(0, 256, (3, frames, side, side), dtype=torch.uint8)


def windows(stream: VisualStream, count: int) -> float:
    """Processor seconds of a row, in windows."""
    item = stream.begin("key", "track", count)
    clip = noise(stream.window.length, stream.preset.crop)
    begun = time.process_time()
    for row in range(count):
        stream.submit(item, row, clip, None)
    stream.flush()
    return (time.process_time() - begun) / count


def chunks_of(passes: Passes) -> list[Chunk]:
    """Give all chunks of the clip."""
    inner = (passes.chunk(number, ROWS, ended=False) for number in itertools.count())
    found = list(itertools.takewhile(bool, inner))
    return [*found, passes.chunk(len(found), ROWS, ended=True)]


def chunk(stream: DenseStream) -> float:
    """Processor seconds of a row of the clip, from a chunk in the middle."""
    item = stream.begin("key", "track", ROWS)
    chunks = chunks_of(stream.passes)
    found = chunks[1]
    rows = range(found.first_row, ROWS, stream.stride)[: found.cells]
    clip = noise(found.frames, stream.preset.crop)
    begun = time.process_time()
    stream.submit_chunk(item, rows, found.context, clip, None)
    spent = time.process_time() - begun
    return spent / found.frames * sum(each.frames for each in chunks) / ROWS


def whole(stream: DenseStream) -> float:
    """Processor seconds of a row, over the whole clip, its pictures cut into chunks."""
    item = stream.begin("key", "track", ROWS)
    side = stream.preset.crop
    images = np.random.default_rng(0).integers(0, 256, (SENT, side, side, 3), np.uint8)
    begun = time.process_time()
    for first in range(0, ROWS, SENT):
        item.add(FrameChunk(np.arange(first, first + SENT), images))
    item.end()
    spent = time.process_time() - begun
    assert item.done
    assert item.item().valid.all()
    return spent / ROWS


def compare(name: str, count: int, pairs: int, *, all_of_it: bool) -> None:
    """Print the ratios of a backbone."""
    plain = VisualStream(f"visual/{name}", settings_of(0), CPU)
    dense = {n: DenseStream(f"visual/{name}", settings_of(n), CPU) for n in COUNTS}
    ratios: dict[int, list[float]] = {n: [] for n in COUNTS}
    windows(plain, 4)
    before = windows(plain, count)
    for _ in range(pairs):
        for passes, stream in dense.items():
            spent = chunk(stream)
            after = windows(plain, count)
            ratios[passes].append(spent / ((before + after) / 2))
            print(
                f"  {name}: a row {before:.3f} s, {passes} x {spent:.3f} s, {after:.3f} s",
                flush=True,
            )
            before = after
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{name}: at most {peak} MiB, two networks and torch included", flush=True)
    for passes, found in ratios.items():
        print(f"{name}, {passes} passes: {statistics.median(found):.3f} of windows", flush=True)
    if all_of_it:
        spent = whole(dense[1])
        after = windows(plain, count)
        ratio = spent / ((before + after) / 2)
        print(f"{name}, 1 pass, all {ROWS} rows: {ratio:.3f} of windows", flush=True)


def main() -> None:
    """Run all and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in [options.only] if options.only else NAMES:
        compare(name, options.windows, options.pairs, all_of_it=options.whole)


if __name__ == "__main__":
    main()
