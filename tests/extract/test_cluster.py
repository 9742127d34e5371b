"""Extraction over a real Dask cluster: the same items and receipts, whoever dies."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from concord.cache import ConfigError, FeatureStore
from concord.cache.errors import ClusterError
from concord.extract import crew
from concord.extract.affwild2 import scan
from concord.extract.cluster import extract_on
from concord.extract.cluster_worker import Order, Session, SessionLostError, work
from concord.extract.connection import connected
from concord.extract.engine import extract
from concord.extract.settings import AudioSettings, VisualSettings
from concord.pipelines.device import prepared_device

from .test_unstoppable import content

LABELS = "annotations/VA_Set/Train_Set"
SMALL = VisualSettings(weights="seeded", resize=48, crop=48, dtype="float32")
STREAMS = {
    "visual/resnet18": SMALL,
    "audio/resnet18": AudioSettings(dtype="float32"),
    "labels/va": None,
}
POISONED = {"visual/poison": VisualSettings(backbone="poison:MeanColour", weights="none")}
ROWS = 12
CPU = partial(prepared_device, "cpu")


def add(root, media, name, pictures, **options):
    media.labels(root / LABELS / f"{name}.txt", ROWS, len(name))
    media.write(root / "batch1" / f"{name}.mp4", pictures, **options)


def pictures(media, seed, size=64):
    return [media.picture(7 * seed + k, size, size) for k in range(ROWS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory, media):
    """Sources of all kinds: with sound, alike, of two persons, unreadable, without rows."""
    root = tmp_path_factory.mktemp("data") / "set"
    for k in range(8):
        add(root, media, f"v{k}", pictures(media, k), sound=media.tone(1.2))
    whole = (root / "batch1" / "v0.mp4").read_bytes()
    for name in ("same1", "same2", "w_left", "w_right"):
        media.labels(root / LABELS / f"{name}.txt", ROWS, 3)
    (root / "batch1" / "same1.mp4").write_bytes(whole[:-1] + b"!")
    (root / "batch1" / "same2.mp4").write_bytes(whole[:-1] + b"!")
    media.write(root / "batch1" / "w.mp4", pictures(media, 50, 128))
    for name in ("bad1", "bad2"):
        media.labels(root / LABELS / f"{name}.txt", ROWS, 4)
        (root / "batch1" / f"{name}.mp4").write_bytes(b"no video at all" * 100)
    (root / LABELS / "norows.txt").write_text("valence,arousal\n0.5,high\n")
    return root


@pytest.fixture(scope="module")
def plain(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("plain")
    store = FeatureStore.create(folder / "store")
    extract(scan(data), STREAMS, store).save(folder / "receipt.json")
    return folder


@pytest.fixture(scope="module")
def client():
    with connected("local:2", threads=2) as client:
        yield client


def spread(client, root, folder, streams=STREAMS, **options):
    store = FeatureStore.create(folder / "store")
    options = {"set_up": CPU, "device": "cpu"} | options
    receipt = extract_on(client, scan(root), streams, store, **options)
    receipt.save(folder / "receipt.json")
    return receipt


def keys_in_shards(folder):
    streams = FeatureStore(folder / "store").streams()
    return Counter(key for stream in streams for shard in stream.shards for key in shard.entries)


def check_same(folder, plain):
    assert (folder / "receipt.json").read_bytes() == (plain / "receipt.json").read_bytes()
    found, expected = (content(FeatureStore(each / "store")) for each in (folder, plain))
    assert found == expected


@pytest.fixture(scope="module")
def done(client, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spread")
    calls = []
    spread(client, data, folder, progress=lambda *call: calls.append(call))
    return folder, calls


def test_items_and_receipt_are_those_of_a_plain_run_bit_for_bit(done, plain):
    check_same(done[0], plain)


def test_every_item_is_computed_once(done):
    counts = keys_in_shards(done[0])
    # Eight and one with sound and pictures, two halves, and the labels of all that have some.
    assert set(counts.values()) == {1}


def test_equal_sources_that_fail_are_both_named(done):
    from concord.extract.receipt import load_receipt

    receipt = load_receipt(done[0] / "receipt.json")
    bad = [entry.source for entry in receipt.quarantine if entry.stream == "visual/resnet18"]
    assert bad == ["bad1", "bad2", "norows"]


def test_progress_counts_sources(done, data):
    total = len(scan(data).sources)
    assert [call[:2] for call in done[1]] == [(k, total) for k in range(total + 1)]


def test_a_second_run_does_nothing_and_says_the_same(done, client, data, plain):
    before = {path: path.stat().st_mtime_ns for path in (done[0] / "store").rglob("*")}
    spread(client, data, done[0])
    assert {path: path.stat().st_mtime_ns for path in (done[0] / "store").rglob("*")} == before
    check_same(done[0], plain)


def test_sessions_end_with_the_run(done, client):
    def held(dask_worker):
        return [key for key in dask_worker.data if "session" in key]

    def decoders():
        # Within the test, so that it travels by value: workers cannot import this file.
        import multiprocessing

        return len(multiprocessing.active_children())

    for _ in range(100):
        if not any(client.run(held).values()) and not any(client.run(decoders).values()):
            break
        time.sleep(0.1)
    assert not any(client.run(held).values())
    assert not any(client.run(decoders).values())


@pytest.mark.slow
def test_relative_paths_are_the_client_s(client, data, tmp_path, monkeypatch, plain):
    monkeypatch.chdir(data.parent)
    store = FeatureStore.create(Path(os.path.relpath(tmp_path / "store")))
    receipt = extract_on(client, scan(Path("set")), STREAMS, store, set_up=CPU, device="cpu")
    receipt.save(tmp_path / "receipt.json")
    check_same(tmp_path, plain)


def test_what_a_worker_cannot_do_is_said_here(client, data, tmp_path):
    streams = {"visual/i3d": VisualSettings(weights="absent.pt")}
    with pytest.raises(ConfigError, match=r"absent.pt' does not exist") as caught:
        spread(client, data, tmp_path, streams)
    assert caught.value.__notes__[0].startswith("on worker tcp://")
    with pytest.raises(ConfigError, match="expected auto, cpu or cuda:N"):
        spread(client, data, tmp_path, set_up=partial(prepared_device, "cuda:7"), device="auto")


@pytest.mark.slow
def test_parts_are_those_of_a_plain_run(client, data, tmp_path):
    for k in (1, 2):
        for name in ("plain", "spread"):
            (tmp_path / name).mkdir(exist_ok=True)
        spread(client, data, tmp_path / "spread", part=(k, 2))
        store = FeatureStore.create(tmp_path / "plain" / "store")
        receipt = extract(scan(data), STREAMS, store, part=(k, 2))
        receipt.save(tmp_path / "plain" / "receipt.json")
        check_same(tmp_path / "spread", tmp_path / "plain")


@pytest.mark.slow
def test_a_run_that_is_broken_off_publishes_what_is_finished(client, data, tmp_path, plain):
    def stop(count, _total, _text):
        if count == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spread(client, data, tmp_path, progress=stop)
    part = content(FeatureStore(tmp_path / "store"))
    assert part.items() < content(FeatureStore(plain / "store")).items()
    assert any(stream.startswith("visual/") for stream, _ in part)
    spread(client, data, tmp_path)
    check_same(tmp_path, plain)


@pytest.mark.slow
def test_a_source_that_kills_is_the_only_one_lost(tmp_path, media, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    root = tmp_path / "set"
    for k in range(14):
        add(root, media, f"v{k}", pictures(media, k))
    white = [np.full((64, 64, 3), 255, np.uint8)] * ROWS
    add(root, media, "v15white", white)
    with connected("local:2", threads=2) as client:
        receipt = spread(client, root, tmp_path, POISONED)
    (entry,) = receipt.quarantine
    assert (entry.source, entry.error, entry.place) == ("v15white", "WorkerKilledError", "video")
    assert entry.message.startswith(
        "v15white: 2 workers died while they computed this source alone"
    )
    assert sorted(receipt.items["visual/poison"]) == sorted(f"v{k}" for k in range(14))
    assert len(FeatureStore(tmp_path / "store")["visual/poison"].items) == 14


@pytest.mark.slow
def test_workers_that_die_while_they_load_end_the_run(tmp_path, data, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    streams = {"visual/x": VisualSettings(backbone="poison:StillBorn", weights="none")}
    with (
        connected("local:1") as client,
        pytest.raises(ClusterError, match="6 workers died one after another while they loaded"),
    ):
        spread(client, data, tmp_path, streams)


def test_no_worker(tmp_path, data, monkeypatch):
    from distributed import Client, LocalCluster

    monkeypatch.setattr(crew, "WAIT_SECONDS", 1.0)
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(ClusterError, match=r"that offers a GPU \(dask worker --resources GPU=1\)"),
    ):
        spread(client, data, tmp_path, device="cuda")


def test_a_session_is_not_taken_for_another(tmp_path):
    order = Order(
        run="r",
        root=tmp_path,
        store=tmp_path,
        streams={},
        set_up=CPU,
        decoders=1,
        answer_seconds=1.0,
    )
    moved = pickle.loads(pickle.dumps(Session(order, "first")))
    assert (moved.token, moved.order.root, moved.order.set_up.args) == ("first", tmp_path, ("cpu",))
    with pytest.raises(SessionLostError, match="expected session second, found first"):
        work(moved, "second", [])


@pytest.mark.parametrize("address", ["local:0", "local:", "local:two", "nowhere://x"])
def test_no_such_cluster(address):
    with pytest.raises(ConfigError, match=f"cluster '{address}'"), connected(address):
        pass


KILLS = 5


@pytest.mark.slow
def test_workers_killed_at_random_moments(tmp_path, media):
    root = tmp_path / "set"
    for k in range(30):
        add(root, media, f"v{k:02}", pictures(media, k, 128), sound=media.tone(1.2))
    store = FeatureStore.create(tmp_path / "plain" / "store")
    extract(scan(root), STREAMS, store).save(tmp_path / "plain" / "receipt.json")
    chance, killed, over = random.Random(3), [], threading.Event()

    def kill(nannies):
        while len(killed) < KILLS and not over.wait(chance.uniform(2, 12)):
            nanny = chance.choice(list(nannies.values()))
            if nanny.process is not None and nanny.process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(nanny.process.pid, signal.SIGKILL)
                    killed.append(time.monotonic() - begun)

    with connected("local:2", threads=2) as client:
        begun = time.monotonic()
        killer = threading.Thread(target=kill, args=(client.cluster.workers,))
        killer.start()
        seen = set()

        def watch(*_):
            found = set(keys_in_shards(tmp_path))
            assert seen <= found
            seen.update(found)

        try:
            spread(client, root, tmp_path, progress=watch)
        finally:
            over.set()
            killer.join()
    counts = keys_in_shards(tmp_path)
    twice = sum(count > 1 for count in counts.values())
    print(f"\nkilled at {[round(at, 1) for at in killed]} s; {twice} of {len(counts)} items twice")
    assert len(killed) == KILLS
    assert twice == 0
    check_same(tmp_path, tmp_path / "plain")
