"""Identity: the same bytes, rows and recipe are the same key; anything else is another one."""

from __future__ import annotations

import os

import pytest
from concord.cache import FeatureStore, Identity
from concord.extract.affwild2 import scan
from concord.extract.backbones import build_backbone
from concord.extract.engine import extract
from concord.extract.index import Index
from concord.extract.inputs import changed_inputs
from concord.extract.settings import VisualSettings
from safetensors.torch import save_file

VISUAL = VisualSettings(weights="seeded", resize=64, crop=64)
FACES = VisualSettings(backbone="resnet18", weights="seeded", resize=64, crop=64, reads="faces")
SMALL = {"visual/resnet18": VISUAL, "labels/va": None}
ALL = {**SMALL, "visual/faces": FACES}
LABELS = "annotations/VA_Set"


@pytest.fixture
def small(tmp_path, media):
    """One source of four frames, and its item keys under some streams."""
    root = tmp_path / "small"
    media.labels(root / LABELS / "Train_Set" / "1.txt", 4)
    media.write(root / "1.mp4", [media.picture(k) for k in range(4)])
    media.crops(root / "cropped_aligned" / "1", range(4))
    store = FeatureStore.create(tmp_path / "store")

    def keys(streams=SMALL, root=root):
        receipt = extract(scan(root), streams, store)
        return {name: receipt.items[name]["1"].key for name in streams}

    return root, keys


def test_a_changed_video_byte_is_another_key(small):
    root, keys = small
    before = keys()
    content = bytearray((root / "1.mp4").read_bytes())
    content[-1] ^= 1
    (root / "1.mp4").write_bytes(content)
    os.utime(root / "1.mp4", ns=(1, 1))
    after = keys()
    assert after["visual/resnet18"] != before["visual/resnet18"]
    assert after["labels/va"] == before["labels/va"]


def test_another_row_is_another_key(small):
    root, keys = small
    before = keys()
    path = root / LABELS / "Train_Set" / "1.txt"
    path.write_text(path.read_text() + "0.5,0.5\n")
    after = keys()
    assert all(after[name] != before[name] for name in SMALL)


def test_a_changed_label_is_another_key_of_the_labels_alone(small):
    root, keys = small
    before = keys()
    path = root / LABELS / "Train_Set" / "1.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], "-0.125,0.125"]) + "\n")
    after = keys()
    assert after["labels/va"] != before["labels/va"]
    assert after["visual/resnet18"] == before["visual/resnet18"]


@pytest.mark.parametrize(
    "changes", [{"resize": 65}, {"crop": 48}, {"dtype": "float32"}, {"weights": "seeded:1"}]
)
def test_another_setting_is_another_key(small, changes):
    _, keys = small
    settings = VisualSettings(**{"weights": "seeded", "resize": 64, "crop": 64, **changes})
    assert keys({"visual/resnet18": settings}) != keys({"visual/resnet18": VISUAL})


def test_a_renamed_root_is_the_same_key(small):
    root, keys = small
    before = keys()
    moved = root.with_name("elsewhere")
    root.rename(moved)
    assert keys(root=moved) == before


def crops(root):
    return sorted((root / "cropped_aligned" / "1").iterdir())


def remove(root, media):
    crops(root)[2].unlink()


def add(root, media):
    # Beyond the four rows, so it is no input: then one among them.
    media.crops(root / "cropped_aligned" / "1", [9])
    crops(root)[1].unlink()


def replace_by_rename(root, media):
    first, second = crops(root)[:2]
    first.replace(second)


@pytest.mark.parametrize("change", [remove, add, replace_by_rename])
def test_another_image_in_a_face_folder_is_another_key(small, media, change):
    root, keys = small
    before = keys(ALL)
    change(root, media)
    after = keys(ALL)
    assert after["visual/faces"] != before["visual/faces"]
    assert after["visual/resnet18"] == before["visual/resnet18"]


def test_an_image_beyond_the_rows_is_no_input(small, media):
    root, keys = small
    before = keys({"visual/faces": FACES})
    media.crops(root / "cropped_aligned" / "1", [9])
    assert keys({"visual/faces": FACES}) == before


def test_two_label_editions_of_one_video_are_two_keys(small, tmp_path, media):
    root, keys = small
    other = tmp_path / "other"
    media.labels(other / LABELS / "Train_Set" / "1.txt", 3)
    (other / "1.mp4").write_bytes((root / "1.mp4").read_bytes())
    first, second = keys(), keys(root=other)
    assert first["visual/resnet18"] != second["visual/resnet18"]
    store = FeatureStore(tmp_path / "store")
    stream = store["visual/resnet18"]
    kept = [stream.item(found["visual/resnet18"]).identity for found in (first, second)]
    assert kept[0]["inputs"] == kept[1]["inputs"]
    assert [identity["rows"] for identity in kept] == [4, 3]


def test_one_changed_weight_is_another_key(small, tmp_path):
    _, keys = small
    state = {k: v.clone() for k, v in build_backbone("resnet18", "seeded").state_dict().items()}
    found = []
    for name in ("a", "b", "same"):
        if name == "b":
            state["conv1.weight"].view(-1)[0] += 1e-3
        save_file(state, tmp_path / f"{name}.safetensors")
        settings = VisualSettings(weights=str(tmp_path / f"{name}.safetensors"), resize=64, crop=64)
        found.append(keys({"visual/resnet18": settings})["visual/resnet18"])
    assert found[0] != found[1] == found[2]


def test_one_changed_word_of_a_transcript_is_another_key(tmp_path):
    store = FeatureStore.create(tmp_path / "store")
    path = tmp_path / "1.ctm"
    found = []
    for word in ("glad", "sad", "glad"):
        path.write_text(f"1 1 0.10 0.35 {word} 0.98\n")
        os.utime(path, ns=(len(found), len(found)))
        inputs = {"transcript": store.digests.file(path)}
        found.append(Identity(recipe="0" * 64, rows=100, inputs=inputs).key)
    assert found[0] != found[1]
    assert found[0] == found[2]


@pytest.fixture
def indexed(small, tmp_path):
    root, _ = small
    store = FeatureStore(tmp_path / "store")
    store.save_manifest(Index([extract(scan(root), ALL, store)], store).manifest())
    return root, store


def changes(root, store):
    (manifest,) = store.manifests()
    found = changed_inputs(scan(root), store, manifest, lambda *_: None)
    return sorted((change.track, change.stream.partition("@")[0], change.input) for change in found)


def overwrite(path):
    """Flip a bit of a file, and set its times back: only its bytes tell."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_nothing_has_changed(indexed):
    assert changes(*indexed) == []


def test_an_image_overwritten_in_place_is_found_and_then_computed_anew(indexed):
    root, store = indexed
    overwrite(crops(root)[1])
    before = extract(scan(root), ALL, store)
    assert changes(root, store) == [("1", "visual/faces", "faces")]
    after = extract(scan(root), ALL, store)
    keys = [receipt.items["visual/faces"]["1"].key for receipt in (before, after)]
    assert keys[0] != keys[1]


def test_overwritten_media_and_labels_are_found(indexed):
    root, store = indexed
    overwrite(root / "1.mp4")
    assert changes(root, store) == [("1", "visual/resnet18", "media")]
    overwrite(root / "1.mp4")
    path = root / LABELS / "Train_Set" / "1.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *sorted(lines[1:], reverse=True)]) + "\n")
    assert changes(root, store) in ([("1", "labels/va", "labels")], [])


def test_missing_inputs_are_listed(indexed):
    root, store = indexed
    (root / "1.mp4").unlink()
    (manifest,) = store.manifests()
    (found,) = changed_inputs(scan(root), store, manifest, lambda *_: None)
    assert (found.track, found.input) == ("1", "media")
    assert "no media file" in found.found
