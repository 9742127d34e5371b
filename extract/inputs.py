"""Inputs: what a track's item is read from, and whether it is still what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import DataError, MediaError, digest
from .faces import list_crops
from .transcripts import read_transcript

if TYPE_CHECKING:
    from ..cache import FeatureStore, Manifest, Stream
    from ..cache.digests import DigestMemory
    from .dataset import Dataset, Track

Progress = Callable[[int, int, str], None]
NO_FILES = ("region", "language", "recogniser", "form")
"""Inputs that a track's name or a transcript says."""


def input_digests(
    reads: str, track: Track, rows: int, root: Path, digests: DigestMemory
) -> dict[str, str]:
    """Give the digests of every input that a track's item is computed from.

    Beside a transcript's digest stands what it says of itself: its language and its recogniser.

    Args:
        reads: labels, faces, boxes, transcript, video or sound.
        track: The track.
        rows: Rows of the track; face crops beyond them are not read.
        root: The data set's root.
        digests: What is remembered of inputs.

    Raises:
        DataError: The track has no label file.
        MediaError: The track has no such input.
    """
    if reads == "labels":
        if track.labels is None:
            raise DataError(f"{track.name}: has no label file, so its rows are not known")
        form = {"form": digest(track.form)} if track.form else {}
        return {"labels": digests.file(root / track.labels), **form}
    if reads == "faces":
        if track.faces is None:
            raise MediaError(f"{track.name}: has no face folder")
        folder = root / track.faces
        crops = list_crops(folder, rows)
        return {"faces": digests.folder(folder, list(crops.values()))}
    if track.media is None:
        raise MediaError(f"{track.source}: has no media file")
    if not (root / track.media).is_file():
        raise MediaError(f"{track.media}: expected a file, found something else or nothing")
    media = {"media": digests.file(root / track.media)}
    if reads == "boxes":
        if track.boxes is None:
            raise MediaError(f"{track.name}: has no box file")
        return {**media, "boxes": digests.file(root / track.boxes)}
    if reads == "transcript":
        return media | _transcript(track, root, digests)
    return media if reads == "sound" else {**media, "region": track.region}


def _transcript(track: Track, root: Path, digests: DigestMemory) -> dict[str, str]:
    if track.transcript is None:
        raise MediaError(
            f"{track.name}: has no transcript; expected transcripts/{track.source}.json, or as "
            "another format has it; `concord extract transcribe` makes them"
        )
    path = root / track.transcript
    told = read_transcript(path)
    inputs = {"transcript": digests.file(path)}
    return inputs | {"language": told.language, "recogniser": told.recogniser}


@dataclass(frozen=True, slots=True)
class ChangedInput:
    """An item whose input is no longer what it was computed from."""

    track: str
    stream: str
    """Full name."""
    input: str
    """labels, faces, boxes, transcript or media; `found` has the problem where it is not read."""
    path: str
    """Relative to the data set's root; empty where the data set has no such file."""
    expected: str
    """Digest of the bytes that the item was computed from."""
    found: str


def changed_inputs(
    dataset: Dataset, store: FeatureStore, manifest: Manifest, progress: Progress
) -> list[ChangedInput]:
    """Read every input of a manifest's items again and compare it with what they were made of.

    What is remembered of inputs is brought up to date on the way, so that the next extraction
    computes what has changed. Items of streams without a recorded identity cannot be checked.

    Args:
        dataset: The tracks, by name, wherever they lie now.
        store: The store.
        manifest: Which items.
        progress: Called with (tracks done, tracks in all, the track that comes next).
    """
    digests = store.digests.reread()
    streams = {stream.full_name: stream for stream in store.streams()}
    tracks = {track.track: track for track in manifest}
    here = {track.name: track for track in dataset.tracks}
    changed: list[ChangedInput] = []
    for done, (name, listed) in enumerate(tracks.items()):
        progress(done, len(tracks), name)
        for full, key in sorted(listed.items.items()):
            if full in streams:
                found = _changed(here.get(name), streams[full], key, Path(dataset.root), digests)
                changed += [replace(each, track=name) for each in found]
    progress(len(tracks), len(tracks), "done")
    return changed


def _changed(
    track: Track | None, stream: Stream, key: str, root: Path, digests: DigestMemory
) -> Iterator[ChangedInput]:
    item = stream.items.get(key)
    if item is None:
        return
    inputs = item.identity.get("inputs", {})
    files = {name: value for name, value in inputs.items() if name not in NO_FILES}
    found, paths = dict.fromkeys(files, "no such track"), {}
    if track is not None and files:
        paths = {"labels": track.labels, "faces": track.faces, "media": track.media}
        paths |= {"boxes": track.boxes, "transcript": track.transcript}
        try:
            found = input_digests(_reads(inputs), track, item.entry.rows, root, digests)
        except (DataError, MediaError, OSError) as error:
            found = dict.fromkeys(files, str(error))
    for name, value in files.items():
        if found[name] != value:
            where = paths.get(name) or ""
            yield ChangedInput(item.entry.track, stream.full_name, name, where, value, found[name])


def _reads(inputs: Mapping[str, str]) -> str:
    """Say what an item was read from, by the names of its inputs."""
    for name in ("labels", "faces", "boxes", "transcript"):
        if name in inputs:
            return name
    return "video" if "region" in inputs else "sound"
