"""Opening HDF5 files in a child process first, since the HDF5 library can crash on a bad one.

The child checks that a file holds what its index says and nothing else (no external storage, no
links, no foreign filters), and reads all of it once. What kills or hangs the child is refused.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .entries import ARRAYS, Index
from .errors import StoreError

if TYPE_CHECKING:
    from .place import Place

LONGEST_SECONDS = 300.0
MEMORY_BYTES = 2 << 30
BLOCK_ROWS = 256
GZIP, SHUFFLE, FLETCHER = 1, 2, 3


def probe(place: Place, index: Index) -> None:
    """Have a child process open and read a shard's HDF5 file.

    Raises:
        StoreError: The file is not what its index says, or the child crashed or hung over it.
    """
    from .hdf5_format import FILE

    where = f"{place}/{FILE}"
    expected = {array: (list(index.shape(array)), index.type_of(array).str) for array in ARRAYS}
    question = json.dumps([where, expected, index.compression is not None])
    answer = _CHILD.ask(question, where, _mark(place))
    if answer["problem"]:
        raise StoreError(f"{where}: refused: {answer['problem']}")


def _mark(place: Place) -> tuple[int, ...]:
    """Tell a file from one that was put in its place later."""
    from .hdf5_format import FILE
    from .place import LocalPlace

    if not isinstance(place, LocalPlace):
        return ()
    found = Path(place.path, FILE).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


class _Child:
    """One child for all files of this process; a new one after a crash, and after a fork."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()
        self._checked: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}

    def ask(self, question: str, where: str, mark: tuple[int, ...]) -> dict[str, Any]:
        with self._lock:
            known = self._checked.get(question)
            if known is None or known[0] != mark:
                known = self._checked[question] = (mark, self._answer(question, where))
            return known[1]

    def _answer(self, question: str, where: str) -> dict[str, Any]:
        if self._owner != os.getpid():
            self._process, self._owner = None, os.getpid()
        child = self._process = self._process or _start()
        assert child.stdin is not None
        assert child.stdout is not None
        line = b""
        try:
            child.stdin.write(question.encode() + b"\n")
            child.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(child.stdout, selectors.EVENT_READ)
                if selector.select(LONGEST_SECONDS):
                    line = child.stdout.readline()
        except BrokenPipeError:
            line = b""
        if line:
            return json.loads(line)
        hung = child.poll() is None
        self.stop()
        ended = f"did not end within {LONGEST_SECONDS:.0f} s" if hung else "crashed"
        raise StoreError(f"{where}: refused: the HDF5 library {ended} over this file, in a child")

    def stop(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from concord.cache.probe import serve; serve()"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


_CHILD = _Child()
atexit.register(_CHILD.stop)


def serve() -> None:
    """Answer questions from standard input, in the child."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        where, expected, compressed = json.loads(line)
        try:
            problem = _problem(where, expected, compressed=compressed)
        except Exception as error:  # noqa: BLE001 - whatever it is, the file is refused for it
            problem = f"{type(error).__name__}: {error}"
        sys.stdout.write(json.dumps({"problem": problem}) + "\n")
        sys.stdout.flush()


def _chunks_problem(data: Any) -> str:
    """Say what is wrong with the chunks of a compressed data set.

    The library takes as much memory as a chunk unpacks to, so each is unpacked here first, and no
    further than a chunk goes. Nothing is said of one that is merely damaged: it costs its own rows.
    """
    rows = min(BLOCK_ROWS, data.shape[0])
    if data.chunks != (rows, *data.shape[1:]):
        return f"has chunks {data.chunks}"
    size = rows * data.dtype.itemsize * (data.shape[1] if data.ndim > 1 else 1)
    for number in range(data.id.get_num_chunks()):
        place = data.id.get_chunk_info(number)
        if place.filter_mask:
            return f"has a chunk that skips filters ({place.filter_mask})"
        if place.size > 2 * size + 1024:
            return f"has a chunk of {place.size} bytes that should hold {size}"
        packed = data.id.read_direct_chunk(place.chunk_offset)[1][:-4]
        unpacking = zlib.decompressobj()
        with contextlib.suppress(zlib.error):
            if len(unpacking.decompress(packed, size + 1)) > size:
                return f"has a chunk that unpacks to more than {size} bytes"
    return ""


def _problem(where: str, expected: dict[str, Any], *, compressed: bool) -> str:
    """Say what is wrong with a file; nothing if it is sound."""
    import h5py

    from .place import open_place

    folder, _, name = where.rpartition("/")
    with h5py.File(open_place(folder).open(name), "r", locking=False) as file:
        if set(file) != set(expected):
            return f"expected {', '.join(sorted(expected))}, found {', '.join(sorted(file))}"
        for name, (shape, dtype) in expected.items():
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                return f"{name!r} is a link"
            data = file[name]
            if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
                return f"{name!r} does not lie in this file"
            if data.shape != tuple(shape) or data.dtype.str != dtype:
                return f"{name!r} holds {data.shape} {data.dtype}, expected {shape} {dtype}"
            filters = data.id.get_create_plist()
            found = {filters.get_filter(i)[0] for i in range(filters.get_nfilters())}
            if found != ({GZIP, SHUFFLE, FLETCHER} if compressed else set()):
                return f"{name!r} has filters {sorted(found)}"
            if compressed and (problem := _chunks_problem(data)):
                return f"{name!r} {problem}"
            for at in range(0, shape[0], BLOCK_ROWS):
                # A chunk that merely differs from its checksum costs its own rows, when read.
                with contextlib.suppress(OSError):
                    data[at : at + BLOCK_ROWS]  # pyright: ignore[reportUnusedExpression]
    return ""
