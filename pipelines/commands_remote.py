"""The commands of `concord cache` that share a store: push, pull, diff, ls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .options import AS_JSON, SENSITIVE

if TYPE_CHECKING:
    from ..cache import ManifestTrack
    from ..cache.selection import Selection
    from ..cache.transfer import Transfer
    from ..cache.transfer_log import Direction, Told

Command = TypeVar("Command", bound="Callable[..., Any] | click.Command")

ASK_BYTES = 1_000_000_000
"""A transfer of this many bytes or more is asked about first."""
REMOTE = click.argument("remote")
STORE = click.option(
    "--store",
    envvar="CONCORD_STORE",
    type=click.Path(path_type=Path),
    help="Folder of the store; also $CONCORD_STORE; default the configuration's.",
)
SETTINGS = click.option("--config", "settings", help="Configuration that names the store.")
WITHOUT_LICENCE = click.option(
    "--without-licence",
    is_flag=True,
    help="Also data sets without a licence record that names the recipient.",
)
YES = click.option("--yes", is_flag=True, help="Do not ask, however large the transfer.")


def named(_: click.Context, __: click.Parameter, store: str) -> str:
    """Take a remote's name for its URL."""
    if "/" in store or Path(store).is_dir():
        return store
    from ..cache.remote_names import remotes

    return remotes(Path()).get(store, store)


def of_selection(command: Command) -> Command:
    """Add what is to travel."""
    for option in (
        click.option("--track", "tracks", multiple=True, help="This track only; may repeat."),
        click.option("--split", help="Tracks of this split only."),
        click.option("--stream", "streams", multiple=True, help="This stream only; may repeat."),
        click.option("--dataset", help="`name` or `name@edition`; default all."),
    ):
        command = option(command)
    return command


def selection_of(chosen: dict[str, Any]) -> Selection:
    """Give what a user chose."""
    from ..cache.selection import Selection

    return Selection(**chosen)


def located_here(remote: str) -> str:
    """Give the URL or folder of a remote."""
    from ..cache.remote_names import located

    return located(Path(), remote)


def store_at(store: Path | None, settings: str | None) -> Path:
    """Give the store's folder.

    Raises:
        ConfigError: None is named.
    """
    from ..cache import ConfigError

    if store is not None:
        return store
    if settings is None:
        raise ConfigError("which store? give --store FOLDER, $CONCORD_STORE or --config FILE")
    from .config import load_config

    return Path(load_config(settings).store_path)


@click.command()
@REMOTE
@STORE
@SETTINGS
@of_selection
@SENSITIVE
@WITHOUT_LICENCE
@YES
@AS_JSON
def push(
    remote: str,
    store: Path | None,
    settings: str | None,
    *,
    sensitive: bool,
    without_licence: bool,
    yes: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Send to REMOTE what it lacks of the store: items, recipes, tables of tracks.

    Whole shards travel as they are; of a shard that is chosen in part, the chosen items are packed
    into a new one. Nothing shows on the remote before it is complete; run again to go on.

    Labels and other streams that show people need --sensitive. Each data set needs a licence record
    that names REMOTE (concord cache licence); the generated demo needs none.
    """
    from ..cache import FeatureStore
    from ..cache.transfer import plan_push
    from .sharing import Rules, recipients_of

    where, path = located_here(remote), store_at(store, settings)
    plan = plan_push(FeatureStore(path), where, selection_of(chosen))
    rules = Rules(
        recipients=recipients_of(Path(), remote, where),
        sensitive=sensitive,
        without_licence=without_licence,
    )
    rules.check(plan, f"push {remote}")
    with _logged(path, "push", remote, plan, yes=yes) as told:
        _carry_out(plan, f"push {remote}", told, as_json=as_json)


@click.command()
@REMOTE
@STORE
@SETTINGS
@of_selection
@click.option("--manifest", "table", is_flag=True, help="Tables of tracks and item keys alone.")
@YES
@AS_JSON
def pull(
    remote: str,
    store: Path | None,
    settings: str | None,
    *,
    table: bool,
    yes: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Bring what the store lacks of REMOTE, each byte checked before it shows; run again to go on.

    Exit code 7 where something on the remote is damaged; the rest arrives.
    """
    from ..cache.transfer import plan_pull, pull_manifests
    from ..cache.transfer_log import Told, logged
    from .tables import print_json

    where, path = located_here(remote), store_at(store, settings)
    if not table:
        plan = plan_pull(path, where, selection_of(chosen))
        with _logged(path, "pull", remote, plan, yes=yes) as told:
            _carry_out(plan, f"pull {remote}", told, as_json=as_json)
        return
    with logged(path, "pull", remote, Told()) as told:
        changed = told.manifests = pull_manifests(path, where, selection_of(chosen))
        told.done = True
    if as_json:
        print_json({"manifests": changed})
        return
    click.echo(f"{path}: {', '.join(changed) or 'no manifest'} changed")


@contextmanager
def _logged(
    path: Path, direction: Direction, remote: str, plan: Transfer, *, yes: bool
) -> Generator[Told]:
    """Ask where a transfer is large, and log it while it is carried out."""
    from ..cache.transfer_log import logged, planned

    ask(plan, f"{direction} {remote}", yes=yes)
    with logged(path, direction, remote, planned(plan)) as told:
        yield told


def _carry_out(plan: Transfer, what: str, log: Told, *, as_json: bool) -> None:
    from dataclasses import asdict

    from ..cache.errors import DamageFoundError
    from .progress import progress
    from .tables import print_json

    with progress(what) as told:
        moved = plan.carry_out(told)
    log.moved(moved)
    if as_json:
        print_json(asdict(moved))
    else:
        listed = ", ".join(moved.manifests) or "none"
        click.echo(
            f"{plan.target.place}: {moved.items} items in {moved.shards} shards, "
            f"{moved.bytes / 1e6:.1f} MB; manifests that changed: {listed}"
        )
    if moved.damaged:
        lines = "\n".join(f"  {lost.track}: {lost.problem}" for lost in moved.damaged)
        raise DamageFoundError(f"{what}: {len(moved.damaged)} items stayed:\n{lines}")


def ask(plan: Transfer, what: str, *, yes: bool) -> None:
    """Say how large a transfer is, and ask where it is large.

    Raises:
        ConfigError: It is large, and nobody is there to be asked.
    """
    from ..cache import ConfigError
    from .progress import note

    size = f"{what}: {plan.items} items, {plan.bytes / 1e6:.1f} MB"
    if yes or plan.bytes < ASK_BYTES:
        note(size)
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{size}: large, and nobody is there to be asked: add --yes")
    if not click.confirm(f"{size}; go on?", err=True):
        raise click.Abort


@click.command()
@REMOTE
@STORE
@SETTINGS
@of_selection
@AS_JSON
def diff(
    remote: str, store: Path | None, settings: str | None, *, as_json: bool, **chosen: Any
) -> None:
    """Say what the store lists and REMOTE does not, and the other way round."""
    from ..cache import FeatureStore
    from ..cache.comparison import compare
    from .tables import print_json, print_table

    wanted, here, there = selection_of(chosen), store_at(store, settings), located_here(remote)
    found = compare(wanted.listed_in(FeatureStore(here)), wanted.listed_in(FeatureStore(there)))
    if as_json:
        print_json([each.record() for each in found])
        return
    columns = ("manifest", "stream", "both", "here", "there", "other")
    rows = [
        {**{name: len(part) for name, part in each.record().items()}, **_brief(each)}
        for each in found
    ]
    print_table(f"{here} and {remote}", columns, rows)
    if all(each.same for each in found):
        click.echo("the same in both")


def _brief(compared: Any) -> dict[str, str]:
    return {"manifest": compared.manifest, "stream": short(compared.stream)}


def short(stream: str) -> str:
    """Give a stream's name with the start of its digest."""
    name, _, digest = stream.partition("@")
    return f"{name}@{digest[:8]}"


def tracks_of(store: Any, chosen: dict[str, Any]) -> list[dict[str, Any]]:
    """Give one row per chosen item that a store lists, for `ls`."""

    def row(manifest: str, track: ManifestTrack, stream: str, key: str) -> dict[str, Any]:
        known = {name: getattr(track, name) for name in ("track", "split", "rows")}
        return {"manifest": manifest, **known, "stream": short(stream), "key": key}

    return [
        row(manifest.name, track, stream, key)
        for manifest in selection_of(chosen).manifests(store)
        for track in manifest
        for stream, key in track.items.items()
    ]


def add_to(group: click.Group) -> None:
    """Put these commands into a group."""
    for command in (push, pull, diff):
        group.add_command(command)
