"""Which tracks of a manifest train a head and which validate it.

`official` is the split of the data set. `six:0` to `six:5` are the field's six folds (LFAN, RJCMA
and others): five slices of the training tracks in alphabetical order, and the official validation
tracks; fold 0 validates on those and is the official one, fold 1 on the last slice, fold 5 on the
first. They ignore that tracks may come from one recording. `grouped:0` to `grouped:5` keep
recordings together, so their numbers are not the field's. Test tracks never take part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING

from ..cache import ConfigError, DataError

if TYPE_CHECKING:
    from ..cache import ManifestTrack

    Slicing = Callable[[Sequence[ManifestTrack]], list[list[int]]]

SLICES = 5
"""Of the training tracks; with the official validation tracks they are the parts of six folds."""
FOLDS = (
    "official",
    *(f"{kind}:{number}" for kind in ("six", "grouped") for number in range(SLICES + 1)),
)


@dataclass(frozen=True, slots=True)
class Fold:
    """Indices into the tracks that a fold was made of, in ascending order."""

    train: tuple[int, ...]
    val: tuple[int, ...]


def check_fold(name: str) -> None:
    """Check that there is such a fold.

    Raises:
        ConfigError: Unknown name.
    """
    if name not in FOLDS:
        near = get_close_matches(name, FOLDS, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown fold {name!r}{meant}; known: {', '.join(FOLDS)}")


def fold_of(tracks: Sequence[ManifestTrack], fold: str) -> Fold:
    """Deal tracks to training and validation.

    Args:
        tracks: Of all splits, in any order; alphabetical order is that of code points.
        fold: One of `FOLDS`.

    Raises:
        ConfigError: Unknown name.
        DataError: Nothing to train or to validate on, or too little for five slices.
    """
    check_fold(fold)
    kind, _, number = fold.partition(":")
    parts = PARTS[kind](tracks)
    for part, split in ((parts[0], "train"), (parts[-1], "val")):
        if not part:
            raise DataError(
                f"fold {fold!r}: no track in split {split!r} among {len(tracks)} tracks; "
                "give the data set tracks of both splits, train and val"
            )
    # Fold 0 leaves out the last part, the official validation tracks; fold 1 the one before.
    left_out = len(parts) - 1 - int(number or 0)
    train = [i for at, part in enumerate(parts) if at != left_out for i in part]
    return Fold(tuple(sorted(train)), tuple(sorted(parts[left_out])))


def straddling(tracks: Sequence[ManifestTrack], fold: Fold) -> list[str]:
    """Name the families that have tracks on both sides of a fold, in alphabetical order."""
    train, val = ({tracks[i].family for i in side} for side in (fold.train, fold.val))
    return sorted(train & val)


def _official(tracks: Sequence[ManifestTrack]) -> list[list[int]]:
    """Training and validation tracks."""
    return [_of_split(tracks, "train"), _of_split(tracks, "val")]


def _six(tracks: Sequence[ManifestTrack]) -> list[list[int]]:
    """Five slices of n // 5 training tracks each, the last with the remainder, and validation."""
    train, val = _official(tracks)
    _expect_enough(len(train), "training tracks", "six")
    train.sort(key=lambda i: tracks[i].track)
    size = len(train) // SLICES
    ends = [size * number for number in range(1, SLICES)]
    return [*_cut(train, ends), val]


def _grouped(tracks: Sequence[ManifestTrack]) -> list[list[int]]:
    """Five slices of whole families and the validation tracks with all of their families.

    Families follow each other in alphabetical order; the slices are cut between them where the
    sum of their squared numbers of tracks is least, later slices being larger where that is a tie.
    """
    train, val = _official(tracks)
    validating = {tracks[i].family for i in val}
    val += [i for i in train if tracks[i].family in validating]
    train = [i for i in train if tracks[i].family not in validating]
    train.sort(key=lambda i: (tracks[i].family, tracks[i].track))
    sizes = list(Counter(tracks[i].family for i in train).values())
    _expect_enough(len(sizes), "families of training tracks alone", "grouped")
    return [*_cut(train, _ends(sizes)), val]


PARTS: dict[str, Slicing] = {"official": _official, "six": _six, "grouped": _grouped}
"""Kind of fold to the parts of which a fold validates on one; the last is the official one."""


def _of_split(tracks: Sequence[ManifestTrack], split: str) -> list[int]:
    return [i for i, track in enumerate(tracks) if track.split == split]


def _expect_enough(found: int, what: str, kind: str) -> None:
    if found < SLICES:
        raise DataError(
            f"folds {kind}:0 to {kind}:{SLICES} cut the training tracks into {SLICES} slices: "
            f"expected {SLICES} {what} at least, found {found}; "
            "use fold 'official', or give the data set more training tracks"
        )


def _cut(numbers: Sequence[int], ends: Sequence[int]) -> list[list[int]]:
    bounds = [0, *ends, len(numbers)]
    return [list(numbers[a:b]) for a, b in pairwise(bounds)]


def _ends(sizes: Sequence[int]) -> list[int]:
    """Where slices of whole families end, the last one apart: least sum of squared slices."""
    import numpy as np

    bounds = np.concatenate([[0], np.cumsum(sizes)])
    # costs[i]: of the best slices of the first i families; more slices build on fewer.
    costs = np.where(bounds == 0, 0.0, np.inf)
    before: list[list[int]] = []
    for _ in range(SLICES):
        best = np.full(len(bounds), np.inf)
        last = [0] * len(bounds)
        for i in range(1, len(bounds)):
            totals = costs[:i] + np.square(bounds[i] - bounds[:i])
            last[i] = int(totals.argmin())
            best[i] = totals[last[i]]
        costs, before = best, [*before, last]
    ends: list[int] = [len(sizes)]
    for last in reversed(before):
        ends.append(last[ends[-1]])
    return [int(bounds[end]) for end in reversed(ends[1:-1])]
