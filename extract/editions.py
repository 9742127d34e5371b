"""Editions of Aff-Wild2's labels: how a release is recognised, and which tracks moved between them.

The counts are those of the challenges' own lists; the split of ABAW1 is assumed to equal ABAW2's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MOVED = frozenset(("40-30-1280x720", "171", "212", "234", "239", "266", "270", "286", "303", "313"))
"""Training tracks of ABAW1 and ABAW2 that are test tracks since ABAW3."""
COUNTS = {(351, 71): "ABAW1-2", (341, 71): "ABAW3", (356, 76): "ABAW5-10"}
"""Training and validation tracks to the releases that have as many."""
OLDEST = ("ABAW1", "ABAW2", "ABAW1-2")
"""Releases in which the moved tracks are training tracks."""
ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh"),
)
ORDINAL = re.compile(r"(?<![0-9a-z])(\d{1,2})(?:st|nd|rd|th)(?![a-z])")


def release_of_path(path: str, splits: Iterable[str]) -> str:
    """Recognise a release by the name of its label folder, and of those around it.

    Args:
        path: Of the label folder, such as `Third ABAW Annotations/VA_Estimation_Challenge`.
        splits: Names of the folders in it.

    Returns:
        `ABAW1` to `ABAW11`; empty where the names do not say.
    """
    plain = path.casefold().replace("_", " ").replace("-", " ")
    if "abaw" in plain:
        number = ORDINAL.search(plain)
        if number:
            return f"ABAW{int(number[1])}"
        for word in plain.replace("/", " ").split():
            if word in ORDINALS:
                return f"ABAW{ORDINALS.index(word) + 1}"
    if path.rpartition("/")[2] == "VA_Set":
        if "Training_Set" in splits:
            return "ABAW1"
        if "Train_Set" in splits:
            return "ABAW2"
    return ""


def release_of_counts(train: int, val: int) -> str:
    """Recognise releases by their numbers of tracks; empty where no release has as many."""
    return COUNTS.get((train, val), "")


def fits_counts(release: str, train: int, val: int) -> bool | None:
    """Say whether a release has so many tracks; None where its numbers are not known."""
    expected = next((counts for counts, name in COUNTS.items() if _is_of(release, name)), None)
    return None if expected is None else expected == (train, val)


def _is_of(release: str, name: str) -> bool:
    """Say whether `ABAW6` is meant by `ABAW5-10`."""
    if release == name:
        return True
    first, _, last = name.removeprefix("ABAW").partition("-")
    number = release.removeprefix("ABAW")
    return number.isdecimal() and int(first) <= int(number) <= int(last or first)


def moved_among(release: str, splits: Mapping[str, str]) -> frozenset[str]:
    """Give the labelled tracks that a release withholds, though an older one had their labels.

    Args:
        release: As recognised; empty where it is not known.
        splits: Labelled track to its split.
    """
    if not release or release in OLDEST:
        return frozenset()
    return MOVED & frozenset(splits)
