"""Items computed once more: a sample of what a store holds, compared with what its recipe gives."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .copying import new_item_of
from .errors import ConcordError, NotInStoreError, StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .store import FeatureStore
    from .stream import Stream

Outcome = Literal["equal", "differs", "damaged", "not recomputed"]
ROW_TOLERANCE: Mapping[str, float] = {"float16": 1e-3, "float32": 1e-4, "float64": 0.0}
"""Type of a stream's rows to how far one may lie from the same row computed elsewhere, relative to
the row's largest value: what half precision rounds away, and what another order of sums changes in
single precision. Labels are copied, so they are the same. A recipe that states a larger `tolerance`
(bfloat16) is taken at its word."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """An item that is to be computed once more."""

    stream: Stream
    manifest: str
    """`dataset@edition`."""
    track: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """What became of it."""

    stream: str
    """Full name."""
    manifest: str
    track: str
    outcome: Outcome
    distance: float | None = None
    """Of the row that lies farthest from its own, relative; None where rows were not compared."""
    tolerance: float | None = None
    why: str = ""
    """What differs, or why it could not be computed."""

    def record(self) -> dict[str, Any]:
        """Give plain values for JSON, which knows no infinite number."""
        plain = asdict(self)
        if self.distance is not None and not np.isfinite(self.distance):
            plain["distance"] = None
        return plain


Recompute = Callable[[Sampled], Mapping[str, "NDArray[Any]"]]
"""Computes an item: gives x, valid, flags and times; raises a ConcordError where it cannot."""


def sample(
    store: FeatureStore,
    count: int,
    streams: Collection[str] = (),
    manifest: str | None = None,
    seed: int | None = None,
) -> list[Sampled]:
    """Choose items at random among those that manifests list, each key once.

    Args:
        store: The store, local or at a URL.
        count: How many; all where there are fewer.
        streams: Of these streams only.
        manifest: Of this data set or edition only.
        seed: For the same choice again; nobody can foresee it by default.

    Raises:
        NotInStoreError: Nothing is listed, or nothing has such a name.
    """
    chosen = [store[name] for name in streams] or store.streams()
    known = {stream.full_name: stream for stream in chosen}
    tables = store.manifests() if manifest is None else (store.manifest(manifest),)
    found: dict[tuple[str, str], Sampled] = {}
    for table in tables:
        for row in table:
            for name, key in sorted(row.items.items()):
                if name in known:
                    each = Sampled(known[name], table.name, row.track, key)
                    found.setdefault((name, key), each)
    if not found:
        raise NotInStoreError(f"{store.place}: no manifest lists an item of what was chosen")
    every = [found[name] for name in sorted(found)]
    picked = random.Random(seed).sample(every, min(count, len(every)))  # noqa: S311 - no secret
    return sorted(picked, key=lambda each: (each.stream.full_name, each.manifest, each.track))


def compare(each: Sampled, recompute: Recompute) -> Recomputed:
    """Compute an item once more, and compare it with what is stored."""
    same: dict[str, Any] = {
        "stream": each.stream.full_name,
        "manifest": each.manifest,
        "track": each.track,
    }
    try:
        stored = new_item_of(each.stream.item(each.key)).arrays()
    except (StoreError, NotInStoreError) as error:
        return Recomputed(**same, outcome="damaged", why=str(error))
    try:
        computed = recompute(each)
    except ConcordError as error:
        return Recomputed(**same, outcome="not recomputed", why=str(error))
    tolerance = tolerance_of(each.stream)
    why = _other_shape(stored, computed)
    if why:
        return Recomputed(**same, outcome="differs", tolerance=tolerance, why=why)
    found = distance(stored["x"], computed["x"])
    outcome: Outcome = "equal" if found <= tolerance else "differs"
    why = "" if outcome == "equal" else "rows"
    return Recomputed(**same, outcome=outcome, distance=found, tolerance=tolerance, why=why)


def tolerance_of(stream: Stream) -> float:
    """Say how far a stream's rows may lie from the same ones computed elsewhere, relative."""
    stated = stream.recipe.get("tolerance", 0.0)
    stated = float(stated) if isinstance(stated, (int, float)) else 0.0
    return max(ROW_TOLERANCE[stream.dtype.name], stated)


def distance(stored: NDArray[Any], computed: NDArray[Any]) -> float:
    """Give how far rows lie apart at most, each relative to its own largest value.

    Args:
        stored: (rows, dim).
        computed: (rows, dim).

    Returns:
        0 where they are the same; infinite where one has a value that is no finite number and the
        other has not, or where a stored row is zero and the computed one is not.
    """
    one, other = (np.asarray(each, np.float64) for each in (stored, computed))
    equal = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.where(equal, 0.0, np.abs(one - other)).max(axis=1, initial=0.0)
        largest = np.abs(one).max(axis=1, initial=0.0)
        relative = np.where(apart == 0, 0.0, apart / largest)
    return float(np.where(np.isnan(relative), np.inf, relative).max(initial=0.0))


def _other_shape(stored: Mapping[str, NDArray[Any]], computed: Mapping[str, NDArray[Any]]) -> str:
    """Say what beside the values of rows differs; nothing where nothing does."""
    if stored["x"].shape != computed["x"].shape:
        return f"shape: stored {stored['x'].shape}, computed {computed['x'].shape}"
    parts: Sequence[str] = [
        name
        for name in ("valid", "flags", "times")
        if not np.array_equal(stored[name], computed[name], equal_nan=name == "times")
    ]
    return ", ".join(parts)
