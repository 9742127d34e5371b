"""Rows of a run as the store gives them."""

import dataclasses

import numpy as np
import pytest
import torch
from concord.cache import DataError, NotInStoreError
from concord.fuse.rows import Scaling, load_rows

from .conftest import planted, write_store


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    parts = [planted(seed=1), planted(tracks=3, seed=2, split="val")]
    parts[0].valid["audio/x"][70:90] = False
    parts[0].labelled[10:20] = False
    return (*write_store(tmp_path_factory.mktemp("rows") / "store", parts), parts)


def streams(store):
    return {name: store[name] for name in ("visual/x", "audio/x")}


def test_loads_what_was_written(stored):
    store, manifest, parts = stored
    rows = load_rows(store, manifest, "train", streams(store), store["labels/va"])
    assert [t.track for t in rows.tracks] == [t.track for t in parts[0].tracks]
    for name in rows.features:
        expected = parts[0].features[name].half().float()
        assert torch.equal(rows.features[name], expected)
        assert torch.equal(rows.valid[name], parts[0].valid[name])
    assert torch.equal(rows.labels, parts[0].labels)
    assert torch.equal(rows.labelled, parts[0].labelled)
    np.testing.assert_array_equal(rows.times, parts[0].times)


def test_a_track_in_quarantine_has_no_value(stored):
    store, manifest, _ = stored
    name = store["audio/x"].full_name
    tracks = [
        dataclasses.replace(t, items={k: v for k, v in t.items.items() if k != name})
        if t.track == "train1"
        else t
        for t in manifest
    ]
    manifest = dataclasses.replace(manifest, tracks=tuple(tracks))
    rows = load_rows(store, manifest, "train", streams(store), store["labels/va"])
    assert not rows.valid["audio/x"][60:120].any()
    assert not rows.features["audio/x"][60:120].any()
    assert rows.valid["visual/x"][60:120].all()


def test_a_listed_item_that_is_gone_is_an_error(stored):
    store, manifest, _ = stored
    name = store["audio/x"].full_name
    tracks = tuple(dataclasses.replace(t, items={**t.items, name: "elsewhere"}) for t in manifest)
    manifest = dataclasses.replace(manifest, tracks=tracks)
    with pytest.raises(
        NotInStoreError, match=r"audio/x.*not stored.*train0.*run the extraction again"
    ):
        load_rows(store, manifest, "train", streams(store), store["labels/va"])


def test_an_empty_split_is_an_error(stored):
    store, manifest, _ = stored
    with pytest.raises(NotInStoreError, match="no track in split 'test'"):
        load_rows(store, manifest, "test", streams(store), store["labels/va"])


def test_scaling_measures_valid_training_rows_only(stored):
    store, manifest, _ = stored
    rows = load_rows(store, manifest, "train", streams(store), store["labels/va"])
    scaling = Scaling.of(rows)
    keep = rows.valid["audio/x"].numpy()
    x = rows.features["audio/x"].numpy()[keep].astype(np.float64)
    np.testing.assert_allclose(scaling.mean["audio/x"], x.mean(0), atol=1e-6)
    np.testing.assert_allclose(scaling.std["audio/x"], x.std(0), atol=1e-6)
    scaling.apply(rows)
    scaled = rows.features["audio/x"].numpy()
    np.testing.assert_allclose(scaled[keep].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled[keep].std(0), 1, atol=1e-4)
    assert not scaled[~keep].any()


def test_a_stream_without_values_cannot_be_scaled():
    rows = planted(tracks=1)
    rows.valid["audio/x"][:] = False
    with pytest.raises(DataError, match=r"audio/x.*no value in any training row"):
        Scaling.of(rows)


def test_gather_marks_what_lies_outside():
    rows = planted(tracks=1, rows=3)
    rows.valid["audio/x"][1] = False
    features, valid, inside = rows.gather(rows.windows(5, 1))
    assert inside.tolist() == [[True, True, True, False, False]]
    assert valid["audio/x"].tolist() == [[True, False, True, False, False]]
    assert torch.equal(features["visual/x"][0, :3], rows.features["visual/x"])
