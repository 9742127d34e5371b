"""Reading a remote without pulling, by requests counted at the server; and what is refused."""

from __future__ import annotations

import traceback

import numpy as np
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from concord.cache import ConfigError, FeatureStore, StoreError
from concord.cache.drivers import attempt
from concord.cache.errors import RemoteError
from concord.cache.place import open_place
from concord.cache.transfer import plan_pull, plan_push

from .remotes import ALL, NAME, fill
from .servers import Gate, nginx, requests, s3_environment


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "store")


@pytest.fixture
def wide(tmp_path):
    """A store of rows as wide as real ones, in one shard."""
    return fill(tmp_path / "wide", ALL[:3], rows=3000, dim=512)


def windows(count=200):
    random = np.random.default_rng(5)
    for _ in range(count):
        yield f"t{random.integers(3):02d}", int(random.integers(2700))


WINDOW = 300 * 512 * 2


def test_a_window_is_one_request_for_the_chunks_that_it_touches(wide, tmp_path):
    plan_push(wide, tmp_path / "shared" / "store").carry_out()
    with nginx(tmp_path / "nginx", tmp_path / "shared") as address:
        stream = FeatureStore(f"{address}/store")[NAME]
        first = stream["t00"].rows[0:300]
        asked = requests(tmp_path / "nginx")
        assert sum(size for _, _, _, size, _ in asked) < 2 * WINDOW + 65536
        before = len(asked)
        for track, start in windows():
            found = stream[track].rows[start : start + 300]
            assert np.array_equal(found, wide[NAME][track].rows[start : start + 300])
        asked = requests(tmp_path / "nginx")[before:]
    assert first.shape == (300, 512)
    assert [(method, status) for method, _, status, _, _ in asked] == [("GET", 206)] * 200
    mean = sum(size for _, _, _, size, _ in asked) / 200
    print(f"\n{mean / WINDOW:.3f} of a window's bytes, one request each")
    assert mean <= 1.9 * WINDOW


def test_the_same_over_s3(wide, s3, moto, monkeypatch):
    plan_push(wide, s3).carry_out()
    import s3fs

    with Gate(moto) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_environment(gate.address)["AWS_ENDPOINT_URL"])
        s3fs.S3FileSystem.clear_instance_cache()
        stream = FeatureStore(s3)[NAME]
        assert stream["t00"].rows[0:1].any()
        before = gate.moved
        for track, start in windows():
            found = stream[track].rows[start : start + 300]
            assert np.array_equal(found, wide[NAME][track].rows[start : start + 300])
        mean = (gate.moved - before) / 200
    s3fs.S3FileSystem.clear_instance_cache()
    print(f"\n{mean / WINDOW:.3f} of a window's bytes, headers included")
    assert mean <= 1.9 * WINDOW + 4096


# --- refusals


@pytest.mark.parametrize(
    "url",
    [
        "https://me:{}@host/store",
        "s3://key:{}@bucket/store",
        "https://{}@host/store",
        "https://host/store?X-Amz-Signature={}",
        "simplecache::s3://key:{}@bucket/store",
        "abfs://box:{}@account/store",
    ],
)
def test_secrets_in_urls_are_refused_and_not_repeated(store, url, tmp_path):
    secret = "planted-5ecre7"
    for act in (FeatureStore, open_place, lambda u: plan_push(store, u)):
        with pytest.raises(ConfigError, match="may not carry") as caught:
            act(url.format(secret))
        assert secret not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_driver_that_is_missing_is_named_with_the_command(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "s3fs", None)
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(StoreError, match=r"pip install 'concord\[s3\]'"):
        open_place("s3://bucket/store")


ENDPOINT = "https://bucket.host/?X-Amz-Credential=5ecre7"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(5, "5ecre7"), "OSError: Input/output error"),
        (OSError("5ecre7"), "OSError"),
        (PermissionError("5ecre7"), "access refused"),
        (FileNotFoundError("5ecre7"), "store"),
        (EndpointConnectionError(endpoint_url=ENDPOINT), "EndpointConnectionError"),
        (NoCredentialsError(), "access refused"),
        (ClientError({"Error": {"Code": "Slow", "Message": "5ecre7"}}, "Get"), "ClientError: Slow"),
        (ClientError({"Error": {"Code": "5ecre7 \x1b"}}, "Get"), "ClientError"),
    ],
    ids=repr,
)
def test_a_drivers_own_words_are_not_repeated(monkeypatch, error, told):
    monkeypatch.setattr("concord.cache.drivers.PAUSE_SECONDS", 0.0)

    def fail():
        raise error

    with pytest.raises((RemoteError, FileNotFoundError), match=told) as caught:
        attempt(fail, "s3://bucket/store")
    shown = "".join(traceback.format_exception(caught.value))
    assert "5ecre7" not in str(caught.value)
    assert "5ecre7" not in shown.rpartition("Traceback")[2].partition("raise error")[0]
    assert "s3://bucket/store" in str(caught.value)


def test_nothing_is_written_to_a_server_of_plain_files(store):
    with pytest.raises(ConfigError, match="can only be read"):
        plan_push(store, "http://127.0.0.1:9/store")


def test_a_bucket_that_is_not_there(store, s3):
    missing = s3.replace("/store", "-none/store")
    with pytest.raises(StoreError, match="no store here"):
        FeatureStore(missing)
    with pytest.raises(RemoteError, match="make the bucket first"):
        plan_push(store, missing).carry_out()


def test_a_folder_server_without_a_catalogue_says_what_to_do(store, tmp_path):
    refused = pytest.raises(StoreError, match=r"no catalogue\.json")
    with nginx(tmp_path / "nginx", tmp_path) as address, refused:
        FeatureStore(f"{address}/store")


def test_more_than_the_disk_holds_is_refused_at_once(store, tmp_path, monkeypatch):
    remote = tmp_path / "shared"
    plan_push(store, remote).carry_out()
    monkeypatch.setattr("shutil.disk_usage", lambda _: Free)
    with pytest.raises(StoreError, match="bytes are to arrive, and 1000 are free"):
        plan_pull(tmp_path / "other", remote)
    assert not (tmp_path / "other").exists()


class Free:
    free = 1000
