"""`concord extract`: stage one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .commands_finetune import finetune
from .commands_text import transcribe
from .options import BUDGET, DATA, DEVICE, EITHER, STORE, THREADS

if TYPE_CHECKING:
    from ..cache import FeatureStore
    from ..extract.receipt import Receipt
    from .config import Config


@click.group("extract")
def group() -> None:
    """Stage one: compute feature rows into the store."""


group.add_command(transcribe)
group.add_command(finetune)


def _part(_ctx: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    part, _, parts = value.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"expected i/n with 1 <= i <= n, such as 2/8; found {value!r}")
    return int(part), int(parts)


@group.command()
@EITHER
@DATA
@STORE
@click.option("--stream", "streams", multiple=True, help="Stream, may be repeated; default all.")
@click.option(
    "--weights",
    multiple=True,
    metavar="STREAM=WEIGHTS",
    help="Weights of a stream, with --data: a name, a file, or seeded; may be repeated.",
)
@click.option("--part", default="1/1", show_default=True, callback=_part, help="Part i/n.")
@click.option("--receipt", type=click.Path(path_type=Path), help="Where to leave the receipt.")
@click.option("--decoders", default=0, help="Files decoded at once; 0: as the processors allow.")
@click.option(
    "--dask",
    "cluster",
    metavar="ADDRESS|local:N",
    help="Spread the sources over the workers of a Dask cluster, such as tcp://host:8786, or over N"
    " processes of our own, which share --threads.",
)
@BUDGET
@DEVICE
@THREADS
def run(
    settings: str | None,
    data: Path | None,
    store: Path | None,
    streams: tuple[str, ...],
    weights: tuple[str, ...],
    part: tuple[int, int],
    receipt: Path | None,
    decoders: int,
    cluster: str | None,
    budget: float,
    device: str,
    threads: int,
) -> None:
    """Compute what the store lacks, source by source; what is there already is skipped.

    Sources that cannot be read go to quarantine. With --receipt the command still ends well, and
    `concord extract index` judges the receipts of all parts together; without, the manifest is
    written at once and the budget judged: exit code 3 where more sources failed.

    concord extract run --data Aff-Wild2 --store features --stream visual/resnet18
    """
    from ..cache import FeatureStore, ShardFormat
    from ..extract.settings import LABELS
    from .datasets import dataset_of
    from .plan import streams_of
    from .progress import progress

    if receipt is None and part[1] > 1:
        raise click.UsageError("--part needs --receipt, for `concord extract index` to join")
    config = _config(settings, data, streams, weights)
    chosen = streams_of(config, [*streams, LABELS] if data and streams else streams)
    opened = FeatureStore.create(store or config.store_path, ShardFormat(config.shards))
    what = f"{' '.join(chosen)} part {part[0]}/{part[1]}"
    # Reading labels takes neither a device nor a cluster.
    where = (cluster, device, threads) if set(chosen) != {LABELS} else (None, "", 0)
    with _engine(*where) as compute, progress(what) as told:
        done = compute(
            dataset_of(config), chosen, opened, part=part, decoders=decoders, progress=told
        )
    for entry in done.quarantine:
        click.echo(f"quarantine: {entry.source} ({entry.stream}): {entry.message}", err=True)
    if receipt:
        done.save(receipt)
    else:
        _index([done], opened, budget, None)


def _config(
    settings: str | None, data: Path | None, streams: tuple[str, ...], weights: tuple[str, ...]
) -> Config:
    """Read a configuration, or make one of a folder and the names of streams."""
    from .config import load_config, parse_config
    from .datasets import data_settings

    if (settings is None) == (data is None):
        raise click.UsageError("give either --config or --data")
    if settings is not None:
        if weights:
            raise click.UsageError("--weights goes with --data; a configuration names its own")
        return load_config(settings)
    own = {name: {"weights": value} for name, _, value in (w.partition("=") for w in weights)}
    unknown = sorted(set(own) - set(streams))
    if unknown:
        raise click.UsageError(f"--weights: no --stream {', '.join(unknown)}")
    chosen = {name: own.get(name, {}) for name in streams if not name.startswith("labels/")}
    return parse_config({"data": data_settings(Path(str(data))), "streams": chosen})


@group.command()
@click.argument("receipts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), required=True)
@BUDGET
@click.option("--coverage", type=click.Path(path_type=Path), help="Where to write the coverage.")
def index(receipts: tuple[Path, ...], store: Path, budget: float, coverage: Path | None) -> None:
    """Join the RECEIPTS of all parts: write the manifest, judge the failure budget.

    Ends with exit code 3 where more sources failed than the budget allows.
    """
    from ..cache import FeatureStore
    from ..extract.receipt import load_receipt

    _index([load_receipt(path) for path in receipts], FeatureStore(store), budget, coverage)


def _index(
    receipts: Sequence[Receipt], store: FeatureStore, budget: float, coverage: Path | None
) -> None:
    from ..cache.atomic import write_json
    from ..extract.index import Index

    joined = Index(receipts, store)
    joined.check_budget(budget)
    manifest = joined.manifest()
    store.save_manifest(manifest)
    if coverage:
        write_json(coverage, joined.coverage(budget))
    count = joined.budget(budget)
    click.echo(
        f"{manifest.name}: {len(manifest.tracks)} tracks; {count['quarantined']} of "
        f"{count['sources']} sources in quarantine, {count['allowed']} allowed"
    )


@contextmanager
def _engine(cluster: str | None, device: str, threads: int) -> Generator[Callable[..., Receipt]]:
    """Hold what computes: a device (none where it is empty), or a cluster."""
    from ..extract.engine import extract
    from .device import prepared_device

    if cluster:
        from ..extract.cluster import extract_on
        from ..extract.connection import connected

        with connected(cluster, threads) as client:
            set_up = partial(prepared_device, device)
            yield partial(extract_on, client, set_up=set_up, device=device)
    elif device:
        with prepared_device(device, threads) as held:
            yield partial(extract, device=held)
    else:
        yield extract
