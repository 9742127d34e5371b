"""What a project names: its runs, receipts and configurations, so that gc keeps it."""

from __future__ import annotations

import json

import pytest
import torch
from concord.cache import FeatureStore, StoreError, digest
from concord.extract.compute import Workers
from concord.extract.settings import VisualSettings
from concord.pipelines.roots import project_roots
from safetensors.torch import save_file

SETTINGS = VisualSettings(weights="seeded", resize=64, crop=64)


@pytest.fixture
def store(tmp_path):
    made = FeatureStore.create(tmp_path / "store")
    for recipe in ({"v": 1}, {"v": 2}):
        made.create_stream("visual/resnet18", recipe)
    made.create_stream("labels/va", {})
    return made


def full(store, name, start=""):
    return store[f"{name}@{start}" if start else name].full_name


def save_run(folder, streams, manifest="mine@e1"):
    folder.mkdir(parents=True)
    configuration = {"streams": streams, "manifest": manifest, "seed": 0}
    path = folder / "head.safetensors"
    save_file({"w": torch.zeros(1)}, path, {"configuration": json.dumps(configuration)})
    return path


def test_nothing_is_named(tmp_path, store):
    roots = project_roots(tmp_path, store)
    assert not roots.streams
    assert not roots.manifests


def test_a_run_names_its_streams_and_manifest_and_the_labels(tmp_path, store):
    name = f"visual/resnet18@{digest({'v': 1})}"
    save_run(tmp_path / "results" / "demo" / "runs" / "abc", [name])
    roots = project_roots(tmp_path, store)
    assert roots.streams == {name, full(store, "labels/va")}
    assert roots.manifests == {"mine@e1"}


def test_a_receipt_names_what_was_extracted_last(tmp_path, store):
    receipts = tmp_path / "results" / "receipts" / "visual-resnet18"
    receipts.mkdir(parents=True)
    receipt = {"streams": {"visual/resnet18": digest({"v": 2})}}
    (receipts / "1.json").write_text(json.dumps(receipt))
    assert f"visual/resnet18@{digest({'v': 2})}" in project_roots(tmp_path, store).streams


def test_a_configuration_names_the_recipe_that_it_gives(tmp_path, store):
    recipe = Workers({"visual/resnet18": SETTINGS}, "cpu").recipe("visual/resnet18")
    stream = store.create_stream("visual/resnet18", recipe)
    text = (
        "streams:\n  visual/resnet18: {backbone: resnet18, weights: seeded, resize: 64, crop: 64}\n"
    )
    (tmp_path / "mine.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("services: [web, database]\n")
    roots = project_roots(tmp_path, store)
    assert roots.streams == {stream.full_name, full(store, "labels/va")}


def test_a_configuration_with_a_mistake_stops_the_collection(tmp_path, store):
    (tmp_path / "mine.yaml").write_text("streams:\n  visual/resnet18: {wieghts: seeded}\n")
    with pytest.raises(StoreError, match=r"wieghts.*repair it first"):
        project_roots(tmp_path, store)


def test_where_weights_are_missing_every_recipe_of_the_name_is_kept(tmp_path, store):
    text = "streams:\n  visual/resnet18: {backbone: resnet18, weights: gone.safetensors}\n"
    (tmp_path / "mine.yml").write_text(text)
    assert project_roots(tmp_path, store).streams == {s.full_name for s in store.streams()}


def test_what_cannot_be_read_stops_the_collection(tmp_path, store):
    path = save_run(tmp_path / "runs" / "abc", ["visual/resnet18"])
    path.write_bytes(b"\0" * 20)
    with pytest.raises(StoreError, match=r"head.safetensors.*repair or delete"):
        project_roots(tmp_path, store)


def test_an_unreadable_receipt_stops_the_collection(tmp_path, store):
    (tmp_path / "receipts").mkdir()
    (tmp_path / "receipts" / "1.json").write_text("{")
    with pytest.raises(StoreError, match=r"receipts/1.json"):
        project_roots(tmp_path, store)


def test_the_store_itself_is_not_searched(tmp_path, store):
    save_run(store.path / "runs" / "abc", ["visual/resnet18@0"])
    assert not project_roots(tmp_path, store).streams
