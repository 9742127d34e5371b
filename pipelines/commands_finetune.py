"""`concord extract finetune`: a backbone learns from the rows of a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin, get_type_hints

import click

from ..extract.finetune_settings import AUTO, FinetuneSettings
from .options import DEVICE, THREADS

if TYPE_CHECKING:
    from .config import Config

Command = Callable[..., Any]


def of_settings(command: Command) -> Command:
    """Add an option for every field of `FinetuneSettings`."""
    hints = get_type_hints(FinetuneSettings, include_extras=True)
    for field in reversed(dataclasses.fields(FinetuneSettings)):
        kind, told = get_args(hints[field.name])
        told = f"{told}  [default: as is sensible]" if field.default == AUTO else told
        command = click.option(
            f"--{field.name.replace('_', '-')}",
            type=click.Choice(get_args(kind)) if get_origin(kind) is Literal else kind,
            default=field.default,
            show_default=field.default != AUTO,
            help=told,
        )(command)
    return command


@click.command()
@click.option("--stream", required=True, help="Stream whose backbone is trained: visual/i3d, …")
@click.option(
    "--config", "config_text", help="Configuration file, or JSON text, that has the stream."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of a data set in Aff-Wild2's layout, instead of the configuration's.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Setting of the stream, such as reads=faces or window.length=8; may be repeated.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Weights file: FILE.safetensors."
)
@click.option(
    "--init",
    default="",
    help="Weights to begin with: imagenet, kinetics400, inflate:…, seeded[:N], a file, or a name "
    "that torchvision knows; default the stream's.",
)
@of_settings
@DEVICE
@THREADS
def finetune(
    stream: str,
    config_text: str | None,
    data: Path | None,
    changes: tuple[str, ...],
    out: Path,
    init: str,
    device: str,
    threads: int,
    **chosen: Any,
) -> None:
    """Train a backbone with a valence/arousal output, and save it as weights for `weights:`.

    Rows of the training split are read by random access, as extraction would make them, and
    augmented; the epoch with the best CCC on the validation split is kept. Killed or stopped, the
    same command goes on from a checkpoint beside the file; FILE.jsonl has a line per epoch.

    concord extract finetune --stream visual/resnet18 --data Aff-Wild2 --set reads=faces --out
    tuned.safetensors
    """
    settings = FinetuneSettings(**chosen)
    config = _config(stream, config_text, data, changes, init)

    from ..extract.finetune import finetune
    from .datasets import dataset_of
    from .device import prepared_device
    from .plan import streams_of
    from .progress import note, progress

    own: Any = streams_of(config, [stream])[stream]
    with prepared_device(device, threads) as held, progress(f"finetune {stream}") as told:
        done = finetune(dataset_of(config), stream, own, settings, out, held, told)
    for track, why in sorted(done.quarantine.items()):
        note(f"quarantine: {track}: {why}")
    best = done.record
    click.echo(
        f"{out}: epoch {best.epoch}, CCC on {len(best.validation)} validation tracks: valence "
        f"{best.valence:.3f}, arousal {best.arousal:.3f}"
    )


def _config(
    stream: str, text: str | None, data: Path | None, changes: tuple[str, ...], init: str
) -> Config:
    """Read a configuration, or make one, in which the stream is as it is asked for.

    Raises:
        ConfigError: A stream or a setting that is not to be had.
    """
    from ..cache import ConfigError
    from ..extract.settings import KINDS, AudioSettings, VisualSettings
    from .config import load_config, parse_config
    from .datasets import data_settings
    from .plan import streams_of

    if text is None and data is None:
        raise click.UsageError("give --config, --data, or both")
    if KINDS.get(stream.partition("/")[0]) not in (VisualSettings, AudioSettings):
        raise ConfigError(f"--stream {stream}: expected visual/… or audio/…")
    own: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    if text is not None:
        config = load_config(text)
        own = dataclasses.asdict(cast("Any", streams_of(config, [stream])[stream]))
        chosen = dataclasses.asdict(config.data)
    if data is not None:
        chosen = data_settings(data)
    for change in changes:
        _set(own, change)
    own["weights"] = _weights(stream, own, init)
    return parse_config({"data": chosen, "streams": {stream: own}})


def _set(own: dict[str, Any], change: str) -> None:
    """Put `key=value` or `outer.key=value` into a stream's settings."""
    import yaml

    key, equals, value = change.partition("=")
    if not (key and equals):
        raise click.UsageError(f"--set {change}: expected KEY=VALUE")
    *outer, last = key.split(".")
    for name in outer:
        own = own.setdefault(name, {})
    own[last] = yaml.safe_load(value)


def _weights(stream: str, own: dict[str, Any], init: str) -> str:
    """Give the weights to begin with: those asked for, else the stream's own."""
    from ..extract.finetune_settings import weights_of
    from ..extract.settings import WEIGHTS, VisualSettings, backbone_of

    named = VisualSettings(backbone=str(own.get("backbone", "")))
    backbone = backbone_of(stream, named)
    if init:
        return weights_of(init, backbone)
    visual = stream.startswith("visual/")
    return str(own.get("weights") or (WEIGHTS.get(backbone, "") if visual else "seeded"))
