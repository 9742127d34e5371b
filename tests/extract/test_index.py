"""Receipts on disk, and where they meet: manifest, coverage, budget."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from concord.cache import (
    BudgetError,
    DataError,
    FeatureStore,
    NewItem,
    NotInStoreError,
    StreamWriter,
)
from concord.extract.index import Index
from concord.extract.receipt import ItemRecord, Quarantined, Receipt, TrackRecord, load_receipt
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
COUNT = st.integers(0, 10**6)
RECEIPTS = st.builds(
    Receipt,
    dataset=TEXT,
    part=TEXT,
    tracks=st.dictionaries(
        TEXT,
        st.builds(
            TrackRecord,
            source=TEXT,
            split=TEXT,
            family=TEXT,
            rows=COUNT,
            labelled=COUNT,
            labels_sha256=TEXT,
        ),
        max_size=2,
    ),
    streams=st.dictionaries(TEXT, TEXT, max_size=2),
    items=st.dictionaries(
        TEXT,
        st.dictionaries(
            TEXT,
            st.builds(ItemRecord, key=TEXT, rows=COUNT, invalid=COUNT, repeated=COUNT),
            max_size=2,
        ),
        max_size=2,
    ),
    quarantine=st.lists(
        st.builds(
            Quarantined,
            source=TEXT,
            tracks=st.tuples(TEXT, TEXT),
            stream=TEXT,
            error=TEXT,
            message=TEXT,
            place=TEXT,
        ),
        max_size=2,
    ),
)


@settings(deadline=None, max_examples=30)
@given(RECEIPTS)
def test_receipts_come_back(tmp_path_factory, receipt):
    path = tmp_path_factory.mktemp("receipt") / "receipt.json"
    receipt.save(path)
    assert load_receipt(path) == receipt
    first = path.read_bytes()
    load_receipt(path).save(path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"version": 1}', b"\xff\xff"])
def test_other_files_are_no_receipts(tmp_path, content):
    (tmp_path / "receipt.json").write_bytes(content)
    with pytest.raises(DataError, match=r"receipt\.json: not a receipt.*delete it and run again"):
        load_receipt(tmp_path / "receipt.json")
    with pytest.raises(DataError, match="not a receipt"):
        load_receipt(tmp_path / "gone.json")


def test_another_version_is_refused(tmp_path):
    path = tmp_path / "receipt.json"
    Receipt(dataset="demo", part="1/1").save(path)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"version": 2}))
    with pytest.raises(DataError, match="receipt of another version"):
        load_receipt(path)


NAMES = ("visual/x", "labels/va")


@pytest.fixture
def world(tmp_path):
    """A store with two streams over tracks a, b (source a) and c; d could not be read."""
    store = FeatureStore.create(tmp_path / "store")
    receipt = Receipt(dataset="demo", part="1/1")
    for name in NAMES:
        stream = store.create_stream(name, {"name": name})
        receipt.streams[name] = stream.digest
        receipt.items[name] = {}
        with StreamWriter(store, stream, {}) as writer:
            for k, track in enumerate("abc"):
                clocked = name == "visual/x"
                item = NewItem(
                    key=f"{name}-{track}",
                    track=track,
                    rows=np.full((5 + k, 2), k, np.float16),
                    valid=np.arange(5 + k) > 0,
                    times=np.arange(5 + k) / 30 + 1 if clocked else np.full(5 + k, np.nan),
                )
                writer.add(item)
                receipt.items[name][track] = ItemRecord(
                    key=item.key, rows=5 + k, invalid=1, repeated=k
                )
    for k, track in enumerate("abcd"):
        receipt.tracks[track] = TrackRecord(
            source="a" if track == "b" else track,
            split="val" if track == "c" else "train",
            family=track,
            rows=5 + k,
            labelled=4,
            labels_sha256=f"{k:064x}",
        )
    receipt.quarantine.append(
        Quarantined(
            source="d",
            tracks=("d",),
            stream="visual/x",
            error="MediaError",
            message="d.mp4: cannot be opened",
            place="video",
        )
    )
    return store, receipt


def test_manifest(world):
    store, receipt = world
    index = Index([receipt], store)
    manifest = index.manifest()
    store.save_manifest(manifest)
    assert manifest.name == f"demo@{index.edition}"
    assert [track.track for track in manifest] == ["a", "b", "c", "d"]
    rates = {track.track: track.rate for track in manifest}
    assert rates == {"a": 30.0, "b": 30.0, "c": 30.0, "d": None}
    full = store["visual/x"].full_name
    assert {t.track: t.items.get(full) for t in manifest} == {
        "a": "visual/x-a",
        "b": "visual/x-b",
        "c": "visual/x-c",
        "d": None,
    }
    assert (store["visual/x"]["c"].rows == 2).all()


def test_several_receipts_are_one(world):
    store, receipt = world
    parts = []
    for tracks in ("ab", "cd"):
        part = dataclasses.replace(
            receipt,
            tracks={name: receipt.tracks[name] for name in tracks},
            items={
                stream: {name: item for name, item in items.items() if name in tracks}
                for stream, items in receipt.items.items()
            },
            quarantine=receipt.quarantine if "d" in tracks else [],
        )
        parts.append(part)
    whole = Index([receipt], store)
    for order in (parts, parts[::-1]):
        index = Index(order, store)
        assert index.manifest() == whole.manifest()
        assert index.coverage(0.5) == whole.coverage(0.5)


@pytest.mark.parametrize("field", ["split", "source", "rows", "labels_sha256"])
def test_edition_follows_the_tracks(world, field):
    store, receipt = world
    before = Index([receipt], store).edition
    assert len(before) == 12
    changed = {"rows": 99}.get(field, "other")
    receipt.tracks["a"] = dataclasses.replace(receipt.tracks["a"], **{field: changed})
    assert Index([receipt], store).edition != before


def test_coverage_is_plain_json(world):
    store, receipt = world
    coverage = Index([receipt], store).coverage(0.5)
    assert json.loads(json.dumps(coverage, allow_nan=False)) == json.loads(json.dumps(coverage))
    moments = {split: size.pop("labels") for split, size in coverage["splits"].items()}
    assert coverage["splits"] == {
        "train": {"tracks": 3, "sources": 2, "families": 3, "rows": 5 + 6 + 8, "labelled": 12},
        "val": {"tracks": 1, "sources": 1, "families": 1, "rows": 7, "labelled": 4},
    }
    for split, found in moments.items():
        rows = [
            [float(x) for x in row]
            for name, track in receipt.tracks.items()
            if track.split == split and name in receipt.items["labels/va"]
            for item in [store["labels/va"].items[receipt.items["labels/va"][name].key]]
            for row, valid in zip(item.rows, item.valid, strict=True)
            if valid
        ]
        if not rows:
            assert found is None
            continue
        for column, kind in enumerate(("valence", "arousal")):
            values = [row[column] for row in rows]
            mean = sum(values) / len(values)
            std = (sum((x - mean) ** 2 for x in values) / len(values)) ** 0.5
            assert found[kind] == pytest.approx([mean, std], abs=1e-4)
    stream = coverage["streams"]["visual/x"]
    assert {k: stream[k] for k in ("dim", "dtype", "items", "rows", "invalid", "repeated")} == {
        "dim": 2,
        "dtype": "float16",
        "items": 3,
        "rows": 18,
        "invalid": 3,
        "repeated": 3,
    }
    assert stream["recipe"] == {"name": "visual/x"}
    tracks = {track["track"]: track for track in coverage["tracks"]}
    assert tracks["d"]["streams"] == {"visual/x": None, "labels/va": None}
    assert tracks["b"]["streams"]["visual/x"] == {"invalid": 1, "repeated": 1}
    assert coverage["quarantine"][0]["message"] == "d.mp4: cannot be opened"
    assert coverage["budget"] == {"sources": 3, "quarantined": 1, "allowed": 1}


def test_budget(world):
    store, receipt = world
    index = Index([receipt], store)
    index.check_budget(0.34)
    with pytest.raises(BudgetError) as error:
        index.check_budget(0.33)
    assert error.value.exit_code == 3
    text = str(error.value)
    assert "1 of 3 sources are in quarantine, failure_budget 0.33 allows 0" in text
    assert "d (visual/x): d.mp4: cannot be opened" in text


def test_receipts_of_two_data_sets(world):
    store, receipt = world
    other = dataclasses.replace(receipt, dataset="other")
    with pytest.raises(DataError, match=r"one data set, found \['demo', 'other'\]"):
        Index([receipt, other], store)
    with pytest.raises(DataError, match=r"found \[\]"):
        Index([], store)


def test_receipts_of_two_recipes(world):
    store, receipt = world
    other = dataclasses.replace(receipt, streams=receipt.streams | {"visual/x": "f" * 64})
    with pytest.raises(DataError, match=r"'visual/x': parts .* several recipes .*, ffffffff\)"):
        Index([receipt, other], store)


def test_receipts_of_another_store(world, tmp_path):
    store, receipt = world
    with pytest.raises(NotInStoreError, match="no stream 'labels/va@"):
        Index([receipt], FeatureStore.create(tmp_path / "empty"))
    receipt.items["visual/x"]["a"] = dataclasses.replace(
        receipt.items["visual/x"]["a"], key="f" * 64
    )
    with pytest.raises(NotInStoreError, match=r"stream 'visual/x', track 'a'.*run again"):
        Index([receipt], store).manifest()
