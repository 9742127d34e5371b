"""Editions: whether the labels that lie here are those that a manifest was made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..cache import DataError
from ..extract.settings import LABELS
from .plan import Plan

if TYPE_CHECKING:
    from ..cache import Manifest
    from ..extract.survey import Survey
    from .config import Config

SHOWN = 6
"""Tracks that a message names."""


def own_edition(config: Config) -> Survey:
    """Read the labels of the recipient's own label folder, or else of the data set.

    Raises:
        DataError: No labels are there, or not laid out as the data set's.
    """
    from ..extract.survey import survey

    return survey(Plan(config).over(LABELS).dataset, media=False)


def check_edition(own: Survey, manifest: Manifest, where: str) -> None:
    """Compare labels with those of a manifest: by their digest, which its edition carries.

    Args:
        own: The labels that lie here.
        manifest: The manifest.
        where: Where they lie.

    Raises:
        DataError: They differ; says in what.
    """
    if own.edition != manifest.edition:
        raise DataError(
            f"{where}: expected the labels of {manifest.name}, found those of {own.edition}: "
            f"{_difference(own, manifest)}"
        )


def _difference(own: Survey, manifest: Manifest) -> str:
    here = {
        each.track.name: (each.track.split, each.rows) for each in own.tracks if not each.problem
    }
    there = {row.track: (row.split, row.rows) for row in manifest}
    for what, names in (
        ("missing here", there.keys() - here.keys()),
        ("not in the manifest", here.keys() - there.keys()),
        ("of another split or number of rows", {n for n in there if there[n] != here.get(n)}),
    ):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            return f"{len(names)} tracks are {what}: {', '.join(sorted(names)[:SHOWN])}{more}"
    return "tracks, splits and rows are the same, but label files are not, byte for byte"
