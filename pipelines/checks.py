"""Checks of a configuration as a whole, so that a wrong value is told before any work starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from ..cache import ConfigError
from ..cache.manifest import NAME
from ..extract.settings import (
    BACKBONES,
    LABELS,
    TextSettings,
    VisualSettings,
    backbone_of,
    check_dense,
)
from .checks_fuse import check_fuse
from .reading import expect, near
from .sizes import bytes_of
from .standin_plan import PROFILE

if TYPE_CHECKING:
    from ..extract.settings import StreamSettings
    from .config import Config

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
STREAM_NAME = re.compile(r"[a-z0-9_]+/(?P<backbone>[a-z0-9_]+)([.-][a-z0-9_.-]+)?")
RELEASE = 40
"""Longest name of a label release: it begins the name of an edition."""
GROUP_NAME = re.compile(r"[A-Za-z0-9_-]+")


def check(config: Config, places: Sequence[str]) -> None:
    """Check what single values cannot tell.

    Args:
        config: The configuration.
        places: Where each experiment is written.

    Raises:
        ConfigError: With the key, what was expected and what was found.
    """
    expect(config.parts >= 1, "parts", "at least 1", config.parts)
    expect(0 <= config.failure_budget <= 1, "failure_budget", "0 to 1", config.failure_budget)
    expect(config.threads >= 1, "threads", "at least 1", config.threads)
    expect(bool(DEVICE.fullmatch(config.device)), "device", "auto, cpu or cuda:N", config.device)
    name = config.data_name
    letters = "letters, digits, '.', '_' and '-'"
    expect(bool(NAME.fullmatch(name)), "data.name", letters, name)
    edition = config.data.edition
    short = f"at most {RELEASE} {letters}"
    plain = bool(NAME.fullmatch(edition)) and len(edition) <= RELEASE
    expect(plain or not edition, "data.edition", short, edition)
    _check_profile(config.data.adapter, config.data.profile)
    _check_streams(config)
    _check_groups(config)
    _check_stores(config)
    check_fuse(config.fuse, list(config.streams), places)


def _check_profile(adapter: str, profile: str) -> None:
    """Check that the stand-in is read by Aff-Wild2's adapter, and that nothing else is made for it.

    The demo's own profiles are looked up where the demo is.
    """
    if profile == PROFILE:
        expect(adapter == "affwild2", "data.adapter", "affwild2 for profile standin", adapter)
    elif adapter == "affwild2":
        expect(profile == "demo", "data.profile", "standin, or to be left out", profile)


def _check_streams(config: Config) -> None:
    for name, settings in config.streams.items():
        match = STREAM_NAME.fullmatch(name)
        where = f"streams.{name}"
        expect(match is not None, where, "modality/backbone in lower case", name)
        assert match is not None
        _check_stream(where, name, match["backbone"], settings)


def _check_stream(where: str, name: str, named: str, settings: StreamSettings) -> None:
    own = settings.backbone
    backbone = backbone_of(name, settings)
    if isinstance(settings, TextSettings):
        _check_text(where, backbone, settings)
        return
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
    expect(settings.stride >= 1, f"{where}.stride", "at least 1", settings.stride)
    if isinstance(settings, VisualSettings):
        if backbone == "i3d" and not settings.weights:
            raise ConfigError(
                f"{where}.weights: i3d has none that torchvision knows; give a file, "
                "inflate:IMAGENET1K_V1, or seeded"
            )
        for key, least in (("resize", 0), ("crop", 0)):
            value = getattr(settings, key)
            expect(value >= least, f"{where}.{key}", f"at least {least}", value)
        for key, least in (("length", 0), ("spacing", 1)):
            value = getattr(settings.window, key)
            expect(value >= least, f"{where}.window.{key}", f"at least {least}", value)
        check_dense(where, backbone, settings)


def _check_text(where: str, backbone: str, settings: TextSettings) -> None:
    expect(backbone == "bert", f"{where}.backbone", "bert", backbone)
    expect(
        bool(settings.weights),
        f"{where}.weights",
        "a folder with an encoder and its tokenizer, or a hub's name",
        settings.weights,
    )
    for key, least in (("layers", 1), ("max_tokens", 8)):
        value = getattr(settings, key)
        expect(value >= least, f"{where}.{key}", f"at least {least}", value)
    expect(settings.pause > 0, f"{where}.pause", "more than 0 seconds", settings.pause)


def _check_stores(config: Config) -> None:
    several = "local, and remotes by name or URL, each once"
    sound = all(config.stores) and len(set(config.stores)) == len(config.stores) > 0
    expect(sound, "stores", several, list(config.stores))
    if config.cache_limit:
        bytes_of(config.cache_limit, "cache_limit")
    if not config.labels:
        return
    expect(config.falls_back, "labels", "stores beside local, whose rows they go with", "none")
    for group, streams in config.groups.items():
        where = f"groups.{group}"
        expect(LABELS not in streams, where, f"no {LABELS} in it, beside labels", list(streams))


def _check_groups(config: Config) -> None:
    automatic = {stream.replace("/", "-") for stream in (LABELS, *config.streams)}
    seen: dict[str, str] = {}
    for group, streams in config.groups.items():
        where = f"groups.{group}"
        expect(bool(GROUP_NAME.fullmatch(group)), where, "letters, digits, '_' and '-'", group)
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
