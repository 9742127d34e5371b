"""Checking a data set, as the command does it: what is found, and what is shown of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extract.findings import Finding, find, missing_inputs
from ..extract.leaks import leaks
from ..extract.settings import TENSOR_FILES, AudioSettings, TextSettings
from ..extract.survey import Survey, split_counts, survey
from ..extract.training_record import training_record
from .datasets import dataset_of
from .progress import progress

if TYPE_CHECKING:
    from ..extract.dataset import Dataset
    from ..extract.settings import StreamSettings
    from .config import Config

SPLITS = ("train", "val", "test")


def checked(config: Config, *, media: bool = True) -> dict[str, Any]:
    """Look at a configuration's data set, and give what is there, missing and odd.

    Args:
        config: The configuration; of its streams, inputs and weights are looked at.
        media: Open media files.

    Raises:
        DataError: The data set is not laid out as its adapter expects.
    """
    dataset = dataset_of(config)
    with progress(f"check {dataset.root}") as told:
        seen = survey(dataset, media=media, progress=told)
    reads = {name: reads_of(settings) for name, settings in config.streams.items()}
    findings = find(seen) + list(missing_inputs(seen, reads, config.failure_budget))
    findings += weights_findings(dataset, config.streams)
    return {
        "dataset": dataset.name,
        "root": dataset.root,
        "release": dataset.release or "unknown",
        "edition": seen.edition,
        "splits": _splits(seen),
        "findings": [asdict(each) for each in sorted(findings, key=lambda each: each.level)],
    }


def reads_of(settings: StreamSettings) -> str:
    """Say what a stream's items are read from."""
    if isinstance(settings, AudioSettings):
        return "sound"
    return "transcript" if isinstance(settings, TextSettings) else settings.reads


def _splits(seen: Survey) -> dict[str, dict[str, int]]:
    by_split = {
        split: [each for each in seen.tracks if each.track.split == split] for split in SPLITS
    }
    counts = {split: split_counts(tracks) for split, tracks in by_split.items() if tracks}
    return {**counts, "all": split_counts(seen.tracks)}


def weights_findings(dataset: Dataset, streams: Mapping[str, StreamSettings]) -> list[Finding]:
    """Say which backbones have seen tracks that are to be scored on.

    Raises:
        ConfigError: A weights file is missing or damaged.
    """
    found: list[Finding] = []
    for name, settings in streams.items():
        path = Path(settings.weights)
        record = training_record(path) if path.suffix in TENSOR_FILES else None
        every = leaks(dataset, record) if record else []
        for seen, how in (("trained", "was trained on"), ("chosen", "was chosen by")):
            tracks = [f"{leak.track} ({leak.split})" for leak in every if leak.seen == seen]
            if tracks:
                text = f"{name}: its backbone, {settings.weights}, {how} tracks to be scored on"
                found.append(Finding(level="warning", text=text, names=tuple(tracks)))
    return found
