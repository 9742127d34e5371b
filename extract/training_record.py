"""What a fine-tuned backbone was trained on: kept in the header of its weights file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..cache import ConfigError

KEY = "concord.finetune"
"""Name of the record in a safetensors header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """Everything that determined a fine-tuned backbone's weights."""

    stream: str
    backbone: str
    init: str
    """SHA-256 of the tensors that training began with."""
    dataset: str
    edition: str
    """Of the data set's labels; empty where it is not known."""
    labels: str
    """Digest of the names and bytes of all label files used."""
    training: tuple[str, ...]
    """Tracks that the weights were trained on, sorted."""
    validation: tuple[str, ...]
    """Tracks that the best epoch was chosen by, sorted."""
    splits: tuple[str, str] = ("train", "val")
    """Splits of the data set that these two are."""
    stream_settings: Mapping[str, Any]
    """How samples were made: the stream's settings."""
    settings: Mapping[str, Any]
    """How training went: `FinetuneSettings.decisive`."""
    epoch: int = 0
    """The best one, from 1; 0 while training lasts."""
    valence: float | None = None
    """Its validation CCC."""
    arousal: float | None = None
    version: int = 1

    @property
    def seen(self) -> frozenset[str]:
        """Tracks whose labels had a say in the weights."""
        return frozenset(self.training) | frozenset(self.validation)

    def text(self) -> str:
        """Give the record as JSON: equal records have equal texts."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def differences(self, other: TrainingRecord) -> list[str]:
        """Name the fields in which another training differs from this one, results apart."""
        mine, its = (dataclasses.asdict(record) for record in (self.begun(), other.begun()))
        return [name for name in mine if mine[name] != its[name]]

    def begun(self) -> TrainingRecord:
        """Give the record as it was before there were results."""
        plain = json.loads(self.text()) | {"epoch": 0, "valence": None, "arousal": None}
        return _record(plain)


def _record(plain: dict[str, Any]) -> TrainingRecord:
    made: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
    }
    return TrainingRecord(**made)


def training_record(path: Path) -> TrainingRecord | None:
    """Read what a weights file was fine-tuned on.

    Args:
        path: A file of weights.

    Returns:
        None where the file is no safetensors file, or does not say.

    Raises:
        ConfigError: The file is missing or damaged, or its record is of another version.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            told: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"weights file {str(path)!r}: cannot be read: {error}") from error
    if KEY not in told:
        return None
    try:
        return _record(json.loads(told[KEY]))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"weights file {str(path)!r}: its record of fine-tuning is none that this version of "
            f"concord reads: {error}"
        ) from error
