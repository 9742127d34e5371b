"""A stand-in of Aff-Wild2: its layout with all of its oddities, made up from nothing.

Four to five thousand rows in which every case of `standin_cases` is planted; everything that loads,
counts or scores the corpus can be tried on it. Labels are held from row to row and have the means
and spreads of the real ones; half of what is felt is seen (the face, at most six pictures a
second), half is heard (a tone, half a second ahead), and words say a part of it. Beside the data
lie `predictions/`, one table for each validation track, and `expected.json`: counts, folds and
scores as they are to come out, computed from what was planted. Equal seeds write equal bytes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ..cache.atomic import json_bytes
from ..cache.errors import ConfigError
from ..extract.dataset import Dataset, Region, Track
from .demo_face import draw_faces
from .demo_media import encode_jpegs
from .demo_signal import random_stream
from .standin_expected import expected_answers, faces
from .standin_labels import make_labels, predict
from .standin_media import SOUND_RATE, Sound, encode_film, tone
from .standin_plan import (
    FILMS,
    LABELS,
    OLDER_LABELS,
    OLDER_TRACKS,
    RELEASE,
    TEMPLATES,
    TEST_LIST,
    TRACKS,
    TRANSCRIPTS,
)
from .standin_words import make_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .demo_face import Pictures
    from .demo_signal import FloatArray
    from .standin_labels import Made
    from .standin_plan import Film, Plan

ANSWERS = "expected.json"
"""Written last: where it is, all else is."""
PREDICTIONS = "predictions"
SIDE = 64  # pixels: height of a film
PICTURES = 6  # drawn a second, at most
SHORT = 0.6  # share of the film after which a short sound ends
DAMAGE = (b"", b"\xff\xd8 no picture", None)
"""What stands in damaged crops, one after another; None: half of the crop."""


def is_complete(root: Path) -> bool:
    """Say whether the stand-in is there, all of it."""
    return (root / ANSWERS).is_file()


def standin_dataset(root: str, name: str = "affwild2") -> Dataset:
    """Name the tracks without touching the disk: what a scan finds once they are made."""
    films = {film.source: film for film in FILMS}
    tracks = [_track(plan, films[plan.source]) for plan in TRACKS]
    withheld = frozenset(plan.name for plan in TRACKS if plan.split == "test")
    return Dataset(name, root, tuple(sorted(tracks, key=lambda t: t.name)), RELEASE, withheld)


def _track(plan: Plan, film: Film) -> Track:
    test = plan.split == "test"
    sides: dict[str, Region] = {"_left": "left", "_right": "right"}
    return Track(
        name=plan.name,
        source=plan.source,
        split=plan.split,
        family=film.family or film.source,
        region=sides.get(plan.name.removeprefix(plan.source), "whole"),
        media=film.file,
        labels=None if test else f"{LABELS[plan.split]}/{plan.name}.txt",
        faces=plan.folder,
        transcript=None if film.words == "none" else f"{TRANSCRIPTS}/{film.source}.json",
        rows=plan.rows if test else None,
        template=max(TEMPLATES) if test else None,
    )


def make_standin(
    root: Path, seed: int = 0, progress: Callable[[int, int, str], None] | None = None
) -> Dataset:
    """Write the stand-in below `root`; other files stay as they are.

    Args:
        root: Folder of the data set; made where missing.
        seed: What is drawn; not negative.
        progress: Called with (sources done, sources in all, name) after each source.

    Returns:
        The same as `standin_dataset`.

    Raises:
        ConfigError: The seed is negative.
    """
    if seed < 0:
        raise ConfigError(f"seed has to be 0 or more, not {seed}")
    (root / ANSWERS).unlink(missing_ok=True)
    made: dict[str, Made] = {}
    predictions: dict[str, FloatArray] = {}
    for done, film in enumerate(FILMS, start=1):
        plans = [plan for plan in TRACKS if plan.source == film.source]
        tracks = [make_labels(seed, plan, film) for plan in plans]
        made |= {track.plan.name: track for track in tracks}
        for track in tracks:
            _write_labels(root, track)
            if track.plan.split == "val":
                predictions[track.plan.name] = predict(seed, track, float(film.rate))
        _write_film(root, seed, film, tracks)
        if progress is not None:
            progress(done, len(FILMS), film.source)
    for name, values in predictions.items():
        _write(root, f"{PREDICTIONS}/{name}.csv", _prediction_table(made[name].plan, values))
    _write_tests(root)
    _write(root, ANSWERS, json_bytes(expected_answers(made, predictions)))
    return standin_dataset(os.fspath(root))


def _write(root: Path, name: str, content: bytes | str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _write_labels(root: Path, track: Made) -> None:
    plan = track.plan
    if plan.split != "test":
        _write(root, f"{LABELS[plan.split]}/{plan.name}.txt", track.text())
    for split, names in OLDER_TRACKS.items():
        if plan.name in names:
            _write(root, f"{OLDER_LABELS[split]}/{plan.name}.txt", track.text(older=True))


def _write_tests(root: Path) -> None:
    """Write the list of test tracks, and templates of three styles."""
    tests = [plan for plan in TRACKS if plan.split == "test"]
    _write(root, TEST_LIST, "".join(f"{plan.name}\n" for plan in tests))
    for name, end in TEMPLATES.items():
        lines = [f"{p.name}/{k:05d}.jpg{end}\n" for p in tests for k in range(1, p.rows + 1)]
        _write(root, name, "".join(["image_location,valence,arousal\n", *lines]))
    for plan in tests:
        text = "valence,arousal\n" + "0,0\n" * plan.rows
        _write(root, f"{LABELS['test']}/{plan.name}.txt", text)


def _prediction_table(plan: Plan, values: FloatArray) -> str:
    """Write what is predicted of every row, and whether it has a face."""
    there = faces(plan)
    lines = [f"{v!r},{a!r},{int(f)}\n" for (v, a), f in zip(values.tolist(), there, strict=True)]
    return "".join(["valence,arousal,face\n", *lines])


def _write_film(root: Path, seed: int, film: Film, tracks: Sequence[Made]) -> None:
    drawn = [_draw(seed, film, track) for track in tracks]
    for track, pictures in zip(tracks, drawn, strict=True):
        _write_faces(root, track.plan, pictures, _step(film))
    times = _times(seed, film, tracks[0].plan.rows)
    if film.words != "none":
        felt = np.mean([track.course for track in tracks], axis=0)
        words = make_words(seed, film, felt, float(times[-1]))
        _write(root, f"{TRANSCRIPTS}/{film.source}.json", json_bytes(words))
    _write(root, film.file, _film_bytes(seed, film, tracks[0], drawn, times))


def _step(film: Film) -> int:
    """Give the rows that show the same picture."""
    return max(1, round(film.rate / PICTURES))


def _draw(seed: int, film: Film, track: Made) -> Pictures:
    """Draw the faces of every few rows."""
    shown = track.signal.shown[:: _step(film)]
    rng = random_stream(seed, track.plan.name, "face")
    return draw_faces(rng, shown, float(film.rate) / _step(film))


def _write_faces(root: Path, plan: Plan, pictures: Pictures, step: int) -> None:
    folder = plan.folder
    if folder is None:
        return
    images = encode_jpegs(pictures)
    there = [*faces(plan).tolist(), *[True] * plan.beyond]
    (root / folder).mkdir(parents=True, exist_ok=True)
    for row in np.flatnonzero(there).tolist():
        image = images[min(row // step, len(images) - 1)]
        if row in plan.corrupt:
            damaged = DAMAGE[(row - plan.corrupt.start) % len(DAMAGE)]
            image = image[: len(image) // 2] if damaged is None else damaged
        suffix = "JPG" if row in plan.capital else "jpg"
        (root / folder / f"{row + 1:05d}.{suffix}").write_bytes(image)
    for name in plan.litter:
        (root / folder / name).write_bytes(b"not a crop\n")


def _times(seed: int, film: Film, rows: int) -> FloatArray:
    """Say when the frames are shown; an early sound is a late picture."""
    frames = rows - film.more
    distances = np.full(frames, 1 / float(film.rate))
    if film.variable:
        distances *= random_stream(seed, film.source, "distances").uniform(0.6, 1.4, frames)
    return max(0.0, -film.sound_start) + np.concatenate([[0.0], np.cumsum(distances)[:-1]])


def _film_bytes(
    seed: int, film: Film, track: Made, drawn: Sequence[Pictures], times: FloatArray
) -> bytes:
    kind = os.path.splitext(film.file)[1][1:].lower()  # noqa: PTH122 - a name, not a place
    if kind == "wav":
        return b""
    place = np.minimum(np.arange(len(times)) // _step(film), len(drawn[0]) - 1)
    pixels = np.arange(SIDE) * drawn[0].shape[1] // SIDE
    small = [pictures[:, pixels][:, :, pixels] for pictures in drawn]
    return encode_film(
        kind, np.concatenate(small, axis=2)[place], times, _sound(seed, film, track, times)
    )


def _sound(seed: int, film: Film, track: Made, times: FloatArray) -> Sound | None:
    if film.sound == "none":
        return None
    rng = random_stream(seed, film.source, "voice")
    rate = float(film.rate)
    wave = tone(rng, track.signal.voice, times, rate, float(times[-1]) + 1 / rate)
    first = round(max(0.0, film.sound_start) * SOUND_RATE)
    last = round(SHORT * len(wave)) if film.sound == "short" else len(wave)
    heard = wave[None, first:last] * (film.sound != "silent")
    samples = np.concatenate([heard, 0.5 * heard]) if film.sound == "stereo" else heard
    return Sound(samples.astype(np.float32), first)
