"""The commands of `concord cache` that keep a store sound and small."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .commands_remote import named
from .options import AS_JSON, DEVICE

STORE = click.argument("store", type=click.Path(path_type=Path))
STREAMS = click.option("--stream", "streams", multiple=True, help="This stream only; may repeat.")


@click.command()
@click.argument("store", callback=named)
@STREAMS
@click.option("--repair", is_flag=True, help="Move what is damaged out, to be computed anew.")
@click.option("--inputs", "data", type=click.Path(path_type=Path), help="Re-read this data set.")
@click.option(
    "--of",
    "manifest",
    help="Data set or edition of --inputs or --sample; default the only one, or all.",
)
@click.option("--sample", type=click.IntRange(1), help="Compute so many items once more, instead.")
@click.option("--config", "settings", help="Configuration of media and streams for --sample.")
@click.option("--seed", type=int, help="Choose the same items as another --sample did.")
@DEVICE
@AS_JSON
def verify(
    store: str,
    streams: tuple[str, ...],
    data: Path | None,
    manifest: str | None,
    sample: int | None,
    settings: str | None,
    seed: int | None,
    device: str,
    *,
    repair: bool,
    as_json: bool,
) -> None:
    """Re-read every byte of STORE and name what is damaged.

    With --repair, sound items of a damaged shard are saved into a new one and the rest is moved to
    the folder `damaged` in the store; the next extraction computes what is then missing. With
    --inputs, every video, label file and face image of a data set is read again and compared with
    what the items were computed from: this finds a file that was overwritten in place.

    With --sample N nothing of that is done: N items of STORE, which may be a remote, are chosen at
    random, computed again from your own media (--config), and compared.

    Exit codes: 7 damage was found (and not repaired) or items differ, 8 inputs have changed, 4 not
    one item of the sample could be computed.
    """
    from ..cache import FeatureStore
    from ..cache.errors import ChangedInputsError, DamageFoundError
    from ..cache.repair import repair as mend
    from ..cache.verify import verify as read_again
    from .progress import progress
    from .tables import print_json

    if sample:
        from .recomputing import verify_sample

        chosen: dict[str, Any] = {"streams": streams, "manifest": manifest, "seed": seed}
        verify_sample(store, sample, settings, **chosen, device=device, as_json=as_json)
        return
    opened = FeatureStore(store)
    with progress(f"verify {store}") as told:
        findings = read_again(opened, told, streams or None)
    with progress("repair") as told:
        repairs = mend(opened, findings, told) if repair else []
    changed = _changed(opened, data, manifest) if data else []
    if as_json:
        found = {"findings": findings, "repairs": repairs}
        record = {name: [each.record() for each in part] for name, part in found.items()}
        print_json({**record, "changed": changed})
    else:
        _print_verified(store, findings, repairs, changed)
    repaired = {each.path for each in repairs}
    left = [finding for finding in findings if finding.path not in repaired]
    if left:
        also = "" if repair else "; move it out with --repair"
        raise DamageFoundError(f"{store}: {len(left)} findings{also}")
    if changed:
        raise ChangedInputsError(
            f"{data}: {len(changed)} inputs differ from what was read; run the extraction again "
            "with --forcerun extract"
        )


def _changed(store: Any, data: Path, manifest: str | None) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from ..cache import NotInStoreError
    from ..extract.inputs import changed_inputs
    from .config import parse_config
    from .datasets import data_settings, dataset_of
    from .progress import progress

    manifests = store.manifests() if manifest is None else (store.manifest(manifest),)
    if len(manifests) != 1:
        listed = ", ".join(found.name for found in manifests) or "none"
        raise NotInStoreError(f"{store.place}: choose a manifest with --of; there is: {listed}")
    with progress(f"verify --inputs {data}") as told:
        dataset = dataset_of(parse_config({"data": data_settings(data)}))
        found = changed_inputs(dataset, store, manifests[0], told)
    return [asdict(each) for each in found]


def _print_verified(
    store: str, findings: Sequence[Any], repairs: Sequence[Any], changed: list[dict[str, Any]]
) -> None:
    from .tables import print_table

    rows = [
        {
            "kind": found.kind,
            "path": found.path,
            "problem": found.problem,
            "lost": "; ".join(_lost(item) for item in found.items),
        }
        for found in findings
    ]
    if rows:
        print_table(f"damaged in {store}", ("kind", "path", "problem", "lost"), rows)
    done = [
        {"path": each.path, "done": each.done, "saved": len(each.saved), "lost": len(each.lost)}
        for each in repairs
    ]
    if done:
        print_table("repaired", ("path", "done", "saved", "lost"), done)
    if changed:
        print_table("inputs that changed", ("track", "stream", "input", "path", "found"), changed)
    if not (rows or changed):
        click.echo(f"{store}: every byte is as it was written")


def _lost(item: Any) -> str:
    return f"{item.track} rows " + ", ".join(f"{first} to {stop}" for first, stop in item.rows)


@click.command()
@STORE
@click.argument("what")
@click.option("--note", default="", help="Why, for those who come after.")
def pin(store: Path, what: str, note: str) -> None:
    """Keep WHAT, a stream or a data set's edition of STORE, whatever `gc` is told."""
    from ..cache import FeatureStore
    from ..cache.pins import pin as fix

    pinned = fix(FeatureStore(store), what, note)
    click.echo(f"pinned {pinned.what}")


@click.command()
@STORE
@click.argument("what")
def unpin(store: Path, what: str) -> None:
    """Let go of WHAT, pinned before."""
    from ..cache import FeatureStore
    from ..cache.pins import unpin as loose

    for pinned in loose(FeatureStore(store), what):
        click.echo(f"unpinned {pinned.what}")


@click.command()
@STORE
@AS_JSON
def pins(store: Path, *, as_json: bool) -> None:
    """List what is pinned in STORE."""
    from dataclasses import asdict

    from ..cache import FeatureStore
    from ..cache.pins import pins as listed
    from .tables import print_json, print_table

    rows = [asdict(pinned) for pinned in listed(FeatureStore(store))]
    if as_json:
        print_json(rows)
        return
    print_table(f"pinned in {store}", tuple(rows[0]) if rows else ("what", "note"), rows)


@click.command()
@STORE
@click.option(
    "--project",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    show_default="the current folder",
    help="What its runs, receipts and configurations name is kept.",
)
@click.option("--grace", default=24.0, show_default=True, help="Hours; what is younger is kept.")
@click.option("--delete", is_flag=True, help="Delete; otherwise only say what would go.")
@click.option("--nothing", is_flag=True, help="Go on though the project names nothing.")
@AS_JSON
def gc(
    store: Path, project: Path, grace: float, *, delete: bool, nothing: bool, as_json: bool
) -> None:
    """Say what of STORE nothing needs any more; delete it with --delete.

    Kept is what is pinned, what a run or configuration of the project names, and all that is
    younger than the grace. What goes: leftovers of killed writers, what --repair moved out, small
    shards that `compact` merged, streams and editions that nothing names.
    """
    from dataclasses import replace

    from ..cache import FeatureStore
    from ..cache.collect import plan_collection
    from .progress import progress
    from .roots import project_roots
    from .tables import print_json, print_table

    opened = FeatureStore(store)
    roots = replace(project_roots(project, opened), nothing=nothing)
    plan = plan_collection(opened, roots, grace * 3600)
    gone = {removal.path for removal in plan.removals}
    if delete:
        with progress(f"gc {store}") as told:
            gone = {removal.path for removal in plan.delete(told).removed}
    rows = [
        {
            "kind": removal.kind,
            "path": str(removal.path),
            "name": removal.name,
            "why": removal.why,
            "bytes": removal.bytes,
            "deleted": delete and removal.path in gone,
        }
        for removal in plan.removals
    ]
    size = sum(removal.bytes for removal in plan.removals if removal.path in gone)
    if as_json:
        print_json({"deleted": delete, "bytes": size, "removals": rows})
        return
    if rows:
        print_table(f"not needed in {store}", ("kind", "path", "why", "bytes"), rows)
    what = "deleted" if delete else "would be deleted; delete them with --delete"
    click.echo(f"{store}: {len(gone)} of {len(rows)} things, {size / 1e6:.1f} MB, {what}")
    if plan.waiting:
        click.echo(f"{len(plan.waiting)} more wait until they are {grace:g} hours old (--grace)")


@click.command()
@STORE
@STREAMS
@AS_JSON
def compact(store: Path, streams: tuple[str, ...], *, as_json: bool) -> None:
    """Merge the small shards of STORE into larger ones; `gc` deletes the small ones later."""
    from dataclasses import asdict

    from ..cache import FeatureStore
    from ..cache.compact import compact as merge
    from .progress import progress
    from .tables import print_json, print_table

    opened = FeatureStore(store)
    chosen = [opened[name] for name in streams] or opened.streams()
    rows: list[dict[str, Any]] = []
    for stream in chosen:
        with progress(f"compact {stream.name}") as told:
            rows.append(asdict(merge(opened, stream, progress=told)))
    if as_json:
        print_json(rows)
        return
    print_table(f"shards of {store}", ("stream", "before", "after", "items", "rows"), rows)


@click.command()
@click.argument("store")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--shards", type=click.Choice(["zarr", "hdf5"]), default="zarr", show_default=True)
@click.option("--compress", is_flag=True, help="An archive: smaller, and slow to read.")
@AS_JSON
def convert(store: str, target: Path, shards: str, *, compress: bool, as_json: bool) -> None:
    """Copy STORE to a new store TARGET in another format; run again to go on.

    Every item is checked on the way. Exit code 7 where some were damaged and not copied.
    """
    from dataclasses import asdict

    from ..cache import FeatureStore, ShardFormat
    from ..cache.convert import convert as copy
    from ..cache.errors import DamageFoundError
    from .progress import progress
    from .tables import print_json

    with progress(f"convert {store}") as told:
        done = copy(FeatureStore(store), target, ShardFormat(shards, compressed=compress), told)
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(
            f"{target}: {done.streams} streams, {done.manifests} manifests; {done.copied} items "
            f"copied, {done.skipped} were there"
        )
    if done.damaged:
        listed = "\n".join(f"  {lost.track}: {lost.problem}" for lost in done.damaged)
        raise DamageFoundError(f"{store}: {len(done.damaged)} items not copied:\n{listed}")


def add_to(group: click.Group) -> None:
    """Put these commands into a group."""
    for command in (verify, pin, unpin, pins, gc, compact, convert):
        group.add_command(command)
