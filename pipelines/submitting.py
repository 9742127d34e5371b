"""Submitting, as the command does it: predict the template's tracks, write, and check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import DataError
from ..extract.templates import read_test_list
from ..fuse.protocols import parse_smoothing, smoothed
from .predicting import Predictors
from .submission import Style, write_submission
from .submission_check import Fault, check_submission

if TYPE_CHECKING:
    from ..cache import Manifest
    from .submission import Expected


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a submission is made of."""

    tracks: int
    rows: int
    filled: int
    """Rows without a value in any stream: they have the nearest predicted row's, or 0."""
    empty: tuple[str, ...]
    """Tracks without any value: they are 0 throughout."""
    seeds: int


def submitted(
    runs: Sequence[Path],
    data: str,
    store: str | None,
    template: Path,
    out: Path,
    style: Style,
    smoothing: str,
    *,
    alone: bool,
    device: str,
) -> Submitted:
    """Predict the tracks of a template by the mean of runs, and write them in its order.

    Args:
        runs: Folders of finished runs of one experiment.
        data: `name` or `name@edition` in the store.
        store: Folder or URL; by default the folder `store` beside the first run's `runs`.
        template: The challenge's template, or its list of test tracks.
        out: File or folder to write.
        style: Which of the two.
        smoothing: As for `parse_smoothing`, track by track.
        alone: Without the other seeds that stand beside the runs.
        device: Where heads are applied.

    Raises:
        ConfigError: No finished run, other experiments, or an unknown smoothing.
        DataError: The template cannot be read, asks for a track or rows that the data set does not
            have, or what was predicted is nothing to submit (one value throughout, say).
    """
    sizes = parse_smoothing(smoothing)
    using = Predictors.opened(runs, data, store, alone=alone)
    expected = expected_of(template, using.manifest)
    wanted = {track for track, _ in expected}
    splits = dict.fromkeys(t.split for t in using.manifest if t.track in wanted)
    tracks = {t.track: t for t in using.predict(tuple(splits), device) if t.track in wanted}
    means = {name: smoothed(track.mean, sizes) for name, track in tracks.items()}
    write_submission(out, style, expected, means)
    faults = check_submission(out, expected)
    if faults:
        raise DataError(f"{out}: was written, but {told(faults[0])}; train another head")
    return Submitted(
        tracks=len(expected),
        rows=sum(rows for _, rows in expected),
        filled=sum(int(track.filled.sum()) for track in tracks.values()),
        empty=tuple(name for name, track in tracks.items() if track.filled.all()),
        seeds=len(using.runs),
    )


def expected_of(template: Path, manifest: Manifest | None = None) -> Expected:
    """Read which tracks and rows a template asks for, in its order.

    Args:
        template: A template, or a list of test tracks.
        manifest: States the rows of tracks whose list does not.

    Raises:
        DataError: It cannot be read, or nothing says how many rows a track has.
    """
    known = {track.track: track.rows for track in manifest or ()}
    found: list[tuple[str, int]] = []
    for track, rows in read_test_list(template).items():
        count = known.get(track) if rows is None else rows
        if count is None:
            raise DataError(
                f"{template}: does not say how many rows track {track!r} has, and neither does the "
                "data set; expected a template with a line for each row"
            )
        found.append((track, count))
    return found


def told(fault: Fault) -> str:
    """Write a fault as a line."""
    return f"{fault.file}:{fault.line}: {fault.reason}" if fault.line else str(fault.reason)
