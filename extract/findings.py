"""Findings: what of a surveyed data set prevents a run, and what is odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from .editions import MOVED, fits_counts

if TYPE_CHECKING:
    from .dataset import Track
    from .survey import MediaHead, Survey, TrackSurvey

MOST_FACELESS = 0.2
"""Share of rows without a face from which a track is named."""
BEYOND_SECONDS = 0.5
"""Rows so long past the end of the film have no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is missing, odd, or in the way of a run."""

    level: Literal["error", "warning"]
    """An error prevents a run; a warning costs tracks, or is worth knowing."""
    text: str
    names: tuple[str, ...]
    """Tracks, sources or files that it is about."""


def find(survey: Survey) -> list[Finding]:
    """Say what is wrong or odd, errors first."""
    checks: tuple[Callable[[Survey], Iterator[Finding]], ...] = (
        _leaks,
        _empty_splits,
        _labels,
        _release,
        _withheld,
        _families,
        _pairs,
        _media,
        _faces,
        _lengths,
    )
    found = [finding for check in checks for finding in check(survey)]
    return sorted(found, key=lambda finding: finding.level)


def missing_inputs(survey: Survey, reads: Mapping[str, str], share: float) -> Iterator[Finding]:
    """Say which streams will lack tracks, and whether the failure budget allows it.

    Args:
        survey: The data set.
        reads: Stream to what its items are read from: faces, boxes, video, sound or transcript.
        share: Share of all sources that may end in quarantine.
    """
    bad = {each.track.source for each in survey.tracks if each.problem}
    for stream, what in reads.items():
        lacking = [t.track for t in survey.tracks if not t.problem and not _has(survey, t, what)]
        bad |= {track.source for track in lacking}
        if lacking:
            names = tuple(track.name for track in lacking)
            yield _warning(f"{stream}: tracks without {what}, which will be in quarantine", names)
    total = len(survey.dataset.sources)
    if len(bad) > share * total + 1e-9:
        yield _error(
            f"{len(bad)} of {total} sources will be in quarantine, more than failure_budget "
            f"{share:g} allows",
            sorted(bad),
        )


def _has(survey: Survey, found: TrackSurvey, what: str) -> bool:
    track, head = found.track, survey.head(found.track)
    opened = head is not None and not head.problem
    by_name = {
        "faces": bool(found.faces),
        "video": opened and head is not None and head.video,
        "sound": opened,
        "boxes": opened and track.boxes is not None,
        "transcript": opened and track.transcript is not None,
    }
    return by_name[what]


def _error(text: str, names: Sequence[str]) -> Finding:
    return Finding(level="error", text=text, names=tuple(names))


def _warning(text: str, names: Sequence[str]) -> Finding:
    return Finding(level="warning", text=text, names=tuple(names))


def _leaks(survey: Survey) -> Iterator[Finding]:
    leaked = survey.dataset.leaked
    if leaked:
        yield _error("labelled tracks that are test tracks by the test list", _names(leaked))
    known = {track.name for track in leaked}
    labelled = [t for t in survey.dataset.tracks if t.split != "test" and t.name not in known]
    # Tables of tracks, which say how their labels are written, may use the same names.
    moved = [track for track in labelled if track.name in MOVED and track.form is None]
    if moved:
        yield _warning(
            "labelled tracks that are test tracks since ABAW3: train on nothing of this data set "
            "that is to be scored on a later test set",
            _names(moved),
        )


def _empty_splits(survey: Survey) -> Iterator[Finding]:
    for split in ("train", "val"):
        if not any(track.split == split for track in survey.dataset.tracks):
            yield _error(f"no track in split {split}", ())


def _labels(survey: Survey) -> Iterator[Finding]:
    bad = [each for each in survey.tracks if each.problem]
    for each in bad:
        yield _warning(f"its rows are not known: {each.problem}", (each.track.name,))
    if bad and len(bad) == len(survey.tracks):
        yield _error("no track has rows", ())
    none = [e for e in survey.tracks if e.track.labels and e.rows and not e.labelled]
    if none:
        yield _warning("no row has a label", _names([each.track for each in none]))


def _release(survey: Survey) -> Iterator[Finding]:
    counts = Counter(track.split for track in survey.dataset.tracks)
    release = survey.dataset.release
    if release and fits_counts(release, counts["train"], counts["val"]) is False:
        yield _warning(
            f"{counts['train']} training and {counts['val']} validation tracks are not the numbers "
            f"of {release}",
            (),
        )


def _withheld(survey: Survey) -> Iterator[Finding]:
    there = {track.name for track in survey.dataset.tracks}
    absent = sorted(survey.dataset.withheld - there)
    if absent and any(track.split == "test" for track in survey.dataset.tracks):
        yield _warning("test tracks whose rows nothing states", absent)
    elif absent:
        yield _warning(
            "test tracks are listed, but nothing states their rows; add the template of the "
            "challenge to predict them",
            absent,
        )


def _families(survey: Survey) -> Iterator[Finding]:
    by_family = sorted(survey.dataset.tracks, key=lambda track: track.family)
    for family, tracks in groupby(by_family, key=lambda track: track.family):
        splits = sorted({track.split for track in tracks})
        if len(splits) > 1:
            yield _warning(f"one recording has tracks in {' and '.join(splits)}", (family,))


def _pairs(survey: Survey) -> Iterator[Finding]:
    regions: dict[str, set[str]] = {}
    for track in survey.dataset.tracks:
        regions.setdefault(track.source, set()).add(track.region)
    odd = sorted(source for source, found in regions.items() if {"whole"} < found)
    if odd:
        yield _warning(
            "two persons of one source, one of them without _left or _right: of that one, streams "
            "that read the video see the whole picture",
            odd,
        )


def _media(survey: Survey) -> Iterator[Finding]:
    first = {track.source: track for track in survey.dataset.tracks}
    heads = {source: survey.head(track) for source, track in first.items()}
    without = sorted(source for source, head in heads.items() if head is None)
    if without:
        yield _warning("sources without a media file: neither video nor sound", without)
    problems: dict[str, list[str]] = {}
    for source, head in sorted(heads.items()):
        if head and head.problem:
            problems.setdefault(head.problem, []).append(source)
    for problem, sources in problems.items():
        yield _warning(f"media file {problem}", sources)
    good = {source: head for source, head in heads.items() if head and not head.problem}
    silent = sorted(source for source, head in good.items() if not head.sound)
    if silent:
        yield _warning("sources without sound: sound streams have no value there", silent)
    blind = sorted(source for source, head in good.items() if not head.video)
    if blind:
        yield _warning("sources of sound alone: streams that read the video lack them", blind)


def _faces(survey: Survey) -> Iterator[Finding]:
    known = [each for each in survey.tracks if not each.problem]
    if not any(each.faces is not None for each in known):
        return
    tests: tuple[tuple[str, Callable[[TrackSurvey], bool]], ...] = (
        ("no face folder", lambda each: each.faces is None),
        ("a face folder without an image for any row", lambda each: each.faces == 0),
        (
            f"over {MOST_FACELESS:.0%} of the rows have no face",
            lambda each: bool(each.faces) and each.faceless > MOST_FACELESS * each.rows,
        ),
        ("face images are numbered beyond the rows; they are left out", lambda e: e.beyond > 0),
        ("face folders hold files that are no numbered images", lambda each: each.foreign > 0),
    )
    for text, holds in tests:
        names = _names([each.track for each in known if holds(each)])
        if names:
            yield _warning(text, names)


def _lengths(survey: Survey) -> Iterator[Finding]:
    late = [each.track for each in survey.tracks if _ends_late(each, survey.head(each.track))]
    if late:
        yield _warning(
            f"rows go on for more than {BEYOND_SECONDS} s after the media's end; they have no "
            "value there",
            _names(late),
        )


def _ends_late(found: TrackSurvey, head: MediaHead | None) -> bool:
    if head is None or not head.seconds or not found.rows:
        return False
    clock = found.track.clock
    if clock:
        return float(clock.times(found.rows)[-1]) > head.seconds + BEYOND_SECONDS
    return bool(head.rate) and (found.rows - 1) / head.rate > head.seconds + BEYOND_SECONDS


def _names(tracks: Sequence[Track]) -> tuple[str, ...]:
    return tuple(track.name for track in tracks)
