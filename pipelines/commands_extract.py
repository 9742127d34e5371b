"""`concord extract`: stage one."""

from __future__ import annotations

from pathlib import Path

import click

from .options import DEVICE, SETTINGS, STORE, THREADS


@click.group("extract")
def group() -> None:
    """Stage one: compute feature rows into the store."""


def _part(_ctx: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    part, _, parts = value.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"expected i/n with 1 <= i <= n, such as 2/8; found {value!r}")
    return int(part), int(parts)


@group.command()
@SETTINGS
@STORE
@click.option("--stream", "streams", multiple=True, help="Stream, may be repeated; default all.")
@click.option("--part", default="1/1", show_default=True, callback=_part, help="Part i/n.")
@click.option("--receipt", type=click.Path(path_type=Path), help="Where to leave the receipt.")
@DEVICE
@THREADS
def run(
    settings: str,
    store: Path | None,
    streams: tuple[str, ...],
    part: tuple[int, int],
    receipt: Path | None,
    device: str,
    threads: int,
) -> None:
    """Compute what the store lacks, source by source; what is there already is skipped.

    Sources that cannot be read go to quarantine, listed in the receipt, and the command still
    ends well; `concord extract index` judges them all together.
    """
    from ..cache import FeatureStore, ShardFormat
    from ..extract.engine import extract
    from ..extract.settings import LABELS
    from .config import load_config
    from .plan import dataset_of, streams_of
    from .progress import progress

    config = load_config(settings)
    chosen = streams_of(config, streams)
    what = f"{' '.join(chosen)} part {part[0]}/{part[1]}"
    with _device(device, threads, needed=set(chosen) != {LABELS}) as held, progress(what) as told:
        done = extract(
            dataset_of(config),
            chosen,
            FeatureStore.create(store or config.store_path, ShardFormat(config.shards)),
            part=part,
            device=held,
            progress=told,
        )
    if receipt:
        done.save(receipt)
    for entry in done.quarantine:
        click.echo(f"quarantine: {entry.source} ({entry.stream}): {entry.message}", err=True)


@group.command()
@click.argument("receipts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), required=True)
@click.option("--budget", default=0.25, show_default=True, help="Share of sources that may fail.")
@click.option("--coverage", type=click.Path(path_type=Path), help="Where to write the coverage.")
def index(receipts: tuple[Path, ...], store: Path, budget: float, coverage: Path | None) -> None:
    """Join the RECEIPTS of all parts: write the manifest, judge the failure budget.

    Ends with exit code 3 where more sources failed than the budget allows.
    """
    from ..cache import FeatureStore
    from ..cache.atomic import write_json
    from ..extract.index import Index
    from ..extract.receipt import load_receipt

    opened = FeatureStore(store)
    joined = Index([load_receipt(path) for path in receipts], opened)
    joined.check_budget(budget)
    manifest = joined.manifest()
    opened.save_manifest(manifest)
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
