"""A written store, ways to damage it, and readers that compare what they get with what went in."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from concord.cache import (
    ConcordError,
    FeatureStore,
    Manifest,
    ManifestTrack,
    NewItem,
    StoreError,
    digest,
)
from concord.cache.digests import parsed_digest

NAME = "visual/x"
RECIPE = {"backbone": "resnet18", "size": 64, "scale": 0.5}
PROVENANCE = {"device": "cpu", "recipe": RECIPE, "stream": NAME}
ROWS = {"a": (300, 1, 257, 190), "b": (40, 600)}
"""Rows of the items of two shards: 748 and 640, three chunks each, shared by several items."""
ARRAYS = ("x", "valid", "flags", "times")
RECORDS = ("seal.json", "index.json", "provenance.json")
FILES = {
    "zarr": [
        *RECORDS,
        "zarr.json",
        *(f"{name}/zarr.json" for name in ARRAYS),
        *("x/c/0/0", "valid/c/0", "flags/c/0", "times/c/0"),
    ],
    "hdf5": [*RECORDS, "shard.h5"],
}
FORMATS = ["zarr", "hdf5"]
KINDS = [(name, compressed) for name in FORMATS for compressed in (False, True)]
IDS = ["zarr", "zarr archive", "hdf5", "hdf5 archive"]
CASES = [(name, file) for name in FORMATS for file in FILES[name]]
ROWS_FILE = {"zarr": "x/c/0/0", "hdf5": "shard.h5"}


@dataclass(frozen=True, repr=False)
class Written:
    """A store on disk, and what was written into it."""

    path: Path
    shards: dict[str, Path]
    items: dict[str, list[NewItem]]
    manifest: Path

    @property
    def all_items(self):
        return [item for items in self.items.values() for item in items]

    @property
    def shard(self):
        """The shard that tests damage; the other one is there to stay sound."""
        return self.shards["a"]

    @property
    def recipe(self):
        return self.shard.parents[1] / "recipe.json"

    def copy(self, folder):
        shutil.copytree(self.path, folder)
        moved = {name: folder / path.relative_to(self.path) for name, path in self.shards.items()}
        return Written(folder, moved, self.items, folder / self.manifest.relative_to(self.path))

    def keys(self, shard):
        return {item.key for item in self.items[shard]}


def new_items(shard, recipe_digest):
    random = np.random.default_rng(list(shard.encode()))
    for number, rows in enumerate(ROWS[shard]):
        identity = {"recipe": recipe_digest, "rows": rows, "inputs": {"media": f"{shard}{number}"}}
        yield NewItem(
            key=digest(identity),
            track=f"{shard}/träck {number}",
            rows=random.standard_normal((rows, 7)).astype(np.float16),
            valid=random.random(rows) < 0.8,
            times=np.where(random.random(rows) < 0.1, np.nan, np.arange(rows) / 25),
            flags=(random.random(rows) < 0.2).astype(np.uint8),
            identity=identity,
        )


def add(stream, items):
    """Write items as one shard and give its folder."""
    folder = stream.store.shard_folder(stream)
    before = set(folder.iterdir()) if folder.exists() else set()
    with stream.writer({"device": "cpu"}) as writer:
        for item in items:
            writer.add(item)
    (made,) = set(folder.iterdir()) - before
    return made


def write(folder, how):
    store = FeatureStore.create(folder, how)
    stream = store.create_stream(NAME, RECIPE)
    items = {shard: list(new_items(shard, stream.digest)) for shard in ROWS}
    shards = {shard: add(stream, items[shard]) for shard in ROWS}
    tracks = [
        ManifestTrack(
            track=item.track,
            source=shard,
            split="train",
            family=shard,
            rows=len(item.rows),
            rate=25.0,
            items={stream.full_name: item.key},
        )
        for shard in ROWS
        for item in items[shard]
    ]
    manifest = store.save_manifest(Manifest("demo", "0123456789ab", tuple(tracks)))
    return Written(folder, shards, items, manifest)


# --- damage


def flip(path, position, bit=0):
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))


@dataclass(frozen=True)
class Flip:
    file: str
    position: int
    bit: int

    def do(self, shard):
        flip(shard / self.file, self.position, self.bit)


def flips(folder, count, seed):
    """Draw bits of a folder's files: by turns of any file, and of any byte of all."""
    random = np.random.default_rng(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = np.array([path.stat().st_size for path in files])
    for number in range(count):
        file = random.choice(len(files), p=sizes / sizes.sum() if number % 2 else None)
        name = files[file].relative_to(folder).as_posix()
        yield Flip(name, int(random.integers(sizes[file])), int(random.integers(8)))


def put(path, content):
    """Put another file in a file's place, as a copy that went wrong does."""
    path.unlink()
    if content is not None:
        path.write_bytes(content)


FAULTS = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "truncated": lambda content: content[: len(content) // 2],
    # One byte less would leave a whole record, since it ends with a line end.
    "shorter": lambda content: content[:-2],
}


# --- reading


def _names(stream, item):
    found = stream.item(item.key)
    told = [found.key, found.entry.track, found.rows.shape, found.identity]
    wanted = [item.key, item.track, item.rows.shape, item.identity]
    return np.array(json.dumps(told, sort_keys=True)), np.array(json.dumps(wanted, sort_keys=True))


def _recipe(stream, item):
    return np.array(parsed_digest(stream.recipe, str(stream.place))), np.array(digest(RECIPE))


def _provenance(stream, item):
    return np.array(digest(stream.item(item.key).provenance)), np.array(digest(PROVENANCE))


def _window(stream, item):
    middle = len(item.rows) // 2
    wanted = np.arange(middle, min(middle + 9, len(item.rows)))
    return stream.gather([item.track], [wanted])[0], item.rows[wanted]


def _scattered(stream, item):
    wanted = np.arange(0, len(item.rows), 41)[::-1]
    expected = np.concatenate([item.rows[wanted], np.zeros((1, 7), np.float16)])
    return stream.gather([item.track], [[*wanted, -1]])[0], expected


READS = {
    "rows": lambda stream, item: (stream[item.track].rows[:], item.rows),
    "last row": lambda stream, item: (stream.item(item.key).rows[-1], item.rows[-1]),
    "valid": lambda stream, item: (stream.item(item.key).valid, item.valid),
    "flags": lambda stream, item: (stream.item(item.key).flags, item.flags),
    "times": lambda stream, item: (stream.item(item.key).times, item.times),
    "names": _names,
    "recipe": _recipe,
    "provenance": _provenance,
    "window": _window,
    "scattered": _scattered,
}


def read_item(stream, item, reads=tuple(READS)):
    """Read an item in every way: what comes is what was written; give the errors of the rest."""
    errors = {}
    for name in reads:
        try:
            found, expected = READS[name](stream, item)
        except ConcordError as error:
            errors[name] = str(error)
            continue
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
        # Byte for byte: the payload of a NaN and the sign of a zero included.
        assert found.tobytes() == np.ascontiguousarray(expected).tobytes(), name
    return errors


def read_all(written, *, mapped):
    """Read all of a store anew and give the keys of the items of which anything was refused."""
    try:
        stream = FeatureStore(written.path, mapped=mapped)[NAME]
    except StoreError:
        return {item.key for item in written.all_items}
    return {item.key for item in written.all_items if read_item(stream, item)}
