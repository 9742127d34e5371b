"""One bad file costs one file, and a kill costs what was not published."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from concord.cache import BudgetError, FeatureStore
from concord.extract.index import Index
from concord.extract.receipt import load_receipt

from .broken import BAD, GOOD, KILLED, ROWS, build

KILLS = 20

RUN = f"""
import sys
from contextlib import suppress
from pathlib import Path
import torch
from concord.cache import FeatureStore
from concord.extract.affwild2 import scan
from concord.extract.engine import extract
from concord.extract.feeds import Pool
from concord.extract.settings import VisualSettings

receive = Pool._receive

def killing(pool, decoder, again):
    if pool._busy[decoder].request.path.stem == {KILLED!r}:
        decoder._child.kill()
        decoder._child.join()
        # What it had sent by then is lost, too: on a busy machine that may be everything.
        with suppress(EOFError, OSError):
            while True:
                decoder.pipe.recv_bytes()
    yield from receive(pool, decoder, again)

if __name__ == "__main__":
    torch.set_num_threads(1)
    Pool._receive = killing
    settings = VisualSettings(weights="seeded", resize=48, crop=48, dtype="float32")
    streams = {{"visual/resnet18": settings, "labels/va": None}}
    dataset = scan(Path(sys.argv[1]))
    extract(dataset, streams, FeatureStore.create(sys.argv[2]), answer_seconds=20).save(
        Path(sys.argv[3])
    )
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory, media):
    root = tmp_path_factory.mktemp("broken") / "set"
    return root, build(root, media)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "run.py"
    path.write_text(RUN)
    return path


def begin(script, root, folder):
    words = [sys.executable, script, root, folder / "store", folder / "receipt.json"]
    return subprocess.Popen(list(map(str, words)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, script, data):
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    assert begin(script, data[0], folder).wait(timeout=240) == 0
    return folder


def content(store):
    """Every item of a store, bit for bit, by stream and key."""
    return {
        (stream.full_name, key): tuple(
            np.asarray(getattr(item, name)).tobytes()
            for name in ("rows", "valid", "flags", "times")
        )
        for stream in store.streams()
        for key, item in stream.items.items()
    }


def test_forty_sources_complete_and_twenty_are_named_with_their_reason(whole, data):
    receipt = load_receipt(whole / "receipt.json")
    store = FeatureStore(whole / "store")
    index = Index([receipt], store)
    assert index.budget(0.5) == {"sources": GOOD + BAD, "quarantined": BAD, "allowed": 30}
    index.check_budget(0.5)
    with pytest.raises(BudgetError, match="20 of 60 sources are in quarantine"):
        index.check_budget(0.25)
    assert index.bad_sources() == set(data[1])
    done = receipt.items["visual/resnet18"]
    assert sorted(done) == sorted(f"good{k}" for k in range(GOOD))
    assert {(item.rows, item.invalid, item.repeated) for item in done.values()} == {(ROWS, 0, 0)}
    why = {e.source: e.message for e in receipt.quarantine if e.stream == "visual/resnet18"}
    told = Counter(message.replace(source, "X") for source, message in why.items())
    print("\n" + "\n".join(f"{source:10} {message}" for source, message in sorted(why.items())))
    assert "the decoder crashed" in why[KILLED]
    assert all(source in message for source, message in why.items())
    assert len(told) >= 8
    store.save_manifest(index.manifest())
    assert len(FeatureStore(store.path)["visual/resnet18"].tracks._choices) == GOOD


@pytest.mark.slow
def test_killed_at_random_moments_and_run_again(tmp_path, script, data, whole):
    chance, lost, seen = random.Random(KILLS), 0, {}
    for _ in range(KILLS):
        run = begin(script, data[0], tmp_path)
        time.sleep(chance.uniform(1, 12))
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
            lost += 1
        run.wait(timeout=60)
        if (tmp_path / "store" / "store.json").exists():
            found = content(FeatureStore(tmp_path / "store"))
            # What was published stays, bit for bit.
            assert seen.items() <= found.items()
            seen = found
    assert begin(script, data[0], tmp_path).wait(timeout=240) == 0
    print(f"\n{lost} of {KILLS} runs were killed while they worked; then one went to its end")
    assert lost
    assert content(FeatureStore(tmp_path / "store")) == content(FeatureStore(whole / "store"))
    receipts = [json.loads((folder / "receipt.json").read_text()) for folder in (tmp_path, whole)]
    assert receipts[0] == receipts[1]
