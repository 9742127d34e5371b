"""The catalogue: joining pages in any order gives the same, and what is malformed is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from concord.cache import ConfigError, Manifest, ManifestTrack, StoreError
from concord.cache.catalogue import Catalogue, ListedShard, joined, page_name, parse_catalogue
from concord.cache.comparison import compare
from concord.cache.digests import digest
from concord.cache.drivers import check_url
from concord.cache.remote_names import add_remote, located, remotes
from hypothesis import given
from hypothesis import strategies as st

TRACKS = ("a", "b", "c")
STREAMS = tuple(f"visual/{name}@{digest(name)}" for name in "xy")
SEALS = [digest(number) for number in range(4)]


def manifest(items, edition="1"):
    """A manifest in which track and stream have one key, whoever lists it."""
    rows = [
        ManifestTrack(
            track=track,
            source=track,
            split="train",
            family=track,
            rows=5,
            rate=None,
            items={s: f"{track} {s[:8]}" for s in STREAMS if (track, s) in items},
        )
        for track in TRACKS
    ]
    return Manifest("demo", edition, tuple(rows))


PAIRS = st.sets(st.tuples(st.sampled_from(TRACKS), st.sampled_from(STREAMS)))
SHARDS = st.dictionaries(
    st.sampled_from(SEALS).map(lambda seal: f"visual/x@{digest('x')[:16]}/{seal[:24]}"),
    st.just(ListedShard(SEALS[0], 9)),
)
PAGES = st.builds(
    lambda shards, items: Catalogue(shards=shards, manifests={"demo@1": manifest(items)}),
    SHARDS,
    PAIRS,
)


def all_of(pages):
    catalogue = Catalogue()
    for page in pages:
        catalogue = catalogue.with_page(page_name(page.content()), page)
    return catalogue


@given(st.lists(PAGES, max_size=4), st.randoms())
def test_the_order_of_pages_does_not_matter(pages, random):
    mixed = random.sample(pages, len(pages))
    found = all_of(pages)
    assert found.content() == all_of(mixed).content() == all_of([*pages, *mixed]).content()
    assert parse_catalogue(found.content(), "it") == found
    assert all(found.holds(page) for page in pages)


@given(PAIRS, PAIRS)
def test_a_page_is_held_if_it_adds_nothing(here, more):
    one, other = (Catalogue(manifests={"demo@1": manifest(items)}) for items in (here, more))
    assert all_of([one]).holds(other) == (more <= here)


@given(PAIRS, PAIRS)
def test_comparing_is_what_sets_say(here, there):
    found = compare([manifest(here)], [manifest(there)])
    for each in found:
        own = {track for track, stream in here if stream == each.stream}
        other = {track for track, stream in there if stream == each.stream}
        assert set(each.both) == own & other
        assert set(each.here) == own - other
        assert set(each.there) == other - own
        assert each.same == (own == other)
    assert {each.stream for each in found} == {stream for _, stream in here | there}


def test_another_key_is_told_and_the_new_one_taken():
    old, new = manifest({("a", STREAMS[0])}), manifest({("a", STREAMS[0])})
    changed = replace(new.tracks[0], items={STREAMS[0]: "recomputed"}, rate=25.0)
    new = replace(new, tracks=(changed, *new.tracks[1:]))
    assert compare([old], [new])[0].other == ("a",)
    assert joined(old, new).tracks[0].items == {STREAMS[0]: "recomputed"}
    assert joined(new, old).tracks[0].rate == 25.0


@pytest.mark.parametrize("change", [{"rows": 6}, {"split": "val"}, {"track": "d"}])
def test_other_tracks_are_no_edition_of_the_same(change):
    old = manifest(set())
    new = replace(old, tracks=(replace(old.tracks[0], **change), *old.tracks[1:]))
    for one, other in ((old, new), (new, old)):
        with pytest.raises(StoreError, match="not the same edition"):
            joined(one, other)
    with pytest.raises(StoreError, match="not the same edition"):
        joined(old, replace(old, tracks=old.tracks[:2]))


NAME = f"visual/x@{digest('x')[:16]}/{SEALS[0][:24]}"
BAD = [
    {"version": 2},
    {"pages": ["../up"]},
    {"pages": [5]},
    {"pages": None},
    {"shards": {"visual/../x": {"seal": SEALS[0], "bytes": 1}}},
    {"shards": {f"{NAME}/..": {"seal": SEALS[0], "bytes": 1}}},
    {"shards": {NAME: {"seal": "0", "bytes": 1}}},
    {"shards": {NAME: {"seal": SEALS[0], "bytes": -1}}},
    {"shards": {NAME: {"seal": SEALS[0], "bytes": True}}},
    {"shards": {NAME: {"seal": SEALS[0], "bytes": 1 << 48}}},
    {"shards": {NAME: {"seal": SEALS[0], "bytes": 1, "more": 1}}},
    {"shards": []},
    {"manifests": [{"version": 2, "dataset": "../x"}]},
    {"manifests": [manifest(set()).record()] * 2},
    {"manifests": 5},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_what_is_malformed_is_refused(change):
    record = json.loads(Catalogue().content()) | change
    body = {name: record[name] for name in ("pages", "shards", "manifests")}
    with pytest.raises(StoreError, match=r"^it"):
        parse_catalogue(json.dumps({**record, "sha256": digest(body)}).encode(), "it")
    with pytest.raises(StoreError):
        parse_catalogue(json.dumps(record).encode(), "it")


@given(st.text(max_size=8), st.text(min_size=1, max_size=8))
def test_no_password_of_any_form_gets_through(user, password):
    for text in (f"s3://{user}:{password}@bucket/store", f"https://host/store?{password}"):
        # What begins a path is no user: a driver takes it for a path too.
        if not set("/?#[]@:\\") & set(user + password) and password.isprintable():
            with pytest.raises(ConfigError, match="may not carry"):
                check_url(text)


def test_names_are_kept_in_a_file(tmp_path):
    assert remotes(tmp_path) == {}
    add_remote(tmp_path, "lab", "s3://team/store")
    assert located(tmp_path, "lab") == "s3://team/store"
    assert located(tmp_path, "https://host/x") == "https://host/x"
    assert located(tmp_path, "/shared/x") == "/shared/x"
    for record in ({"version": 1, "remotes": []}, {"version": 1, "remotes": {"a/b": "x"}}):
        (tmp_path / "concord.remotes.json").write_text(json.dumps(record))
        with pytest.raises(ConfigError, match="names and URLs"):
            remotes(tmp_path)
