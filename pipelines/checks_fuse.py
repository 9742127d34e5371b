"""Checks of stage two's settings, so that a wrong value is told before any work starts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Hashable, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from ..cache import ConfigError
from ..fuse.catalogue import HEADS, check_head
from ..fuse.folds import check_fold
from ..fuse.protocols import check_protocol
from .reading import expect, near

if TYPE_CHECKING:
    from ..fuse.settings import ExperimentSettings, FuseSettings, TrainingSettings, WindowSettings

Setting = TypeVar("Setting", bound=Hashable)
LEAST = {
    **dict.fromkeys(("width", "hidden", "attention_heads"), 0),
    **dict.fromkeys(("levels", "kernel", "k", "d", "recursions"), 1),
}
"""The least value of an experiment's numbers."""


def check_fuse(fuse: FuseSettings, streams: list[str], places: Sequence[str]) -> None:
    """Check what stage two is told.

    Args:
        fuse: The settings.
        streams: Names of the configured streams.
        places: Where each experiment is written, such as `fuse.experiments[2]`.

    Raises:
        ConfigError: With the place, what was expected and what was found.
    """
    written = list(zip(places, fuse.experiments, strict=True))
    windows = [("fuse", fuse.window), *((place, e.window) for place, e in written)]
    for place, window in _once(windows):
        _check_window(window.resolved(), f"{place}.window")
    trainings = [("fuse", fuse.training), *((place, e.training) for place, e in written)]
    for place, training in _once(trainings):
        _check_training(training, f"{place}.training")
    with _at("fuse.smoothing"):
        check_protocol(fuse.protocol, fuse.smoothing)
    for key, least in (("resamples", 100), ("batches", 1), ("memory", 0), ("traces", 0)):
        value = getattr(fuse, key)
        expect(value >= least, f"fuse.{key}", f"at least {least}", value)
    for place, (head, used) in _once((p, (e.head, e.streams)) for p, e in written):
        _check_streams(head, used, place, streams)
    for place, fold in _once((p, e.fold) for p, e in written):
        with _at(f"{place}.fold"):
            check_fold(fold)
    for place, experiment in written:
        _check_experiment(experiment, place)
    _check_repeats(written)


def _once(placed: Iterable[tuple[str, Setting]]) -> Iterable[tuple[str, Setting]]:
    """Leave out what is the same as before: a grid's experiments share most of their settings."""
    seen: set[Setting] = set()
    for place, setting in placed:
        if setting not in seen:
            seen.add(setting)
            yield place, setting


@contextmanager
def _at(where: str) -> Generator[None]:
    """Name the place of what is refused."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _check_window(window: WindowSettings, where: str) -> None:
    if window.preset == "whole":
        return
    for key in ("length", "dilation", "hop"):
        value = getattr(window, key)
        expect(value >= 1, f"{where}.{key}", "at least 1", value)
    most = window.length * window.dilation
    told = f"length ({window.length})"
    told += f" times dilation ({window.dilation}) = {most}" if window.dilation > 1 else ""
    expect(
        1 <= window.hop_scoring <= most,
        f"{where}.hop_scoring",
        f"1 to {told}, so that every row is predicted",
        window.hop_scoring,
    )


def _check_training(training: TrainingSettings, where: str) -> None:
    for key in ("epochs", "patience", "batch", "every"):
        value = getattr(training, key)
        expect(value >= 1, f"{where}.{key}", "at least 1", value)
    warmup, epochs = training.warmup, training.epochs
    expect(0 <= warmup < epochs, f"{where}.warmup", f"0 or more, below epochs ({epochs})", warmup)
    for key, most in (("lr", math.inf), ("decay", 1)):
        value = getattr(training, key)
        told = "more than 0" if most > 1 else "more than 0 and less than 1"
        expect(0 < value < most, f"{where}.{key}", told, value)
    expect(training.clip > 0, f"{where}.clip", "more than 0", training.clip)
    for key, most in (("momentum", 1), ("weight_decay", math.inf)):
        value = getattr(training, key)
        told = "0 or more" if most > 1 else "0 or more and less than 1"
        expect(0 <= value < most, f"{where}.{key}", told, value)
    seeds = list(training.seeds)
    expect(len(seeds) > 0, f"{where}.seeds", "at least one", seeds)
    expect(min(seeds) >= 0, f"{where}.seeds", "0 or more each", seeds)
    expect(len(set(seeds)) == len(seeds), f"{where}.seeds", "each once", seeds)


def _check_streams(head: str, streams: tuple[str, ...], where: str, known: list[str]) -> None:
    expect(len(streams) > 0, f"{where}.streams", "at least one", list(streams))
    expect(len(set(streams)) == len(streams), f"{where}.streams", "each once", list(streams))
    for stream in streams:
        if stream.partition("@")[0] not in known:
            raise ConfigError(
                f"{where}.streams: stream {stream!r} is not configured" + near(stream, known)
            )
    with _at(f"{where}.head"):
        check_head(head, streams)


def _check_experiment(experiment: ExperimentSettings, where: str) -> None:
    streams, encoders = experiment.streams, experiment.encoders
    expect(
        len(encoders) in (0, len(streams)),
        f"{where}.encoders",
        f"one for each of {len(streams)} streams",
        list(encoders),
    )
    for key, least in LEAST.items():
        value = getattr(experiment, key)
        expect(value >= least, f"{where}.{key}", f"at least {least}", value)
    temperature, dropout = experiment.temperature, experiment.dropout
    expect(temperature > 0, f"{where}.temperature", "more than 0", temperature)
    expect(0 <= dropout < 1, f"{where}.dropout", "0 to 1", dropout)
    _check_length(experiment, where)


def _check_length(experiment: ExperimentSettings, where: str) -> None:
    info = HEADS.get(experiment.head)
    if info is None or info.length == "any" or experiment.window.preset != "whole":
        return
    others = ", ".join(name for name, head in HEADS.items() if head.length == "any")
    raise ConfigError(
        f"{where}.window.preset: head {experiment.head!r} takes windows of one length, found "
        f"'whole'; choose another preset, or a head that takes any length: {others}"
    )


def _check_repeats(written: Sequence[tuple[str, ExperimentSettings]]) -> None:
    seen: dict[ExperimentSettings, str] = {}
    for place, experiment in written:
        resolved = dataclasses.replace(experiment, window=experiment.window.resolved())
        if resolved in seen:
            by = "by itself" if seen[resolved] == place else f"by {seen[resolved]} too"
            raise ConfigError(
                f"{place}: the experiment {experiment.head!r} over {', '.join(experiment.streams)} "
                f"is listed twice, {by}, with the same settings; leave one out"
            )
        seen[resolved] = place
