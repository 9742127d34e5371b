"""`concord extract`: stage one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import BUDGET, DEVICE, STORE, THREADS

if TYPE_CHECKING:
    from ..cache import FeatureStore
    from ..extract.receipt import Receipt
    from .config import Config


@click.group("extract")
def group() -> None:
    """Stage one: compute feature rows into the store."""


def _part(_ctx: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    part, _, parts = value.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"expected i/n with 1 <= i <= n, such as 2/8; found {value!r}")
    return int(part), int(parts)


@group.command()
@click.option("--config", "settings", help="Configuration file, or JSON text.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of a data set in Aff-Wild2's layout, instead of a configuration.",
)
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
    from ..extract.engine import extract
    from ..extract.settings import LABELS
    from .plan import dataset_of, streams_of
    from .progress import progress

    if receipt is None and part[1] > 1:
        raise click.UsageError("--part needs --receipt, for `concord extract index` to join")
    config = _config(settings, data, streams, weights)
    chosen = streams_of(config, [*streams, LABELS] if data and streams else streams)
    opened = FeatureStore.create(store or config.store_path, ShardFormat(config.shards))
    what = f"{' '.join(chosen)} part {part[0]}/{part[1]}"
    with _device(device, threads, needed=set(chosen) != {LABELS}) as held, progress(what) as told:
        done = extract(
            dataset_of(config),
            chosen,
            opened,
            part=part,
            device=held,
            decoders=decoders,
            progress=told,
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
    name = re.sub("[^A-Za-z0-9._-]", "-", Path(str(data)).resolve().name).lstrip("._-") or "data"
    dataset = {"adapter": "affwild2", "path": str(data), "name": name}
    return parse_config({"data": dataset, "streams": chosen})


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


def _device(name: str, threads: int, *, needed: bool):
    """Hold a device for the streams that need one; reading labels does not even import torch."""
    from contextlib import nullcontext

    from .device import held_device, set_up_torch

    if not needed:
        return nullcontext("cpu")
    set_up_torch(threads)
    return held_device(name)
