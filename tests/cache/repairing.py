"""What tests of repairing share."""

from __future__ import annotations

import h5py
from concord.cache import FeatureStore
from concord.cache.repair import DAMAGED, repair
from concord.cache.verify import verify

from .damage import (
    NAME,
    READS,
    ROWS_FILE,
    flip,
    read_item,
)

NUMBERS = [name for name in READS if name not in ("provenance", "recipe")]


def tree(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def moved_out(here, name=None):
    """Where things of the stream are moved to."""
    folder = here.path / DAMAGED / f"visual-{here.recipe.parent.name}"
    return folder / (name or here.shard.name)


def damage_first_chunk(here, name):
    """Damage rows 0 to 256 of `x`: of the first item's 300."""
    path = here.shard / ROWS_FILE[name]
    position = 0
    if name == "hdf5":
        with h5py.File(path, "r") as file:
            data = file["x"].id
            offset = data.get_offset()
            position = data.get_chunk_info(0).byte_offset if offset is None else offset
    flip(path, position + 9)


def repaired(here, **how):
    store = FeatureStore(here.path)
    return repair(store, verify(store), **how)


def check(here, lost):
    """All that was not lost is as it was written, and the rest is listed as missing."""
    store = FeatureStore(here.path)
    findings = verify(store)
    assert {finding.kind for finding in findings} <= {"missing"}
    assert {item.key for finding in findings for item in finding.items} == lost
    assert repair(store, findings) == []
    for mapped in (True, False):
        stream = FeatureStore(here.path, mapped=mapped)[NAME]
        assert set(stream.items) == {item.key for item in here.all_items} - lost
        for item in here.all_items:
            if item.key not in lost:
                assert read_item(stream, item, NUMBERS) == {}
