"""Push and pull against boto3 with the same server on loopback, and what window reads transfer.

    python tests/benchmarks/remote.py [--items 200] [--server swift|moto] [--pairs 3] [--folder DIR]

200 items of 3,000 rows of 512 float16 (0.6 GB) go to an S3 server that this program starts. boto3
puts and gets the same files, four at a time, with its own transfer settings; in turns; medians. A
second push, with nothing new, is counted at a gate before the server, and so are 200 random windows
of 300 rows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "cache"))

import servers
from concord.cache import FeatureStore, Manifest, ManifestTrack, NewItem
from concord.cache.transfer import plan_pull, plan_push

ROWS, DIM, WINDOW, AT_ONCE = 3000, 512, 300, 4
BUCKET = "bench"


def make(path: Path, items: int) -> FeatureStore:
    """Write a store of random rows."""
    random = np.random.default_rng(0)
    store = FeatureStore.create(path)
    stream = store.create_stream("visual/bench", {"version": 1})
    tracks: list[ManifestTrack] = []
    with stream.writer() as writer:
        for k in range(items):
            rows = random.standard_normal((ROWS, DIM), np.float32).astype(np.float16)
            valid, times = np.ones(ROWS, bool), np.arange(ROWS) / 30
            writer.add(NewItem(key=f"k{k}", track=f"t{k}", rows=rows, valid=valid, times=times))
            row = {"source": "s", "split": "train", "family": "f", "rows": ROWS, "rate": 30.0}
            tracks.append(ManifestTrack(track=f"t{k}", items={stream.full_name: f"k{k}"}, **row))
    store.save_manifest(Manifest("bench", "1", tuple(tracks)))
    return FeatureStore(path)


def seconds(act: Callable[[], object]) -> float:
    """Time something."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def plain_push(client, folder: Path, prefix: str) -> None:
    """Have boto3 put every file of a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        keys = [f"{prefix}/{path.relative_to(folder)}" for path in files]
        list(pool.map(lambda p, k: client.upload_file(str(p), BUCKET, k), files, keys))


def plain_pull(client, folder: Path, prefix: str) -> None:
    """Have boto3 get every object of a prefix."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]

    def get(key: str) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(BUCKET, key, str(path))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(get, keys))


def fresh() -> None:
    """Forget connections, so that the environment is read again."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def compare(store: FeatureStore, folder: Path, client, pairs: int) -> None:
    """Print push and pull as a share of boto3's throughput."""
    size = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file()) / 1e6
    shares: dict[str, list[tuple[float, float]]] = {"push": [], "pull": []}
    for k in range(pairs):
        url, here = f"s3://{BUCKET}/own{k}", folder / "pulled"
        plain = seconds(lambda k=k: plain_push(client, store.path, f"plain{k}"))
        own = seconds(lambda url=url: plan_push(FeatureStore(store.path), url).carry_out())
        shares["push"].append((plain / own, size / own))
        plain = seconds(lambda k=k: plain_pull(client, folder / "plain", f"plain{k}/"))
        own = seconds(lambda url=url, here=here: plan_pull(here, url).carry_out())
        shares["pull"].append((plain / own, size / own))
        for each in (folder / "plain", here):
            shutil.rmtree(each)
    for what, found in shares.items():
        ratio, speed = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{what}: {size:.0f} MB at {speed:.0f} MB/s, {ratio:.2f} of boto3")


def count(store: FeatureStore, address: str) -> None:
    """Print what a push with nothing new moves, and what windows do."""
    url = f"s3://{BUCKET}/own0"
    with servers.Gate(address) as gate:
        os.environ["AWS_ENDPOINT_URL"] = gate.address
        fresh()
        plan_push(FeatureStore(store.path), url).carry_out()
        print(f"push again: {gate.moved / 1e3:.0f} kB")
        stream = FeatureStore(url)["visual/bench"]
        tracks = [item.entry.track for item in stream.items.values()]
        _ = stream[tracks[0]].rows[:1]
        before, random = gate.moved, np.random.default_rng(1)
        begun = time.perf_counter()
        for _ in range(200):
            start = int(random.integers(ROWS - WINDOW))
            stream[str(random.choice(tracks))].rows[start : start + WINDOW]
        spent = time.perf_counter() - begun
        share = (gate.moved - before) / 200 / (WINDOW * DIM * 2)
        print(f"windows: {share:.2f} of their bytes, {200 / spent:.0f} a second")
    os.environ["AWS_ENDPOINT_URL"] = address
    fresh()


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--server", choices=("swift", "moto"), default="swift")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with getattr(servers, options.server)(folder / "server") as address:
            os.environ.update(servers.s3_environment(address))
            client = servers.client_of(address)
            client.create_bucket(Bucket=BUCKET)
            store = make(folder / "store", options.items)
            compare(store, folder, client, options.pairs)
            count(store, address)


if __name__ == "__main__":
    main()
