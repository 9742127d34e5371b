"""Real servers on loopback, each a process of its own: moto and Swift (S3), nginx; and a gate.

A gate stands before a server, counts what passes, and can be cut.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

KEY, SECRET = "test:tester", "planted-secret-7f3a9c"
"""What the tests' servers know a client by; the secret must turn up nowhere."""
PATIENCE = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_answer(url, process, what):
    """Wait until a server answers anything at all."""
    latest = time.monotonic() + PATIENCE
    while time.monotonic() < latest:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"{what} did not start")


@contextlib.contextmanager
def running(command, log, **how):
    """Run a server in a group of processes of its own."""
    with Path(log).open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=-3, start_new_session=True, **how
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# --- S3


@contextlib.contextmanager
def moto(folder):
    """Moto's S3 server; gives its address."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, folder / "moto.log", cwd=folder) as process:
        address = f"http://127.0.0.1:{port}"
        await_answer(address, process, "moto")
        yield address


CONF = """[DEFAULT]
devices = {folder}/devices
swift_dir = {folder}
bind_ip = 127.0.0.1
bind_port = {port}
mount_check = false
workers = 0
user = {user}
log_level = WARNING
fallocate_reserve = 0
[pipeline:main]
pipeline = {pipeline}
[app:{kind}-server]
use = egg:swift#{kind}
{more}
[{kind}-replicator]
"""
PROXY = """allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
s3_acl = no
check_bucket_owner = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:bulk]
use = egg:swift#bulk
"""


def swift_program(name):
    return shutil.which(name) or shutil.which(name, path=Path(sys.executable).parent)


@contextlib.contextmanager
def swift(folder):
    """OpenStack Swift with its S3 layer: four processes; gives its address."""
    if not swift_program("swift-proxy-server"):
        pytest.skip("swift is not installed: pip install swift")
    import pwd

    user = pwd.getpwuid(os.getuid()).pw_name
    (folder / "devices" / "sda").mkdir(parents=True)
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
    ports = {kind: free_port() for kind in ("account", "container", "object", "proxy")}
    with contextlib.ExitStack() as stack:
        for kind, port in ports.items():
            proxy = kind == "proxy"
            if not proxy:
                _ring(folder, kind, port)
            layers = "catch_errors bulk s3api tempauth slo " if proxy else ""
            pipeline = f"{layers}{kind}-server"
            more = PROXY.format(secret=SECRET) if proxy else ""
            text = CONF.format(
                folder=folder, port=port, user=user, pipeline=pipeline, kind=kind, more=more
            )
            (folder / f"{kind}.conf").write_text(text)
        for kind in ports:
            command = [swift_program(f"swift-{kind}-server"), folder / f"{kind}.conf", "-v"]
            log = folder / f"{kind}.log"
            process = stack.enter_context(running(command, log))
        address = f"http://127.0.0.1:{ports['proxy']}"
        await_answer(address, process, "swift")
        yield address


def _ring(folder, kind, port):
    builder = [swift_program("swift-ring-builder"), f"{kind}.builder"]
    device = f"r1z1-127.0.0.1:{port}/sda"
    for arguments in (["create", "4", "1", "0"], ["add", device, "1"], ["rebalance"]):
        subprocess.run([*builder, *arguments], cwd=folder, check=True, stdout=-3, timeout=60)


def s3_environment(address):
    """What a client is told by the environment, as a user tells it."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def new_bucket(address, monkeypatch):
    """Make a bucket, set the environment, and give the URL of a store in it."""
    for name, value in s3_environment(address).items():
        monkeypatch.setenv(name, value)
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"team-{uuid.uuid4().hex[:12]}"
    client_of(address).create_bucket(Bucket=name)
    return f"s3://{name}/store"


def client_of(address):
    """Give a client that knows nothing of this package, to look with."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )


def objects(address, url):
    """Give all objects below a URL: name to bytes."""
    bucket, _, start = url.removeprefix("s3://").partition("/")
    pages = client_of(address).get_paginator("list_objects_v2").paginate(Bucket=bucket)
    found = [entry for page in pages for entry in page.get("Contents", ())]
    return {e["Key"].removeprefix(f"{start}/"): e["Size"] for e in found}


# --- plain files

NGINX = """daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
{user}
events {{ worker_connections 64; }}
http {{
  log_format counted '$request_method $uri $status $body_bytes_sent $http_range';
  access_log {folder}/access.log counted;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port} {tls}; root {root}; autoindex off; }}
}}
"""


TLS = "ssl; ssl_certificate {folder}/own.pem; ssl_certificate_key {folder}/key.pem"
CERTIFICATE = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
NAMES = "subjectAltName=DNS:localhost"


def certify(folder):
    """Make a certificate for localhost, which only who is told of it trusts."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    made = ["-keyout", folder / "key.pem", "-out", folder / "own.pem", "-addext", NAMES]
    command = ["openssl", *CERTIFICATE.split(), *made]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder / "own.pem"


@contextlib.contextmanager
def nginx(folder, root, *, tls=False):
    """Nginx over a folder; gives its address."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not program:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    folder.mkdir(exist_ok=True)
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""
    if tls:
        certify(folder)
    how = TLS.format(folder=folder) if tls else ""
    text = NGINX.format(folder=folder, root=root, port=port, user=user, tls=how)
    (folder / "nginx.conf").write_text(text)
    command = [program, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    with running(command, folder / "out.log") as process:
        # Plain HTTP is answered on a port of TLS too, with an error.
        await_answer(f"http://127.0.0.1:{port}/", process, "nginx")
        yield f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"


def requests(folder):
    """Give what nginx was asked: method, path, status, bytes sent, range."""
    lines = (folder / "access.log").read_text().splitlines()
    found = [line.split(" ", 4) for line in lines]
    return [(m, path, int(status), int(size), span) for m, path, status, size, span in found]


# --- a gate


class Gate:
    """A port that passes bytes on to a server, counts them, and can be cut."""

    def __init__(self, address):
        host, _, port = address.removeprefix("http://").partition(":")
        self._to = host, int(port)
        self._open = set()
        self._shut_until = 0.0
        self.sent = self.received = 0
        self.delay = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if time.monotonic() < self._shut_until:
                client.close()
                continue
            try:
                server = socket.create_connection(self._to)
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            for one, other, name in ((client, server, "sent"), (server, client, "received")):
                threading.Thread(target=self._pass, args=(one, other, name), daemon=True).start()

    def _pass(self, source, sink, name):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                sink.sendall(piece)
                setattr(self, name, getattr(self, name) + len(piece))
                if self.delay:
                    time.sleep(self.delay)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
            self._open.discard(each)

    @property
    def moved(self):
        return self.sent + self.received

    def cut(self, seconds=0.2):
        """Break every connection, and take none for a while."""
        self._shut_until = time.monotonic() + seconds
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.close()
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
