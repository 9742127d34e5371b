"""What a stranger may do to a store, seals and digests forged too: the corpus of hostile stores."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import os
import stat
import subprocess
import zlib
from pathlib import Path

import h5py
import numcodecs
import numpy as np
import zarr
from concord.cache import probe
from google_crc32c import value as crc32c

from .damage import NAME

BOMB = 1 << 28
RECORDS = ["store", "manifest", "pin", "seal.json", "index.json", "recipe", "provenance.json"]
FOLDERS = ["streams", "manifests", "pins", "visual", "stream", "shards", "shard", "x", "x/c"]
ROWS, SHAPE, FILE = "x/c/0/0", (748, 7), "shard.h5"
DEEP = functools.reduce(lambda inner, _: [inner], range(600), 1)
CASES = {}
"""Name to (kind of store, what is done to it, whether all of it may be read, whether it waits)."""


def case(kinds, title, attack, *arguments, harmless=False, slow=False):
    for kind in kinds.split():
        done = functools.partial(attack, *arguments)
        CASES[f"{kind}: {title}"] = (kind, done, harmless, slow)


def own(value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def place(here, name):
    known = {"store": here.path / "store.json", "recipe": here.recipe, "manifest": here.manifest}
    known |= {name: here.path / name for name in ("streams", "manifests", "pins")}
    known |= {"pin": next((here.path / "pins").glob("*"), None), "shard": here.shard}
    known |= {"shards": here.shard.parent, "stream": here.recipe.parent}
    return {**known, "visual": here.recipe.parents[1]}.get(name) or here.shard / name


def put(name, made, here):
    """Replace a file's bytes, and seal the shard again."""
    content = made(place(here, name).read_bytes())
    place(here, name).write_bytes(content)
    if (here.shard / name).is_file() and name != "seal.json":
        record = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        forge("seal.json", lambda seal: seal["files"].update({name: record}), here)


def forge(name, change, here):
    """Change a record, and make agree with it whatever vouches for it."""
    record = json.loads(place(here, name).read_bytes())
    change(record)
    if name == "seal.json":
        record["sha256"] = own(record["files"])
    if name == "manifest":
        record["sha256"] = own({k: record.get(k) for k in ("dataset", "edition", "tracks")})
    put(name, lambda _: json.dumps(record).encode(), here)


def set_field(name, path, value, here):
    *parts, last = (int(p) if p.isdigit() else p for p in path.split("/"))

    def change(record):
        functools.reduce(lambda at, part: at[part], parts, record)[last] = value

    forge(name, change, here)


def summed(content):
    return content + crc32c(content).to_bytes(4, "little")


def sharded(entries, chunks):
    """Put a Zarr shard together, with an index that is right by its own checksum."""
    return b"".join(chunks) + summed(np.array(entries, np.uint64).astype("<u8").tobytes())


# --- fields of records

COUNTS = [True, 300.0, -1, 2**70, "1"]
GRID = {"name": "regular", "configuration": {"chunk_shape": [1 << 36, 7]}}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
GZIP = [BYTES, {"name": "gzip", "configuration": {"level": 1}}]
ENDS = {"index_codecs": [BYTES, {"name": "crc32c"}], "index_location": "end"}
INNER = {"chunk_shape": [256, 7], "codecs": GZIP, **ENDS}
NESTED = [{"name": "sharding_indexed", "configuration": INNER}]
CODECS = "codecs/0/configuration/codecs"
FIELDS = {
    **{f"zarr {name} version": [99, True, "2"] for name in RECORDS[:5]},
    **{f"zarr index.json {p}": COUNTS for p in ("dim", "rows", "items/0/rows", "items/0/crc32c")},
    "zarr index.json items/0/first": [*COUNTS, False, 0.0, 1],
    "zarr index.json items/1/first": [301, 299, 748, 300.0],
    "zarr index.json items/0/key": [5, "", "\0", "k" * 5000],
    "zarr index.json items/0/track": ["a\0b", "\x1b[2J", "\ud800", "", "t" * 5000, ["a"]],
    "zarr index.json items/0/identity": [[]],
    "zarr index.json items": [{}, [], [1], "items", None],
    "zarr index.json dtype": ["object", "|O", ["float16"]],
    "zarr index.json format": ["npy", ["zarr"], None],
    "zarr index.json compression": ["pickle", []],
    "hdf5 index.json offsets/x": [-1, 1 << 40, 3.0, True, None, 8],
    "hdf5 index.json checksums/x": [None, [], [1, True, 2.0], [1, 2, 3]],
    "zarr manifest dataset": ["../demo", "a/b", "", "\n", 5, "\ud800"],
    "zarr manifest edition": ["../..", None],
    "zarr manifest tracks/0/track": ["a\0b", "\x1b[2J", "", "t" * 5000, 5, "a/träck 1"],
    "zarr manifest tracks/0/source": ["\x1b[2J", None],
    "zarr manifest tracks/0/rows": [True, -1, 3.0, "3"],
    "zarr manifest tracks/0/rate": [float("nan"), "25", True],
    "zarr manifest tracks/0/items": [[], {"x": 5}, {"x\x1b[2J": "key"}],
    "zarr manifest tracks": [{}, "tracks", [5], [[]], None, DEEP],
    "zarr recipe name": ["../../x", "visual/y", "visual/.."],
    "zarr store format": ["zip", None],
    "zarr store shards": [["zarr"], "npy"],
    "ZARR x/zarr.json shape": [[1 << 40, 7], [748, 8]],
    "ZARR x/zarr.json data_type": ["float32", "object", {"name": "numpy.object"}],
    "ZARR x/zarr.json chunk_grid": [GRID, None],
    "ZARR x/zarr.json chunk_key_encoding": [{"name": "v2"}],
    "ZARR x/zarr.json storage_transformers": [[{"name": "evil"}]],
    "ZARR x/zarr.json codecs": [[{"name": "numcodecs.pickle", "configuration": {}}], None],
    f"ZARR x/zarr.json {CODECS}": [GZIP, [{**BYTES, "name": ["bytes"]}], NESTED],
    f"ZARR x/zarr.json {CODECS}/0/configuration/endian": ["big"],
    "ZARR x/zarr.json codecs/0/configuration/index_location": ["start"],
    "ZARR x/zarr.json fill_value": [{"object": "evil"}],
    "ZARR x/zarr.json extension": [{"name": "evil", "must_understand": True}],
}
for field, values in FIELDS.items():
    kinds, name, path = field.split()
    kinds = kinds.replace("ZARR", "zarr zarr-archive")
    for k, value in enumerate(values):
        title = f"{name} {path[-40:]} {value!r:.40}"
        case(kinds, title, set_field, name, path, value, slow=k > 2 and type(value) is not float)

# --- records, files and folders

TEXTS = {
    **{repr(text[:9]): lambda _, t=text: t for text in (b"[]", b"5", b"NaN", b'{"a":' * 99999)},
    "cut": lambda old: old[: len(old) // 2],
    "doubled": lambda old: old + old,
    "of 65 MiB": lambda old: old.ljust(65 << 20),
    "in UTF-16": lambda old: old.decode().encode("utf-16"),
    "with NaN": lambda old: old.replace(b"{", b'{"more": NaN, ', 1),
    "of two versions": lambda old: old.replace(b"{", b'{"version": 2, "version": 1, ', 1),
}
for name, (text, made) in itertools.product(RECORDS, TEXTS.items()):
    if name != "provenance.json" or " " not in text:
        slow = name not in ("manifest", "index.json") and text not in ("of 65 MiB", "doubled")
        case("zarr", f"{name} {text}", put, name, made, slow=slow)


def new_recipe(recipe, here):
    here.recipe.write_text(json.dumps({"name": NAME, "digest": own(recipe), "recipe": recipe}))
    here.recipe.parent.rename(here.recipe.parent.with_name(f"x@{own(recipe)[:16]}"))


def claim(rows, dim, index):
    index.update(rows=rows, dim=dim, items=[{**index["items"][0], "rows": rows}])


def padded(here):
    put("provenance.json", lambda old: old.ljust(60 << 20), here)
    put(ROWS, lambda _: bytes(1 << 20), here)
    forge("x/zarr.json", lambda meta: meta.update(shape=[1 << 36, 7], chunk_grid=GRID), here)
    forge("index.json", functools.partial(claim, 1 << 36, 7), here)


def version_1(here):
    set_field("index.json", "version", 1, here)
    (here.shard / "x/zarr.json").unlink()


def swap(name, make, here):
    outside = place(here, name).rename(here.path.parent / "outside")
    make(place(here, name) if name != "pin" else here.path / "pins/x.json", outside)


def pinned(what, note, here):
    pin = {"what": what, "note": note}
    (here.path / f"pins/{own(pin)[:24]}.json").write_text(json.dumps({"version": 1, **pin}))


def named(name, here):
    here.items["a"] = [dataclasses.replace(here.items["a"][0], track=name)]
    set_field("index.json", "items/0/track", name, here)
    set_field("manifest", "tracks/0/track", name, here)


case("zarr", "recipe with a surrogate", new_recipe, "\ud800")
for rows, dim in [(1 << 40, 7), (1 << 47, 1 << 47), (1, 1 << 47)]:
    title, claimed = f"claim of {rows} rows of {dim}", functools.partial(claim, rows, dim)
    case("zarr hdf5 zarr-archive hdf5-archive", title, forge, "index.json", claimed)
case("zarr-archive", "claim behind padding", padded)
case("zarr", "version 1 without metadata", version_1)
for name in ("../outside", "/etc/passwd", "x/../../outside", "", "a\0b", "\ud800", "x", "deep"):
    sealed = {name: {"size": 5, "sha256": "0" * 64, "more": DEEP if name == "deep" else ""}}
    change = lambda seal, sealed=sealed: seal["files"].update(sealed)  # noqa: E731
    case("zarr hdf5", f"seal names {name!r}", forge, "seal.json", change)
for size in (-1, True, 2.0, 1):
    case("zarr", f"seal of {size!r} bytes", set_field, "seal.json", "files/zarr.json/size", size)
case("zarr hdf5", "seal lacks one", forge, "seal.json", lambda seal: seal["files"].popitem())
same = lambda index: index["items"][1].update(key=index["items"][0]["key"])  # noqa: E731
case("zarr hdf5", "same item twice", forge, "index.json", same)
for name in ("stray", "\x1b[2J", "\udcff"):
    case("zarr", f"file {name!r}", lambda n, here: Path(here.shard, n).write_bytes(b"?"), name)
case("zarr", "rows missing", lambda here: place(here, ROWS).unlink())
DEEP_DOWN = "/".join("a" * 1200)
mkdir = lambda here: subprocess.run(["mkdir", "-p", here.shard / DEEP_DOWN], check=True)  # noqa: E731
case("zarr", "folders of 1200 levels", mkdir)
for name in [*RECORDS, ROWS, *FOLDERS, FILE]:
    kind = "hdf5" if name == FILE else "zarr"
    case(kind, f"{name} is a link", swap, name, lambda path, out: path.symlink_to(out))
    case(kind, f"{name} is a FIFO", swap, name, lambda path, _: os.mkfifo(path))
    if name in ("seal.json", ROWS, FILE):
        case(kind, f"{name} is a folder", swap, name, lambda path, _: path.mkdir())
        socket = lambda path, _: os.mknod(path, stat.S_IFSOCK | 0o600)  # noqa: E731
        case(kind, f"{name} is a socket", swap, name, socket)
for name in ("../../evil", "/etc/evil", "..", "a/../../b", "C:\\evil", ".evil", "t" * 4096):
    case("zarr", f"track {name:.20}", named, name, harmless=True)
for what, note in (("../../x", ""), ("a@1", "\x1b[2J"), ("a@1", "\ud800"), ("a@1", "n" * 5000)):
    case("zarr", f"pin of {what} with note {note!r:.9}", pinned, what, note)
foreign = lambda here: place(here, "pin").rename(here.path / "pins/x.json")  # noqa: E731
case("zarr", "pin under a foreign name", foreign)
dots = lambda here: place(here, "stream").rename(here.recipe.parents[1] / "..@0123456789abcdef")  # noqa: E731
case("zarr", "stream of dots", dots)

# --- arrays


def nested(here):
    """Chunks that zarr reads well, compressed by what is none of this format."""
    rows = np.resize(zarr.open_array(here.shard / "x", mode="r")[:], (768, 7))
    inner = [zlib.compress(rows[k : k + 256].tobytes(), wbits=31) for k in (0, 256, 512)]
    chunks = [sharded([[0, len(chunk)]], [chunk]) for chunk in inner]
    entries = [[sum(map(len, chunks[:k])), len(chunk)] for k, chunk in enumerate(chunks)]
    put(ROWS, lambda _: sharded(entries, chunks), here)
    set_field("x/zarr.json", CODECS, NESTED, here)


def moved(start, size, content):
    entries = np.frombuffer(content[-52:-4], "<u8").reshape(3, 2).tolist()
    entries[1] = [start, size or entries[0][1]]
    return sharded(entries, [content[:-52]])


NOWHERE = (2**64 - 1, 2**64 - 1)
for entry in [(0, None), (1 << 40, None), (2**64 - 2, None), (0, 1 << 62), NOWHERE]:
    change = functools.partial(moved, *entry)
    case("zarr zarr-archive", f"second chunk at {entry}", put, ROWS, change)
HEADER = summed(b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little"))
ZEROS = summed(numcodecs.Zstd().encode(np.zeros(BOMB, np.uint8)))
for name, bomb in {"2**40 bytes claimed": HEADER, "zeros": ZEROS}.items():
    shard = sharded([(0, len(bomb)), NOWHERE, NOWHERE], [bomb])
    case("zarr-archive", f"bomb of {name} in x", put, ROWS, lambda _, shard=shard: shard)
    case("zarr-archive", f"bomb of {name} in valid", put, "valid/c/0", lambda _, bomb=bomb: bomb)
case("zarr-archive", "codecs inside codecs", nested)


class Canary:
    def __reduce__(self):
        return (os.mkdir, ("ran",))  # In the folder that is compared.


PICKLES = io.BytesIO()
np.save(PICKLES, np.array([Canary()], object), allow_pickle=True)
case("zarr zarr-archive", "pickles", put, ROWS, lambda _: PICKLES.getvalue())
case("hdf5 hdf5-archive", "pickles", put, FILE, lambda _: PICKLES.getvalue())
VIRTUAL = h5py.VirtualLayout(SHAPE, "<f2")
VIRTUAL[:] = h5py.VirtualSource("/etc/passwd", "x", SHAPE)


def in_file(change, here):
    """Put something in the place of `x`."""
    with h5py.File(here.shard / FILE, "r+") as file:
        rows = file["x"][:]
        del file["x"]
        change(file, rows)
    put(FILE, bytes, here)


def foreign_filter(file, _):
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk((256, 7))
    how.set_filter(32768, h5py.h5z.FLAG_OPTIONAL, (1,))
    h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F16LE, h5py.h5s.create_simple(SHAPE), how)


def gzip_bomb(file, rows):
    how = {"chunks": (256, 7), "compression": "gzip", "shuffle": True, "fletcher32": True}
    packer = zlib.compressobj(1)
    content = b"".join(packer.compress(bytes(1 << 20)) for _ in range(BOMB >> 20)) + packer.flush()
    file.create_dataset("x", data=rows, **how).id.write_direct_chunk((0, 0), content, 4)


def library(script, _):
    """Let another program stand for a library that crashes or hangs: no known file has it do so."""
    probe._start = lambda: subprocess.Popen(["sh", "-c", script], stdin=-1, stdout=-1)
    probe.LONGEST_SECONDS = 0.05


PASSWORDS = [("/etc/passwd", 0, 748 * 7 * 2)]
LINKS = {"soft link": ("/times",), "link to itself": ("/x",), "outer link": ("/etc/passwd", "/x")}
for name, to in LINKS.items():
    link = (h5py.ExternalLink if to[1:] else h5py.SoftLink)(*to)
    case("hdf5", f"HDF5 {name}", in_file, lambda file, _, link=link: file.update(x=link))
IN_FILE = {
    "external": lambda file, _: file.create_dataset("x", SHAPE, "<f2", external=PASSWORDS),
    "virtual": lambda file, _: file.create_virtual_dataset("x", VIRTUAL),
    "group": lambda file, _: file.create_group("x"),
    "strings": lambda file, _: file.create_dataset("x", SHAPE, h5py.string_dtype()),
    "other type": lambda file, rows: file.create_dataset("x", data=rows.astype(">f2")),
    "odd name": lambda file, _: file.create_group(b"\x1b[2J\xff"),
    "foreign filter": foreign_filter,
}
for name, change in IN_FILE.items():
    case("hdf5", f"HDF5 {name}", in_file, change)
case("hdf5-archive", "HDF5 bomb", in_file, gzip_bomb)
case("hdf5 hdf5-archive", "HDF5 cut", put, FILE, lambda old: old[:300])
case("hdf5 hdf5-archive", "HDF5 superblock", put, FILE, lambda old: old[:9] + b"\xff" + old[10:])
case("hdf5-archive", "HDF5 library crashes", library, "read q; kill -SEGV $$")
case("hdf5-archive", "HDF5 library hangs", library, "exec sleep 1000")
