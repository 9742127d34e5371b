"""The contract of every store, over S3 and over a server of plain files, after a push."""

from __future__ import annotations

import pytest
from concord.cache import FeatureStore, probe
from concord.cache.transfer import plan_push

from .servers import new_bucket, nginx
from .test_contract import FORMATS, MAPPED, STREAMS, TestContract, folders

__all__ = ["TestContract", "folders"]

WAYS = [
    pytest.param((how, server), id=f"{how} {server}", marks=[] if plain else pytest.mark.slow)
    for how in FORMATS
    for server in ("moto", "nginx", "swift")
    for plain in [how == MAPPED[0] and server != "swift"]
]


@pytest.fixture(scope="module", params=WAYS)
def streams(request, folders, tmp_path_factory):
    how, server = request.param
    # The child that looks at HDF5 files first may know another server.
    probe._CHILD.stop()
    store = FeatureStore(folders[how])
    with pytest.MonkeyPatch.context() as patch:
        if server != "nginx":
            url = new_bucket(request.getfixturevalue(server), patch)
            plan_push(store, url).carry_out()
            yield opened(url)
            return
        shared = tmp_path_factory.mktemp("shared")
        plan_push(store, shared / "store").carry_out()
        with nginx(tmp_path_factory.mktemp("nginx"), shared) as address:
            yield opened(f"{address}/store")


def opened(url):
    store = FeatureStore(url)
    return {dtype: store[name] for dtype, name in STREAMS.items()}
