"""Servers that lie: each is refused by name; the store, memory and disk stay as they were."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from concord.cache import ConcordError, FeatureStore, drivers, web
from concord.cache.catalogue import parse_catalogue
from concord.cache.digests import digest
from concord.cache.transfer import plan_pull, plan_push
from concord.cache.verify import verify

from .remotes import ALL, NAME, RECIPE, check, fill

MOST_GROWTH = 160 << 20
SEAL, ROWS, INDEX = "seal.json", "x/c/0/0", "index.json"


class Server(ThreadingHTTPServer):
    """Serves a folder with ranges, but for what `lie` says of a path."""

    daemon_threads = True

    def __init__(self, folder, lie):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.lie, self.asked, self.sent = folder, lie, [], 0
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/store"

    def handle_error(self, *_):
        """Clients that hang up are what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        if not self.server.lie(self):
            self.serve(self.content())

    def content(self):
        path = self.server.folder / self.path.removeprefix("/").replace("%40", "@")
        return path.read_bytes() if path.is_file() else None

    def serve(self, content, *, ranges=True, **headers):
        if content is None:
            self.answer(404, b"")
            return
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not (span and ranges):
            self.answer(200, content, **headers)
            return
        first, last = int(span[1]), min(int(span[2]), len(content) - 1)
        where = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        self.answer(206, content[first : last + 1], **where, **headers)

    def answer(self, status, content, **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": len(content)} | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def endless(self, status=200, **headers):
        """Send until the client hangs up."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        piece = b"10000\r\n" + b"0" * 65536 + b"\r\n"
        while True:
            self.wfile.write(piece)
            self.server.sent += 65536


def at(name, act):
    """Lie about files of one name."""
    return lambda handler: handler.path.endswith(name) and (act(handler), True)[1]


def flipped(handler):
    content = bytearray(handler.content())
    content[len(content) // 2] ^= 1
    handler.serve(bytes(content))


def redirected(handler):
    handler.answer(302, b"", Location="http://169.254.169.254/latest/meta-data/?key=5ecre7")


def slow(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def own(record):
    """Make a catalogue agree with its own digest."""
    body = {name: record[name] for name in ("pages", "shards", "manifests")}
    return json.dumps({**record, "sha256": digest(body)}).encode()


def catalogue(change):
    """Serve another catalogue, with a digest that is right."""

    def act(handler):
        record = json.loads(handler.content())
        change(record)
        handler.serve(own(record))

    return at("catalogue.json", act)


def renamed(name):
    def change(record):
        (shard,) = record["shards"].values()
        record["shards"] = {name: shard}

    return catalogue(change)


def forged(content, change):
    """Give another seal, with a digest that is right."""
    seal = json.loads(content)
    change(seal["files"])
    return json.dumps({**seal, "sha256": digest(seal["files"])}).encode()


def resealed(change):
    """Serve another seal, and a catalogue that names it."""

    def lie(handler):
        if handler.path.endswith(SEAL):
            handler.serve(forged(handler.content(), change))
        elif handler.path.endswith("catalogue.json"):
            record = json.loads(handler.content())
            for name, shard in record["shards"].items():
                stream, _, last = name.rpartition("/")
                path = handler.server.folder / f"store/streams/{stream}/shards/{last}/{SEAL}"
                shard["seal"] = hashlib.sha256(forged(path.read_bytes(), change)).hexdigest()
            handler.serve(own(record))
        else:
            return False
        return True

    return lie


def no_rows(files):
    files[ROWS]["sha256"] = "0" * 64


def grown(files):
    files[ROWS]["size"] = 1 << 46


HUGE = {"Content-Length": 1 << 45}
NO_ROWS = at(ROWS, lambda h: h.serve(h.content(), ranges=False))
LIES = {
    "wrong bytes": (at(ROWS, flipped), "SHA-256 differs"),
    "wrong index": (at(INDEX, flipped), "SHA-256 differs"),
    "a damaged seal": (at(SEAL, flipped), "not the seal that the catalogue names"),
    "another seal": (
        at(SEAL, lambda h: h.serve(forged(h.content(), no_rows))),
        "not the seal that the catalogue names",
    ),
    "a seal of other digests": (
        resealed(no_rows),
        "SHA-256 differs",
    ),
    "a seal of a huge size": (resealed(grown), "index and data disagree"),
    "a seal of files outside": (
        resealed(lambda files: files.update({"../../up": files[ROWS]})),
        "not the files of this format",
    ),
    "a wrong catalogue": (at("catalogue.json", flipped), "damaged|not valid JSON"),
    "names with dots": (renamed("visual/../../etc@0123456789abcdef/" + "0" * 24), "not a shard's"),
    "absolute names": (renamed("/etc/passwd"), "not a shard's name"),
    "shards that are not there": (renamed(f"{NAME}@{digest(RECIPE)[:16]}/" + "0" * 24), "missing"),
    "a huge shard": (
        catalogue(lambda r: [s.update(bytes=1 << 60) for s in r["shards"].values()]),
        "not a shard's name",
    ),
    "no shard at all": (at(SEAL, lambda h: h.serve(None)), "missing"),
    "no rows": (at(ROWS, lambda h: h.serve(None)), "missing"),
    "an endless catalogue": (at("catalogue.json", Handler.endless), "expected at most"),
    "an endless index": (at(INDEX, Handler.endless), "expected at most"),
    "endless rows": (
        at(ROWS, lambda h: h.endless(206, **{"Content-Range": "bytes 0-9/10"})),
        "asked for .* bytes, the server sends",
    ),
    "a huge declared catalogue": (
        at("catalogue.json", lambda h: h.answer(200, b"", **HUGE)),
        "expected at most",
    ),
    "a slow catalogue": (at("catalogue.json", slow), "TimeoutError"),
    "no ranges": (NO_ROWS, "no ranges"),
    "another range": (
        at(ROWS, lambda h: h.answer(206, h.content(), **{"Content-Range": "bytes 7-9/10"})),
        "expected bytes",
    ),
    "short rows": (at(ROWS, lambda h: h.serve(h.content()[:-9])), "damaged|shorter"),
    "a redirect": (at("", redirected), r"redirects to 169\.254\.169\.254"),
    "a redirect of rows": (at(ROWS, redirected), r"redirects to 169\.254\.169\.254"),
    "compressed": (
        at(ROWS, lambda h: h.serve(h.content(), **{"Content-Encoding": "gzip"})),
        "compressed",
    ),
    "refused": (at("", lambda h: h.answer(403, b"key=5ecre7")), "access refused"),
    "broken": (at(ROWS, lambda h: h.answer(503, b"key=5ecre7")), "503"),
    "hangs up": (at(ROWS, lambda h: h.connection.close()), "tries failed"),
}


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(drivers, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(web, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(web, "SLOWEST", 1 << 24)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder with a sound remote, and a store that holds the half of it."""
    folder = tmp_path_factory.mktemp("shared")
    plan_push(fill(folder / "a", ALL[4:8]), folder / "store").carry_out()
    return folder


def state(folder):
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(path, url):
    """Pull, and give the error, or that of the first thing that stayed."""
    try:
        moved = plan_pull(path, url).carry_out()
    except ConcordError as error:
        return str(error)
    return next((lost.problem for lost in moved.damaged), "silently accepted")


@pytest.mark.parametrize(
    "name",
    # Its limit is waited for again and again.
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "a slow catalogue")) for name in LIES],
)
def test_a_lying_server_is_refused_by_name(shared, tmp_path, name):
    lie, expected = LIES[name]
    mine = fill(tmp_path / "mine", ALL[:4])
    before, held = state(tmp_path), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    server = Server(shared, lie)
    try:
        refused = refusal(tmp_path / "mine", server.url)
    finally:
        server.shutdown()
        server.server_close()
    assert re.search(expected, refused)
    assert "5ecre7" not in refused
    assert server.url in refused
    after = state(tmp_path)
    assert {path: mark for path, mark in after.items() if path in before} == before
    assert not [path for path in after.keys() - before.keys() if path.name != "recipe.json"]
    assert verify(FeatureStore(mine.path)) == []
    assert check(mine.path) == set(ALL[:4])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) << 10
    assert grown < MOST_GROWTH
    assert server.sent < 64 << 20


def test_the_truth_is_taken(shared, tmp_path):
    server = Server(shared, lambda _: False)
    assert plan_pull(tmp_path / "mine", server.url).carry_out().items == 4
    assert check(tmp_path / "mine") == set(ALL[4:8])
    assert all(".." not in path for path in server.asked)


def test_one_bad_shard_does_not_keep_the_others(tmp_path):
    plan_push(fill(tmp_path / "a"), tmp_path / "shared" / "store").carry_out()
    bad = Path(FeatureStore(tmp_path / "shared" / "store")[NAME].shards[0].path).name
    server = Server(tmp_path / "shared", at(f"{bad}/{ROWS}", flipped))
    moved = plan_pull(tmp_path / "mine", server.url).carry_out()
    assert (moved.items, len(moved.damaged)) == (8, 4)
    assert len(check(tmp_path / "mine")) == 8
    assert verify(FeatureStore(tmp_path / "mine")) == []
    found = parse_catalogue((tmp_path / "shared/store/catalogue.json").read_bytes(), "it")
    assert len(found.shards) == 3
