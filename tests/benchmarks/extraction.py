"""Stage one against a plain loop, and what decoding costs three streams that share it.

    python tests/benchmarks/extraction.py [--rows 48] [--pairs 3] [--threads 2] [--only three]

One 20 s clip of 320 x 240 at 30 frames/s, seeded weights. The plain loop does what video_features
does: it decodes frame by frame, resizes each with PIL (shorter side 256, centre crop 224), and
computes one window of 16 frames at a time in float32, unfolded, in torch's own layer order. Ours is
the whole of `extract`: hashing, decoding in a child, computing and publishing. Both have the same
windows and threads; pairs run in turns within one process, medians are printed. What three streams
take is what a second clip adds to a first one: with it begins no process, and each network has met
its shapes, as in all but the first seconds of a run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from concord.cache import FeatureStore
from concord.extract import build_backbone, extract
from concord.extract.affwild2 import scan
from concord.extract.forward import BATCHES, Forward, bf16_supported
from concord.extract.settings import VisualSettings
from PIL import Image

SECONDS, RATE, LENGTH = 20, 30, 16
STREAMS = ("visual/i3d", "visual/r3d18", "visual/resnet18")


def make_clip(path: Path, seed: int) -> None:
    """Write moving noise of some structure."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 256, (300, 400, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options={"preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for k in range(SECONDS * RATE):
            x, y = (k * 2) % 80, (k * 3) % 60
            image = np.ascontiguousarray(base[y : y + 240, x : x + 320])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def make_data(root: Path, rows: int, clips: int = 1) -> Path:
    """Lay clips out as a data set of tracks that have so many rows each."""
    for number in range(1, clips + 1):
        make_clip(root / "batch1" / f"{number}.mp4", number)
        labels = root / "VA_Set" / "Train_Set" / f"{number}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("valence,arousal\n" + "0.1,0.2\n" * rows)
    return root


@torch.inference_mode()
def plain_loop(path: Path, rows: int, network: torch.nn.Module) -> float:
    """Seconds of a plain loop over the windows of some rows."""
    begun = time.perf_counter()
    frames: list[torch.Tensor] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
            scale = 256 / min(picture.size)
            width, height = (int(side * scale) for side in picture.size)
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
            left, top = (width - 224) // 2, (height - 224) // 2
            cut = np.asarray(picture)[top : top + 224, left : left + 224]
            frames.append(2 * torch.from_numpy(cut.copy()).permute(2, 0, 1).float() / 255 - 1)
            if len(frames) == rows + LENGTH:
                break
    for row in range(rows):
        window = torch.stack(frames[row : row + LENGTH], dim=1)[None]
        network(window)
    return time.perf_counter() - begun


def ours(root: Path, rows: int, streams: tuple[str, ...], **settings: str) -> float:
    """Seconds of computing some streams from the file to the store."""
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore.create(folder)
        chosen = {name: VisualSettings(weights="seeded", **settings) for name in streams}
        begun = time.perf_counter()
        receipt = extract(scan(root), chosen, store)
        spent = time.perf_counter() - begun
        assert not receipt.quarantine
        counts = {item.rows for items in receipt.items.values() for item in items.values()}
        assert counts == {rows}
    return spent


def loading(root: Path, streams: tuple[str, ...], **settings: str) -> float:
    """Seconds of the same with everything stored: loading models, hashing, looking."""
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore.create(folder)
        chosen = {name: VisualSettings(weights="seeded", **settings) for name in streams}
        extract(scan(root), chosen, store)
        begun = time.perf_counter()
        extract(scan(root), chosen, FeatureStore(folder))
        return time.perf_counter() - begun


def network_time(stream: str, rows: int) -> float:
    """Seconds of the network alone over as many windows, from uint8 clips that lie ready."""
    name = stream.partition("/")[2]
    network = build_backbone(name)
    forward = Forward(network, network.preset, BATCHES[name], torch.device("cpu"))
    side = network.preset.crop
    shape = (3, LENGTH, side, side) if network.takes == "clips" else (3, side, side)
    clips = torch.randint(0, 256, (BATCHES[name], *shape), dtype=torch.uint8)
    forward(clips)
    begun = time.perf_counter()
    for _ in range(-(-rows // BATCHES[name])):
        forward(clips)
    return time.perf_counter() - begun


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("i3d", "three"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "three":
            compare_i3d(Path(folder), options.rows, options.pairs)
        if options.only != "i3d":
            compare_three(Path(folder), options.rows, options.pairs)


def compare_i3d(folder: Path, rows: int, pairs: int) -> None:
    """Print the speed of I3D beside the plain loop's."""
    root = make_data(folder / "one", rows)
    plain = build_backbone("i3d")
    kinds = ["float32"] + ["bfloat16"] * bf16_supported(torch.device("cpu"))
    for precision in kinds:
        set_up = loading(root, STREAMS[:1], precision=precision)
        ratios, speeds = [], []
        for _ in range(pairs):
            theirs = plain_loop(root / "batch1" / "1.mp4", rows, plain)
            mine = ours(root, rows, STREAMS[:1], precision=precision) - set_up
            ratios.append(theirs / mine)
            speeds.append((rows / mine, rows / theirs))
        mine, theirs = (statistics.median(column) for column in zip(*speeds, strict=True))
        print(
            f"i3d {precision}: {mine:.2f} windows/s, plain loop {theirs:.2f}, "
            f"{statistics.median(ratios):.2f} x",
            flush=True,
        )
    if len(kinds) == 1:
        print("i3d bfloat16: not measured, this processor does not have it")


def compare_three(folder: Path, rows: int, pairs: int) -> None:
    """Print what a second clip adds for three streams, beside their networks alone."""
    one, both = (make_data(folder / f"of{count}", rows, count) for count in (1, 2))
    shares = []
    for _ in range(pairs):
        before = sum(network_time(stream, rows) for stream in STREAMS)
        added = ours(both, rows, STREAMS) - ours(one, rows, STREAMS)
        after = sum(network_time(stream, rows) for stream in STREAMS)
        shares.append(2 * added / (before + after))
        print(f"  networks {before:.1f} and {after:.1f} s, a clip {added:.1f} s", flush=True)
    print(
        f"three streams of one decode: {statistics.median(shares):.3f} x the sum of their "
        "networks' times"
    )


if __name__ == "__main__":
    main()
