"""Fall-back stores: what is brought from where, what is left to compute, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from concord.cache import ConfigError, DataError, FeatureStore
from concord.cache.errors import NotInStoreError, RemoteError
from concord.cache.pulled import FOLDER
from concord.cache.transfer_log import transfers
from concord.cache.verify import verify
from concord.extract.affwild2 import scan
from concord.extract.engine import extract
from concord.extract.index import Index
from concord.extract.settings import LABELS
from concord.pipelines import fetching
from concord.pipelines.config import parse_config
from concord.pipelines.fetching import fetch, recipes_of
from concord.pipelines.plan import Plan

from .sharing import (
    STREAM,
    TRACKS,
    bytes_below,
    make_owner,
    name_remote,
    new_item,
    push,
    values,
    write_labels,
)

KNOWN = {}


@pytest.fixture(autouse=True)
def each_network_is_built_once(monkeypatch):
    """It takes half a second, for the same recipe every time."""

    def once(config):
        key = repr(config.streams)
        if key not in KNOWN:
            KNOWN[key] = recipes_of(config)
        return KNOWN[key]

    monkeypatch.setattr(fetching, "recipes_of", once)


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    """Somebody who has extracted all, and pushed it."""
    folder = tmp_path_factory.mktemp("owner")
    store, coverage = make_owner(folder)
    push(store, folder / "team")
    return folder, store, coverage


@pytest.fixture
def project(tmp_path, monkeypatch, owner):
    """An empty folder that knows the remote."""
    monkeypatch.chdir(tmp_path)
    name_remote(tmp_path, team=owner[0] / "team")
    return tmp_path


def fetched(**changed):
    return fetch(parse_config(values(**changed)))


def labels_of(folder, store):
    return extract(scan(folder, "mine"), {LABELS: None}, store)


def change(path):
    path.write_text(path.read_text().replace("0.", "0.0", 1))


def coverage_of(found):
    return Index([found.receipt], FeatureStore("results/store")).coverage(0.25)


def test_all_is_brought_and_covered_as_where_it_was_computed(project, owner):
    found = fetched()
    assert found.compute == ()
    assert found.streams == {LABELS: {"team": 6}, STREAM: {"team": 6}}
    assert coverage_of(found) == owner[2]
    store = FeatureStore("results/store")
    assert verify(store) == []
    logged = [line for line in transfers(store.path) if line["state"] == "done"]
    assert {(line["direction"], line["remote"]) for line in logged} == {("pull", "team")}
    assert {name.partition("@")[0] for line in logged for name in line["streams"]} == {
        LABELS,
        STREAM,
    }
    for track in TRACKS:
        expected = new_item(store[STREAM], track)
        assert (store[STREAM][track].rows[:] == expected.rows).all()
        assert (store[STREAM][track].valid == expected.valid).all()
    assert {store.path / name for name in found.shards} == {
        Path(shard.path) for stream in store.streams() for shard in stream.shards
    }
    assert sorted(path.name for path in project.iterdir()) == ["concord.remotes.json", "results"]


def test_what_is_here_travels_no_more_and_needs_no_remote(project, owner):
    first = fetched()
    before = bytes_below(Path("results/store/streams"))
    name_remote(project, team=project / "gone")
    again = fetched()
    assert bytes_below(Path("results/store/streams")) == before
    assert again.streams == {LABELS: {"local": 6}, STREAM: {"local": 6}}
    assert (again.receipt, again.shards) == (first.receipt, first.shards)
    assert "gone" in again.unreachable["team"]


def test_each_track_comes_from_the_first_store_that_lists_it(project, owner):
    push(owner[1], project / "near", tracks=("b", "c"), streams=(STREAM,))
    name_remote(project, team=owner[0] / "team", near=project / "near")
    found = fetched(stores=["local", "near", "team"])
    assert found.streams == {LABELS: {"team": 6}, STREAM: {"near": 2, "team": 4}}
    assert found.compute == ()
    assert coverage_of(found) == owner[2]


def test_an_unknown_name_is_refused(project):
    with pytest.raises(NotInStoreError, match="no remote 'them'; remotes here: team"):
        fetched(stores=["local", "them"])


@pytest.mark.parametrize("where", ["http://127.0.0.1:9/store", "gone/store"])
def test_a_store_that_does_not_answer(project, monkeypatch, where, capfd):
    from concord.cache import drivers

    monkeypatch.setattr(drivers, "PAUSE_SECONDS", 0.0)
    name_remote(project, team=where)
    with pytest.raises(RemoteError) as caught:
        fetched()
    for text in (f"team: {where}", f"{STREAM}: no store that answers", "unreachable: compute"):
        assert text in str(caught.value)
    with pytest.raises(DataError, match=r"has to be computed here \(no store.*videos: no such"):
        fetched(unreachable="compute")
    write_labels(project / "videos")
    capfd.readouterr()
    found = fetched(unreachable="compute")
    assert found.compute == ("labels-va", "audio-resnet18")
    assert found.receipt is None
    assert f"team: {where}" in capfd.readouterr().err


def test_one_store_that_does_not_answer_is_no_harm_where_another_has_all(project, owner):
    name_remote(project, team=owner[0] / "team", away=project / "away")
    found = fetched(stores=["local", "away", "team"])
    assert found.compute == ()
    assert list(found.unreachable) == ["away"]


def test_another_recipe_is_not_taken(project):
    streams = {STREAM: {"weights": "seeded:1", "spectrogram": "tsav"}}
    with pytest.raises(DataError) as caught:
        fetched(streams=streams)
    assert "under other recipes: audio/resnet18@" in str(caught.value)
    assert "spectrogram" in str(caught.value)
    shutil.rmtree("results")
    write_labels(project / "videos")
    found = fetched(streams=streams)
    assert found.compute == ("audio-resnet18",)
    assert found.streams == {LABELS: {"team": 6}, STREAM: {}}


def test_few_unlisted_tracks_are_as_if_in_quarantine(project, tmp_path):
    store, _ = make_owner(tmp_path / "one", TRACKS[:-1])
    push(store, tmp_path / "partly")
    name_remote(project, team=tmp_path / "partly")
    found = fetched()
    assert found.compute == ()
    (entry,) = found.receipt.quarantine
    assert (entry.source, entry.stream, entry.tracks) == ("f", STREAM, ("f",))
    assert coverage_of(found)["budget"] == {"sources": 6, "quarantined": 1, "allowed": 1}
    # A smaller budget asks for the videos.
    with pytest.raises(DataError, match="only 5 of 6 tracks in mine@"):
        fetched(failure_budget=0.1)
    write_labels(project / "videos")
    found = fetched(failure_budget=0.1)
    assert found.compute == ("audio-resnet18",)
    assert found.receipt.quarantine == []


def test_editions(project, owner):
    """A remote with two: of the same tracks, with other labels."""
    labels = write_labels(project / "other")
    change(labels / "VA_Estimation_Challenge" / "Train_Set" / "c.txt")
    made = FeatureStore.create(project / "store")
    made.save_manifest(Index([labels_of(labels, made)], made).manifest())
    push(made, project / "both")
    push(owner[1], project / "both")
    name_remote(project, team=project / "both")
    with pytest.raises(ConfigError, match=r"data\.edition: team has several editions of mine: "):
        fetched()
    first = owner[2]["edition"]
    data = {**values()["data"], "edition": first}
    assert fetched(data=data).edition == f"mine@{first}"
    # Whose labels lie here says which one is meant.
    shutil.rmtree("results")
    assert fetched(labels=str(owner[0] / "labels")).edition == f"mine@{first}"


# --- labels that may not be shared


@pytest.fixture
def without_labels(project, owner):
    push(owner[1], project / "rows", streams=(STREAM,))
    name_remote(project, team=project / "rows")
    return project


def test_labels_of_ones_own(without_labels, owner):
    with pytest.raises(DataError, match=r"labels/va: has to be computed.*does not list it"):
        fetched()
    write_labels(without_labels / "mine")
    config = parse_config(values(labels="mine"))
    found = fetch(config)
    assert found.compute == ("labels-va",)
    assert found.receipt.tracks == {}
    plan = Plan(config)
    # The job of the labels reads this folder, and no other.
    read = {name for part in (1, 2, 3, 4) for name in plan.inputs("labels-va", part)}
    assert {Path(name).stem for name in read} == set(TRACKS)
    assert all(name.startswith("mine/VA_") for name in read)
    settings = json.loads(plan.extraction("labels-va"))
    assert (settings["data"]["path"], settings["data"]["name"]) == ("mine", "mine")


def shorten(path):
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (change, "label files are not, byte for byte"),
        (shorten, "1 tracks are of another split or number of rows: c"),
        (Path.unlink, "1 tracks are missing here: c"),
        (lambda path: shutil.copy(path, path.with_name("z.txt")), "not in the manifest: z"),
    ],
)
def test_other_labels_are_refused(without_labels, how, said):
    write_labels(without_labels / "mine")
    how(without_labels / "mine" / "VA_Estimation_Challenge" / "Train_Set" / "c.txt")
    with pytest.raises(DataError) as caught:
        fetched(labels="mine")
    assert "labels: mine: expected the labels of mine@" in str(caught.value)
    assert said in str(caught.value)


def test_labels_beside_other_labels_are_refused_by_the_index_too(project):
    """Whatever happens to the folder between the fetch and the job that reads it."""
    found = fetched(labels=str(write_labels(project / "mine")))
    change(project / "mine" / "VA_Estimation_Challenge" / "Train_Set" / "c.txt")
    store = FeatureStore("results/store")
    own = labels_of(project / "mine", store)
    with pytest.raises(DataError, match="what was fetched is of edition"):
        Index([own, found.receipt], store)


# --- room


def test_the_limit_removes_what_is_not_wanted_any_more(project):
    fetched()
    old = FeatureStore("results/store")
    marks = {path.stem for path in Path("results/store", FOLDER).iterdir()}
    assert marks == {shard.name for stream in old.streams() for shard in stream.shards}
    record = {"round": 3, "shards": list(fetched().shards)}
    Path("results/fetched.json").write_text(json.dumps(record))
    assert Plan(parse_config(values())).round == 3
    # What this run needs stays, however small the limit.
    assert fetched(cache_limit="1 kB").removed == 0
    # Another recipe is wanted now: these rows can go, but for the labels.
    write_labels(project / "videos")
    found = fetched(cache_limit="1 kB", streams={STREAM: {"weights": "seeded:1"}})
    assert found.removed > 0
    left = {stream.name for stream in FeatureStore("results/store").streams() if stream.shards}
    assert left == {LABELS}
    # So whoever needed them fetches them again.
    assert Plan(parse_config(values())).round == 4
    assert fetched(cache_limit="1 GB").streams[STREAM] == {"team": 6}


# --- configuration


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stores": []}, "stores: expected"),
        ({"stores": ["local", "team", "team"]}, "each once"),
        ({"cache_limit": "20"}, "cache_limit: expected a size such as 500 MB or 20 GB"),
        ({"unreachable": "computes"}, "did you mean 'compute'"),
        ({"stores": ["local"], "labels": "mine"}, "labels: expected stores beside local"),
        ({"labels": "mine", "groups": {"all": [LABELS, STREAM]}}, "groups.all"),
    ],
)
def test_what_a_configuration_may_not_say(changed, said):
    with pytest.raises(ConfigError) as caught:
        parse_config(values(**changed))
    assert said in str(caught.value)


def test_weights_that_are_not_here(project):
    with pytest.raises(ConfigError, match=r"none\.pt.*a stream's weights must be here"):
        fetched(streams={STREAM: {"weights": "none.pt"}})
