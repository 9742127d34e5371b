"""The decision what to collect, against a definition of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from concord.cache.collect import Removal, Roots, decide
from concord.cache.entries import Entry
from concord.cache.pins import Pin
from concord.cache.survey import Found, FoundManifest, FoundShard, FoundStream, Survey
from hypothesis import given, settings
from hypothesis import strategies as st

from .collecting import aged, plan

pytestmark = pytest.mark.usefixtures("streams")


AGES = st.sampled_from([0.0, 1.0, 2.0, 3.0])
SINCE = 2.0
KEYS = "abcdef"
STREAMS = [f"visual/{name}@{name * 64}" for name in "abc"]
MANIFESTS = ["demo@1", "demo@2", "other@1"]


@st.composite
def surveys(draw):
    """Stores of up to three streams of a few keys in up to five shards, and three manifests."""

    def shard(stream, number, keys):
        crcs = [draw(st.sampled_from([1, 1, 1, 2])) for _ in keys]
        entries = [
            Entry(key, "t", k, 1, crc) for k, (key, crc) in enumerate(zip(keys, crcs, strict=True))
        ]
        return FoundShard(
            path=Path(f"/{stream}/{number}"),
            bytes=1,
            newest=draw(AGES),
            entries=tuple(entries),
        )

    streams = []
    for name in STREAMS:
        held = draw(st.lists(st.sets(st.sampled_from(KEYS), min_size=1), max_size=5))
        held.sort(key=len, reverse=True)
        shards = tuple(shard(name, k, sorted(keys)) for k, keys in enumerate(held))
        newest = max([draw(AGES), *(each.newest for each in shards)])
        path = Path(f"/{name}")
        streams.append(FoundStream(path=path, bytes=1, newest=newest, name=name, shards=shards))
    manifests = [
        FoundManifest(
            path=Path(f"/{name}.json"),
            bytes=1,
            newest=draw(AGES),
            name=name,
            dataset=name.partition("@")[0],
            items=draw(
                st.dictionaries(st.sampled_from(STREAMS), st.frozensets(st.sampled_from(KEYS)))
            ),
        )
        for name in MANIFESTS
    ]
    inside = Found(path=Path(f"/{STREAMS[0]}/.tmp-a"), bytes=1, newest=0.0)
    return Survey(
        streams=tuple(streams), manifests=tuple(manifests), leftovers=(inside,), damaged=()
    )


@settings(max_examples=150, deadline=None)
@given(
    found=surveys(),
    named=st.sets(st.sampled_from([*STREAMS, *MANIFESTS])),
    held=st.sets(st.sampled_from([*STREAMS, *MANIFESTS])),
)
def test_the_decision_follows_the_definition(found, named, held):
    roots = Roots(
        streams={name for name in named if "/" in name},
        manifests={name for name in named if "/" not in name},
    )
    every = list(decide(found, roots, [Pin(what) for what in held], SINCE))
    gone = {each.path: each for each in every if each.newest <= SINCE}
    assert len({each.path for each in every}) == len(every)
    by_name = {manifest.name: manifest for manifest in found.manifests}
    left = [m for m in found.manifests if m.path not in gone]

    # Manifests: the definition, word by word.
    for manifest in found.manifests:
        others = [m.newest for m in found.manifests if m.dataset == manifest.dataset]
        stays = manifest.name in named | held or manifest.newest >= max(others)
        assert (manifest.path in gone) == (not stays and manifest.newest <= SINCE)

    for stream in found.streams:
        pinned_by = [m for m in held & by_name.keys() if stream.name in by_name[m].items]
        wanted = stream.name in named | held or bool(pinned_by)
        assert (stream.path in gone) == (not wanted and stream.newest <= SINCE)
        if not wanted:
            continue
        standing = [shard for shard in stream.shards if shard.path not in gone]
        listed = set().union(*(m.items.get(stream.name, ()) for m in left))
        for shard in stream.shards:
            removal = gone.get(shard.path)
            keys = {entry.key for entry in shard.entries}
            if removal is None:
                continue
            assert shard.newest <= SINCE
            if removal.kind == "shard":
                assert not keys & listed
                assert listed
                assert stream.name not in held
            else:
                for entry in shard.entries:
                    assert [
                        other
                        for other in standing
                        if other.path in removal.covers
                        and (entry.key, entry.crc32c) in {(e.key, e.crc32c) for e in other.entries}
                    ]
        # Nothing wanted is lost, and a reader finds the same bytes as before.
        for key in KEYS:
            if key in listed or stream.name in held or not listed:
                assert first(stream.shards, key) == first(standing, key)
    for leftover in found.leftovers:
        assert (leftover.path in gone) == (found.streams[0].path not in {e.path for e in every})


def first(shards, key):
    """The checksum of the copy that a reader finds."""
    every = (entry.crc32c for shard in shards for entry in shard.entries if entry.key == key)
    return next(every, None)


@settings(max_examples=80, deadline=None)
@given(found=surveys(), held=st.sets(st.sampled_from([*STREAMS, *MANIFESTS])))
def test_what_was_decided_needs_no_second_look(found, held):
    """Deleting what was decided leaves a store of which no more is to go."""
    roots = Roots(nothing=True)
    pinned = [Pin(what) for what in held]
    gone = {each.path for each in decide(found, roots, pinned, 9.0)}
    streams = [
        FoundStream(
            path=stream.path,
            bytes=1,
            newest=0.0,
            name=stream.name,
            shards=tuple(shard for shard in stream.shards if shard.path not in gone),
        )
        for stream in found.streams
        if stream.path not in gone
    ]
    manifests = tuple(m for m in found.manifests if m.path not in gone)
    leftovers = tuple(each for each in found.leftovers if each.path not in gone)
    after = Survey(streams=tuple(streams), manifests=manifests, leftovers=leftovers, damaged=())
    again = [
        each
        for each in decide(after, roots, pinned, 9.0)
        if not any(each.path.is_relative_to(path) for path in gone)
    ]
    assert again == []


def test_a_removal_has_a_record(store, streams, item):
    aged(store.path, 9)
    for removal in plan(store, streams[0]).removals:
        record = json.loads(json.dumps(removal.record()))
        assert Removal(**{**record, "path": Path(record["path"]), "covers": ()}) == removal
