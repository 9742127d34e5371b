"""A survey: every label file read, every face folder counted, every media file's head opened.

Nothing is decoded and nothing is written, so that a data set is known in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import DataError, MediaError
from ..cache.digests import file_digest
from .compute import load_labels
from .faces import CROP
from .index import edition_of
from .receipt import TrackRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..cache.digests import DigestMemory
    from .dataset import Dataset, Track

Progress = Callable[[int, int, str], None]
OPENERS = 4
"""Media files opened at once; waiting for a disk takes most of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaHead:
    """What the head of a media file says."""

    problem: str = ""
    """Why it cannot be opened."""
    video: bool = False
    sound: bool = False
    rate: float | None = None
    """Average frames per second."""
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackSurvey:
    """What is there of one track."""

    track: Track
    rows: int = 0
    labelled: int = 0
    sha256: str = ""
    """Of the labels."""
    problem: str = ""
    """Why its rows are not known."""
    faces: int | None = None
    """Rows with a face crop; None without a folder."""
    beyond: int = 0
    """Face crops numbered beyond the rows."""
    foreign: int = 0
    """Other files in the face folder."""

    @property
    def faceless(self) -> int:
        """Rows without a face crop."""
        return self.rows - (self.faces or 0)

    @property
    def record(self) -> TrackRecord:
        """What a receipt says of the track."""
        track = self.track
        return TrackRecord(
            source=track.source,
            split=track.split,
            family=track.family,
            rows=self.rows,
            labelled=self.labelled,
            labels_sha256=self.sha256,
        )


@dataclass(frozen=True, slots=True)
class Survey:
    """What is there of a data set."""

    dataset: Dataset
    tracks: tuple[TrackSurvey, ...]
    heads: dict[str, MediaHead]
    """Media file to what its head says; empty where none was opened."""

    @property
    def edition(self) -> str:
        """The edition that a manifest of these tracks has."""
        known = {each.track.name: each.record for each in self.tracks if not each.problem}
        return edition_of(known, self.dataset.release)

    def head(self, track: Track) -> MediaHead | None:
        """Give what is known of a track's media file; None where it has none."""
        if track.media is None:
            return None
        return self.heads.get(track.media, MediaHead(video=True, sound=True))


class _Bytes:
    """Digests that are not remembered: a survey writes nothing."""

    def file(self, path: Path) -> str:
        return file_digest(path)


def survey(dataset: Dataset, *, media: bool = True, progress: Progress | None = None) -> Survey:
    """Look at everything that a data set has.

    Args:
        dataset: The tracks.
        media: Open media files; otherwise they are taken to be what their names say.
        progress: Called with (tracks done, tracks in all, the track that comes next).
    """
    root = Path(dataset.root)
    names = _Names()
    found: list[TrackSurvey] = []
    for done, track in enumerate(dataset.tracks):
        if progress:
            progress(done, len(dataset.tracks), track.name)
        found.append(_track(track, root, names))
    paths = sorted({track.media for track in dataset.tracks if track.media}) if media else []
    with ThreadPoolExecutor(OPENERS) as pool:
        heads = dict(zip(paths, pool.map(read_head, [root / p for p in paths]), strict=True))
    if progress:
        progress(len(found), len(found), "done")
    return Survey(dataset, tuple(found), heads)


def _track(track: Track, root: Path, names: _Names) -> TrackSurvey:
    memory: DigestMemory = _Bytes()  # pyright: ignore[reportAssignmentType] - the part that is used
    try:
        labels = load_labels(track, root, memory)
    except (DataError, OSError) as error:
        return TrackSurvey(track=track, problem=str(error).replace(f"{root}/", ""))
    rows, labelled = len(labels.values), _count(labels.valid)
    known = TrackSurvey(track=track, rows=rows, labelled=labelled, sha256=labels.sha256)
    if track.faces is None or not (root / track.faces).is_dir():
        return known
    faces, beyond, foreign = names.count(root / track.faces, rows)
    return TrackSurvey(
        track=track,
        rows=rows,
        labelled=labelled,
        sha256=labels.sha256,
        faces=faces,
        beyond=beyond,
        foreign=foreign,
    )


def _count(valid: NDArray[np.bool_]) -> int:
    return int(valid.sum())


class _Names:
    """Counts face crops by their names, which are made once: millions of them are looked at."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def count(self, folder: Path, rows: int) -> tuple[int, int, int]:
        """Count rows with a crop, crops beyond the rows, and other files."""
        more = range(len(self._names) + 1, rows + 1)
        self._names += [f"{number:05d}.jpg" for number in more]
        with os.scandir(folder) as entries:
            listed = {entry.name for entry in entries if not entry.name.startswith(".")}
        plain = listed.intersection(self._names[:rows])
        rest = listed - plain
        numbers = {int(name.partition(".")[0]) for name in rest if CROP.fullmatch(name)}
        more_rows = {n for n in numbers if 1 <= n <= rows and self._names[n - 1] not in plain}
        beyond = sum(number > rows for number in numbers)
        foreign = sum(not CROP.fullmatch(name) for name in rest)
        return len(plain) + len(more_rows), beyond, foreign


def read_head(path: Path) -> MediaHead:
    """Open a media file and close it again: its streams, without decoding them."""
    import av
    import av.error

    from .container import audio_stream, open_container, reason, video_stream

    try:
        if not path.stat().st_size:
            return MediaHead(problem="is empty")
        with open_container(path) as container:
            video, sound = video_stream(container), audio_stream(container)
            rate = float(video.average_rate) if video and video.average_rate else None
            seconds = container.duration / av.time_base if container.duration else None
    except (MediaError, OSError, av.error.FFmpegError) as error:
        told = reason(error).rpartition(": ")[2]
        return MediaHead(problem=f"cannot be opened: {told}")
    if not video and not sound:
        return MediaHead(problem="has neither video nor sound")
    return MediaHead(video=bool(video), sound=bool(sound), rate=rate, seconds=seconds)


def split_counts(tracks: Sequence[TrackSurvey]) -> dict[str, int]:
    """Count tracks, sources and rows of some tracks."""
    with_faces = [each for each in tracks if each.faces is not None]
    return {
        "tracks": len(tracks),
        "sources": len({each.track.source for each in tracks}),
        "rows": sum(each.rows for each in tracks),
        "labelled": sum(each.labelled for each in tracks),
        "faceless": sum(each.faceless for each in with_faces),
        "without_faces": len(tracks) - len(with_faces),
        "without_media": len({e.track.source for e in tracks if e.track.media is None}),
    }
