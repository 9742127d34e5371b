"""Leaks through a backbone: tracks to be scored on here that its weights have already seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .dataset import Dataset, Split, Track
    from .training_record import TrainingRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A track to be scored on here that a backbone has seen."""

    track: str
    split: Split
    """Here."""
    seen: Literal["trained", "chosen"]
    """The weights were trained on it, or the best epoch was chosen by it."""
    by: str
    """The track of the same source that was seen: another person of one film, or itself."""


def leaks(dataset: Dataset, record: TrainingRecord) -> list[Leak]:
    """List the validation and test tracks that a fine-tuned backbone has seen.

    Names are compared exactly, tracks and their sources, whatever the data sets are called: the
    same corpus has many names. A track that the weights were trained on is told as such, even
    where the best epoch was chosen by it too.

    Args:
        dataset: The tracks as they are split here.
        record: What the backbone was fine-tuned on.
    """
    sources = {track.name: track.source for track in dataset.tracks}
    trained = {sources.get(name, name): name for name in record.training}
    chosen = {sources.get(name, name): name for name in record.validation}
    found: list[Leak] = []
    for track in dataset.tracks:
        if track.split == "train":
            continue
        leak = _leak(track, record.training, trained, "trained")
        leak = leak or _leak(track, record.validation, chosen, "chosen")
        found += [leak] if leak else []
    return found


def _leak(
    track: Track,
    names: tuple[str, ...],
    sources: dict[str, str],
    seen: Literal["trained", "chosen"],
) -> Leak | None:
    by = track.name if track.name in names else sources.get(track.source)
    return Leak(track=track.name, split=track.split, seen=seen, by=by) if by else None
