"""Checks of a configuration as a whole, so that a wrong value is told before any work starts."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from ..cache import ConfigError
from ..cache.manifest import NAME
from ..extract.settings import BACKBONES, LABELS, VisualSettings, backbone_of
from ..fuse.catalogue import check_head

if TYPE_CHECKING:
    from ..extract.settings import StreamSettings
    from ..fuse.settings import ExperimentSettings, FuseSettings
    from .config import Config

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
STREAM_NAME = re.compile(r"[a-z0-9_]+/(?P<backbone>[a-z0-9_]+)([.-][a-z0-9_.-]+)?")
GROUP_NAME = re.compile(r"[A-Za-z0-9_-]+")


def near(word: str, known: list[str]) -> str:
    """Give `; did you mean …?` where a known word is like this one."""
    nearest = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def check(config: Config) -> None:
    """Check what single values cannot tell.

    Raises:
        ConfigError: With the key, what was expected and what was found.
    """
    _expect(config.parts >= 1, "parts", "at least 1", config.parts)
    _expect(0 <= config.failure_budget <= 1, "failure_budget", "0 to 1", config.failure_budget)
    _expect(config.threads >= 1, "threads", "at least 1", config.threads)
    _expect(bool(DEVICE.fullmatch(config.device)), "device", "auto, cpu or cuda:N", config.device)
    name = config.data_name
    letters = "letters, digits, '.', '_' and '-'"
    _expect(bool(NAME.fullmatch(name)), "data.name", letters, name)
    _check_streams(config)
    _check_groups(config)
    _check_fuse(config.fuse)
    for number, experiment in enumerate(config.fuse.experiments):
        _check_experiment(experiment, f"fuse.experiments[{number}]", list(config.streams))
    twice = [e for e, count in Counter(config.fuse.experiments).items() if count > 1]
    if twice:
        raise ConfigError(f"fuse.experiments: listed twice, leave one out: {twice[0]}")


def _expect(holds: bool, where: str, expected: str, found: object) -> None:
    if not holds:
        raise ConfigError(f"{where}: expected {expected}, found {found!r}")


def _check_streams(config: Config) -> None:
    for name, settings in config.streams.items():
        match = STREAM_NAME.fullmatch(name)
        where = f"streams.{name}"
        _expect(match is not None, where, "modality/backbone in lower case", name)
        assert match is not None
        _check_stream(where, name, match["backbone"], settings)


def _check_stream(where: str, name: str, named: str, settings: StreamSettings) -> None:
    own = settings.backbone
    backbone = backbone_of(name, settings)
    offered = [point.name for point in entry_points(group="concord.backbones")]
    known = [*BACKBONES, *offered]
    if ":" not in backbone and backbone not in known:
        raise ConfigError(
            f"{where}: unknown backbone {backbone!r}, known are {', '.join(known)}, or "
            f"module:Class{near(backbone, known)}; set {where}.backbone"
        )
    if own and own != named and ":" not in own:
        raise ConfigError(
            f"{where}: the name says {named!r}, but its backbone is {own!r}; name it "
            f"{name.partition('/')[0]}/{own}, or {name.partition('/')[0]}/{own}-… to tell "
            "several apart"
        )
    _expect(settings.stride >= 1, f"{where}.stride", "at least 1", settings.stride)
    if isinstance(settings, VisualSettings):
        if backbone == "i3d" and not settings.weights:
            raise ConfigError(
                f"{where}.weights: i3d has none that torchvision knows; give a file, "
                "inflate:IMAGENET1K_V1, or seeded"
            )
        for key, least in (("resize", 0), ("crop", 0)):
            value = getattr(settings, key)
            _expect(value >= least, f"{where}.{key}", f"at least {least}", value)
        for key, least in (("length", 0), ("spacing", 1)):
            value = getattr(settings.window, key)
            _expect(value >= least, f"{where}.window.{key}", f"at least {least}", value)


def _check_groups(config: Config) -> None:
    automatic = {stream.replace("/", "-") for stream in (LABELS, *config.streams)}
    seen: dict[str, str] = {}
    for group, streams in config.groups.items():
        where = f"groups.{group}"
        _expect(bool(GROUP_NAME.fullmatch(group)), where, "letters, digits, '_' and '-'", group)
        if group in automatic:
            raise ConfigError(f"{where}: a stream's own job has that name; choose another")
        for stream in streams:
            known = [*config.streams, LABELS]
            if stream not in known:
                raise ConfigError(
                    f"{where}: stream {stream!r} is not configured" + near(stream, known)
                )
            if stream in seen:
                raise ConfigError(f"{where}: stream {stream!r} is in group {seen[stream]!r} too")
            seen[stream] = group


def _check_fuse(fuse: FuseSettings) -> None:
    window, training = fuse.window, fuse.training
    _expect(window.length >= 1, "fuse.window.length", "at least 1", window.length)
    _expect(window.hop >= 1, "fuse.window.hop", "at least 1", window.hop)
    _expect(
        1 <= window.hop_scoring <= window.length,
        "fuse.window.hop_scoring",
        f"1 to length ({window.length}), so that every row is predicted",
        window.hop_scoring,
    )
    for key in ("epochs", "patience", "batch"):
        value = getattr(training, key)
        _expect(value >= 1, f"fuse.training.{key}", "at least 1", value)
    for key in ("lr", "clip"):
        value = getattr(training, key)
        _expect(value > 0, f"fuse.training.{key}", "more than 0", value)
    seeds = training.seeds
    _expect(len(seeds) > 0, "fuse.training.seeds", "at least one", list(seeds))
    _expect(len(set(seeds)) == len(seeds), "fuse.training.seeds", "each once", list(seeds))


def _check_experiment(experiment: ExperimentSettings, where: str, known: list[str]) -> None:
    streams = experiment.streams
    _expect(len(streams) > 0, f"{where}.streams", "at least one", list(streams))
    _expect(len(set(streams)) == len(streams), f"{where}.streams", "each once", list(streams))
    for stream in streams:
        if stream.partition("@")[0] not in known:
            raise ConfigError(
                f"{where}.streams: stream {stream!r} is not configured" + near(stream, known)
            )
    try:
        check_head(experiment.head, streams)
    except ConfigError as error:
        raise ConfigError(f"{where}.head: {error}") from None
    encoders = experiment.encoders
    _expect(
        len(encoders) in (0, len(streams)),
        f"{where}.encoders",
        f"one for each of {len(streams)} streams",
        list(encoders),
    )
    for key in ("width", "hidden", "attention_heads"):
        value = getattr(experiment, key)
        _expect(value >= 0, f"{where}.{key}", "0 or more", value)
    for key in ("levels", "kernel", "k", "d", "recursions"):
        value = getattr(experiment, key)
        _expect(value >= 1, f"{where}.{key}", "at least 1", value)
    _expect(
        experiment.temperature > 0, f"{where}.temperature", "more than 0", experiment.temperature
    )
    _expect(0 <= experiment.dropout < 1, f"{where}.dropout", "0 to 1", experiment.dropout)
