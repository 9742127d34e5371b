"""Rows of a run as the store gives them: in memory or mapped, the same numbers."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from concord.cache import DataError, NotInStoreError
from concord.fuse.rows import load_rows
from concord.fuse.scaling import Scaling
from concord.fuse.settings import WindowSettings
from concord.fuse.sources import Mapped, Resident
from concord.fuse.windows import OUTSIDE
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import STREAMS, planted, write_store

TINY = 1e-9
"""GiB: too little for any rows, so that they stay mapped."""


@pytest.fixture(scope="module", params=["zarr", "hdf5"])
def stored(request, tmp_path_factory):
    parts = [planted(seed=1), planted(tracks=3, seed=2, split="val")]
    parts[0].valid["audio/x"][70:90] = False
    parts[0].labelled[10:20] = False
    folder = tmp_path_factory.mktemp("rows") / "store"
    return (*write_store(folder, parts, request.param), parts)


def streams(store):
    return {name: store[name] for name in STREAMS}


def load(store, manifest, **options):
    return load_rows(store, manifest, streams(store), store["labels/va"], **options)


def without(manifest, stream, track):
    """The manifest with one item less, as where it is in quarantine."""
    tracks = [
        dataclasses.replace(t, items={k: v for k, v in t.items.items() if k != stream})
        if t.track == track
        else t
        for t in manifest
    ]
    return dataclasses.replace(manifest, tracks=tuple(tracks))


@pytest.mark.parametrize("memory", [0.0, TINY])
def test_loads_what_was_written(stored, memory):
    store, manifest, parts = stored
    rows = load(store, manifest, memory=memory)
    assert [t.track for t in rows.tracks] == [t.track for part in parts for t in part.tracks]
    assert rows.firsts == tuple(range(0, 540, 60))
    kind = Resident if memory == 0 else Mapped
    everything = np.arange(540).reshape(9, 60)
    for name in STREAMS:
        assert isinstance(rows.sources[name], kind)
        found = rows.sources[name].take(everything)
        assert found.dtype == torch.float16
        expected = torch.cat([part.sources[name].x for part in parts]).half()
        assert torch.equal(found.view(540, 4), expected)
        assert torch.equal(rows.valid[name], torch.cat([part.valid[name] for part in parts]))
    assert torch.equal(rows.labels, torch.cat([part.labels for part in parts]))
    assert torch.equal(rows.labelled, torch.cat([part.labelled for part in parts]))
    np.testing.assert_array_equal(rows.times, np.concatenate([part.times for part in parts]))


def test_says_where_the_rows_lie(stored):
    store, manifest, _ = stored
    assert "in memory (of 2.00 GiB that they may take)" in load(store, manifest, memory=2.0).told
    assert "mapped from the store: more than" in load(store, manifest, memory=TINY).told


@pytest.mark.parametrize("memory", [0.0, TINY])
def test_a_track_in_quarantine_has_no_value(stored, memory):
    store, manifest, _ = stored
    manifest = without(manifest, store["audio/x"].full_name, "train1")
    rows = load(store, manifest, memory=memory)
    assert not rows.valid["audio/x"][60:120].any()
    assert rows.valid["visual/x"][60:120].all()
    assert rows.absent == {"visual/x": frozenset(), "audio/x": frozenset({1})}
    windows = np.array([[60, 61], [0, 1], [118, 119]])
    found = rows.sources["audio/x"].take(windows)
    assert not found[[0, 2]].any()
    assert found[1].any()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_batches_equal_a_loop(stored, data):
    """Resident or mapped, contiguous or dilated, inside or outside: the rows by number."""
    store, manifest, _ = stored
    manifest = without(manifest, store["audio/x"].full_name, "train2")
    window = WindowSettings(
        length=data.draw(st.integers(1, 80)),
        hop=data.draw(st.integers(1, 60)),
        dilation=data.draw(st.integers(1, 5)),
        tail="pad",
    ).resolved()
    both = [load(store, manifest, memory=memory) for memory in (0.0, TINY)]
    windows = both[0].windows([0, 2, 1, 7], window)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=5)))
    numbers = windows.rows(chosen)
    plain = {n: both[0].sources[n].x for n in STREAMS}
    for rows in both:
        batch = rows.batch(STREAMS, numbers)
        for b, t in itertools.product(*map(range, numbers.shape)):
            n = numbers[b, t]
            assert bool(batch.rows[b, t]) == (n != OUTSIDE)
            for name in STREAMS:
                ok = n != OUTSIDE and bool(rows.valid[name][n])
                assert bool(batch.valid[name][b, t]) == ok
                if ok:
                    assert torch.equal(batch.features[name][b, t], plain[name][n])
            assert bool(batch.labelled[b, t]) == (n != OUTSIDE and bool(rows.labelled[n]))
            if batch.labelled[b, t]:
                assert torch.equal(batch.labels[b, t], rows.labels[n])


def test_batches_of_many_members_keep_their_shape(stored):
    store, manifest, _ = stored
    for memory in (0.0, TINY):
        rows = load(store, manifest, memory=memory)
        numbers = np.arange(24).reshape(2, 3, 4)
        batch = rows.batch(("audio/x",), numbers)
        assert batch.features["audio/x"].shape == (2, 3, 4, 4)
        assert batch.labels.shape == (2, 3, 4, 2)
        alone = rows.batch(("audio/x",), numbers[1])
        assert torch.equal(batch.features["audio/x"][1], alone.features["audio/x"])


def test_a_listed_item_that_is_gone_is_an_error(stored):
    store, manifest, _ = stored
    name = store["audio/x"].full_name
    tracks = tuple(dataclasses.replace(t, items={**t.items, name: "elsewhere"}) for t in manifest)
    manifest = dataclasses.replace(manifest, tracks=tracks)
    with pytest.raises(
        NotInStoreError, match=r"audio/x.*not stored.*train0.*run the extraction again"
    ):
        load(store, manifest)


def test_an_empty_split_is_an_error(stored):
    store, manifest, _ = stored
    with pytest.raises(NotInStoreError, match="no track in split 'test'"):
        load(store, manifest, splits=("test",))


@pytest.mark.parametrize("memory", [0.0, TINY])
def test_scaling_measures_valid_training_rows_only(stored, memory):
    store, manifest, _ = stored
    rows = load(store, manifest, memory=memory)
    training = range(6)
    scaling = Scaling.of(rows, STREAMS, training)
    for name in STREAMS:
        keep = rows.valid[name].numpy()[:360]
        x = rows.sources[name].take(np.arange(360).reshape(6, 60)).view(360, 4).numpy()[keep]
        x = x.astype(np.float64)
        np.testing.assert_allclose(scaling.mean[name], x.mean(0), atol=1e-6)
        np.testing.assert_allclose(1 / scaling.scale[name], x.std(0), atol=1e-6)
        scaled = scaling({name: torch.from_numpy(x).half()})[name].numpy()
        assert scaled.dtype == np.float32
        np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(scaled.std(0), 1, atol=1e-4)


def test_a_constant_dimension_keeps_its_scale():
    rows = planted(tracks=2)
    rows.sources["visual/x"].x[:, 1] = 0.3
    scaling = Scaling.of(rows, ["visual/x"], (0, 1))
    assert scaling.scale["visual/x"][1] == 1
    assert scaling.scale["visual/x"][0] != 1


def test_scaling_is_read_back():
    rows = planted(tracks=1)
    scaling = Scaling.of(rows, STREAMS, (0,))
    again = Scaling.from_tensors(scaling.tensors())
    for name in STREAMS:
        assert torch.equal(again.mean[name], scaling.mean[name])
        assert torch.equal(again.scale[name], scaling.scale[name])


def test_a_stream_without_values_cannot_be_scaled():
    rows = planted(tracks=1)
    rows.valid["audio/x"][:] = False
    with pytest.raises(DataError, match=r"audio/x.*no value in any training row"):
        Scaling.of(rows, STREAMS, (0,))
