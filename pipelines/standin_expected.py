"""The right answers for the stand-in, from what was planted in it, by plain NumPy and the spec.

Nothing of what reads, counts and scores data sets elsewhere is used here: these answers are there
to test it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .standin_plan import FILMS, OLDER, OLDER_TRACKS, RELEASE, TRACKS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .demo_signal import FloatArray
    from .standin_labels import Made
    from .standin_plan import Plan

SLICES = 5
SMOOTHING = (20, 50)  # rows that convention C averages over: valence, arousal


def expected_answers(
    made: Mapping[str, Made], predictions: Mapping[str, FloatArray]
) -> dict[str, Any]:
    """Give all answers as plain values.

    Args:
        made: Track to what was made up of it; test tracks included.
        predictions: Validation track to (rows, 2), of every row.
    """
    parts = {part: [made[t.name] for t in TRACKS if t.split == part] for part in _SPLITS}
    return {
        "release": RELEASE,
        "splits": {part: _counts(tracks, part) for part, tracks in parts.items()},
        "older": {
            "release": OLDER,
            "splits": {part: list(names) for part, names in OLDER_TRACKS.items()},
            "moved": ["234"],
            "fewer_labels": {"102-30-640x360": 7},
        },
        "tracks": {t.name: _track(made[t.name]) for t in TRACKS},
        "families": _families(),
        "folds": {f"six:{k}": fold for k, fold in enumerate(_six_folds())},
        "scores": {"val": _scores([made[name] for name in predictions], predictions)},
        "voice_leads_by_s": 0.5,
    }


_SPLITS = ("train", "val", "test")


def _counts(tracks: Sequence[Made], part: str) -> dict[str, int]:
    """Count; `faceless` are rows without a crop of tracks that have a folder of crops."""
    return {
        "tracks": len(tracks),
        "sources": len({track.plan.source for track in tracks}),
        "rows": sum(track.plan.rows for track in tracks),
        "labelled": 0 if part == "test" else sum(int(_labelled(t).sum()) for t in tracks),
        "faceless": sum(int((~faces(t.plan)).sum()) for t in tracks if t.plan.faces),
        "without_faces": sum(not track.plan.faces for track in tracks),
    }


def _track(made: Made) -> dict[str, Any]:
    plan = made.plan
    film = next(film for film in FILMS if film.source == plan.source)
    return {
        "split": plan.split,
        "source": plan.source,
        "family": film.family or film.source,
        "rows": plan.rows,
        "frames": plan.rows - film.more if film.file.lower().endswith(("mp4", "avi")) else 0,
        "labelled": 0 if plan.split == "test" else int(_labelled(made).sum()),
        "faces": int(faces(plan).sum()),
        "damaged_faces": len(plan.corrupt),
    }


def faces(plan: Plan) -> NDArray[np.bool_]:
    """Say which rows have a crop: (rows,)."""
    there = np.full(plan.rows, bool(plan.faces))
    for run in plan.faceless:
        there[run.start : run.stop] = False
    return there


def _labelled(made: Made) -> NDArray[np.bool_]:
    """Say which rows have a label, neither column being -5: (rows,)."""
    return (made.values != -5).all(axis=1)


def _families() -> dict[str, list[str]]:
    family = {film.source: film.family or film.source for film in FILMS}
    found: dict[str, list[str]] = {}
    for track in TRACKS:
        found.setdefault(family[track.source], []).append(track.name)
    return {name: sorted(tracks) for name, tracks in sorted(found.items())}


def _six_folds() -> list[dict[str, list[str]]]:
    """Five slices of the training list in alphabetical order, the last longest, and validation.

    Fold k rotates the list of six by k: fold 0 validates on the official validation tracks, fold 1
    on the last slice, fold 5 on the first.
    """
    train = sorted(track.name for track in TRACKS if track.split == "train")
    size = len(train) // SLICES
    slices = [train[i * size : (i + 1) * size] for i in range(SLICES - 1)]
    slices.append(train[(SLICES - 1) * size :])
    slices.append(sorted(track.name for track in TRACKS if track.split == "val"))
    folds: list[dict[str, list[str]]] = []
    for k in range(SLICES + 1):
        *training, validation = np.roll(np.arange(SLICES + 1), k).tolist()
        chosen = sorted(name for i in training for name in slices[i])
        folds.append({"train": chosen, "val": slices[validation]})
    return folds


def _scores(tracks: Sequence[Made], predictions: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Score under conventions A, B and C, pooled over all tracks.

    A counts every labelled row; what a model says of faceless rows is replaced by what it says of
    the nearest row with a face, the earlier of two. B leaves faceless rows out. C keeps what it
    says of them, as the programs do that show it black pictures, makes pairs of zeros of unlabelled
    rows, clips, and averages over 20 rows (valence) and 50 (arousal) with zeros beyond the ends.
    """
    pairs: dict[str, list[tuple[FloatArray, FloatArray]]] = {"A": [], "B": [], "C": []}
    by_track: dict[str, list[float | None]] = {}
    for track in tracks:
        predicted, labels = predictions[track.plan.name], track.values
        face, labelled = faces(track.plan), _labelled(track)
        filled = _nearest(predicted, face)
        pairs["A"].append((filled[labelled], labels[labelled]))
        pairs["B"].append((predicted[labelled & face], labels[labelled & face]))
        pairs["C"].append(_zeros_and_smoothing(predicted, labels, labelled))
        by_track[track.plan.name] = _both(*pairs["A"][-1])
    pooled = {
        name: (np.concatenate([p for p, _ in each]), np.concatenate([y for _, y in each]))
        for name, each in pairs.items()
    }
    return {
        **{name: _score(*pair) for name, pair in pooled.items()},
        "tracks_under_A": by_track,
    }


def _score(predicted: FloatArray, labels: FloatArray) -> dict[str, float | None]:
    valence, arousal = _both(predicted, labels)
    assert valence is not None
    assert arousal is not None
    mean = (valence + arousal) / 2
    return {"rows": len(labels), "valence": valence, "arousal": arousal, "score": mean}


def _both(predicted: FloatArray, labels: FloatArray) -> list[float | None]:
    return [concordance(predicted[:, i], labels[:, i]) for i in range(2)]


def concordance(p: FloatArray, y: FloatArray) -> float | None:
    """Give the CCC of two series (N,) by population moments; None where both are constant."""
    if np.ptp(p) == 0 and np.ptp(y) == 0:
        return None
    covariance = np.mean((p - p.mean()) * (y - y.mean()))
    return float(2 * covariance / (p.var() + y.var() + (p.mean() - y.mean()) ** 2))


def _nearest(predicted: FloatArray, face: NDArray[np.bool_]) -> FloatArray:
    known = np.flatnonzero(face)
    rows = [known[np.argmin(np.abs(known - row))] for row in range(len(face))]
    return predicted[rows]


def _zeros_and_smoothing(
    predicted: FloatArray, labels: FloatArray, labelled: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    kept = np.clip(np.where(labelled[:, None], predicted, 0.0), -1, 1)
    smooth = np.zeros_like(kept)
    for column, size in enumerate(SMOOTHING):
        for row in range(len(kept)):
            first = row - size // 2
            inside = kept[max(first, 0) : max(first + size, 0), column]
            smooth[row, column] = inside.sum() / size
    return smooth, np.where(labelled[:, None], labels, 0.0)
