"""The connection to a Dask cluster, which may be one that is started for this command alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager

from distributed import Client, LocalCluster
from distributed.comm.addressing import get_address_host_port

from ..cache import ConfigError
from .cluster_worker import LocalWorker

CONNECT_SECONDS = 30.0


@contextmanager
def connected(address: str, threads: int = 0) -> Generator[Client]:
    """Connect to a cluster, or start one on this machine.

    Args:
        address: Of a scheduler, such as tcp://host:8786; or `local:N` for N workers of our own,
            which end with this process, however it ends.
        threads: Threads of all workers of our own together; 0: as many as there are processors.

    Raises:
        ConfigError: No such cluster.
    """
    kind, _, count = address.partition(":")
    if kind == "local":
        if not (count.isdecimal() and int(count) > 0):
            raise ConfigError(f"cluster {address!r}: expected local:N with N from 1, or an address")
        with _local(int(count), threads) as client:
            yield client
        return
    try:
        # A client that cannot even be made makes itself heard when it is cleared away.
        get_address_host_port(address)
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cluster {address!r}: no Dask scheduler answers: {error}; expected local:N, or the "
            "address that `dask scheduler` prints, such as tcp://host:8786"
        ) from error
    with client:
        yield client


@contextmanager
def _local(workers: int, threads: int) -> Generator[Client]:
    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=max(1, (threads or len(os.sched_getaffinity(0))) // workers),
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        # Backbones and decoders are no results that Dask could write to disk.
        memory_limit=0,
        # A worker holds a GPU of its own, where there are some; see `held_device`.
        resources={"GPU": 1},
        silence_logs=logging.ERROR,
    )
    with cluster, Client(cluster, set_as_default=False) as client:
        client.register_plugin(LocalWorker())
        yield client
