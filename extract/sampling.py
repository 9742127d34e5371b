"""Which rows an epoch trains on, and in what order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .dataset import Track
    from .finetune_settings import Sampling

Place = tuple[int, int]
"""Number of a track, and a row of it."""
POOL = 24
"""Sources that are mixed: fewer than are kept open at once."""
TOGETHER = 256
"""Rows that are loaded in one go: of each source by reading forward once."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTrack:
    """A track and its labels."""

    track: Track
    labels: NDArray[np.float32]
    """(rows, 2), valence first."""
    labelled: NDArray[np.int64]
    """Rows that have a label, ascending."""
    times: NDArray[np.float64] | None = None
    """(rows,) seconds on the media's clock, where the data set states them."""

    @property
    def total(self) -> int:
        """Rows of the track."""
        return len(self.labels)


def draw_rows(
    tracks: Sequence[LabelledTrack], count: int, sampling: Sampling, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw labelled rows, none twice.

    Args:
        tracks: The tracks.
        count: Rows in all; 0, or more than there are: every labelled row.
        sampling: `rows`: each row is as likely; `tracks`: as many of each track, as far as it has
            them.
        rng: Random numbers.

    Returns:
        Of each track its rows, ascending.
    """
    sizes = np.array([len(each.labelled) for each in tracks])
    if not count or count >= sizes.sum():
        return [each.labelled for each in tracks]
    if sampling == "rows":
        owner = np.repeat(np.arange(len(tracks)), sizes)
        chosen = rng.choice(len(owner), count, replace=False)
        quotas = np.bincount(owner[chosen], minlength=len(tracks))
    else:
        quotas = even_quotas(sizes, count, rng)
    return [
        np.sort(rng.choice(each.labelled, quota, replace=False))
        for each, quota in zip(tracks, quotas, strict=True)
    ]


def even_quotas(
    sizes: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Share a number among tracks evenly, to none more than it has.

    Args:
        sizes: (tracks,) what each has.
        count: At most their sum.
        rng: Draws who gets one more.
    """
    level = 0
    while np.minimum(sizes, level + 1).sum() <= count:
        level += 1
    quotas = np.minimum(sizes, level)
    more = rng.permutation(np.flatnonzero(sizes > level))[: count - quotas.sum()]
    quotas[more] += 1
    return quotas


def mixed(
    tracks: Sequence[LabelledTrack],
    rows: Sequence[NDArray[np.int64]],
    rng: np.random.Generator,
    *,
    forward: bool,
) -> list[Place]:
    """Order rows so that each stretch of them has many sources, and few are open at once.

    A row is drawn from a pool of sources, each as likely as it has rows left; one that is used up
    makes place for the next.

    Args:
        tracks: The tracks.
        rows: Of each track its rows, ascending.
        rng: Random numbers.
        forward: Read each source from its beginning to its end, as videos are read fast;
            otherwise its rows come in any order. Neighbours are alike: of few sources, stretches
            that go forward hold little that differs.
    """
    queues: dict[str, list[Place]] = {}
    for number, (each, own) in enumerate(zip(tracks, rows, strict=True)):
        queues.setdefault(each.track.source, []).extend((number, row) for row in own.tolist())
    waiting = [sorted(queue, key=_by_row) for queue in queues.values() if queue]
    if not forward:
        waiting = [[queue[k] for k in rng.permutation(len(queue))] for queue in waiting]
    waiting = [waiting[k] for k in rng.permutation(len(waiting))]
    pool, waiting = waiting[:POOL], waiting[POOL:]
    heads, order = [0] * len(pool), list[Place]()
    left = np.array([len(queue) for queue in pool])
    while pool:
        chosen = int(np.searchsorted(np.cumsum(left), rng.integers(left.sum()), "right"))
        order.append(pool[chosen][heads[chosen]])
        heads[chosen] += 1
        left[chosen] -= 1
        if not left[chosen]:
            if waiting:
                pool[chosen], heads[chosen] = waiting.pop(), 0
                left[chosen] = len(pool[chosen])
            else:
                del pool[chosen], heads[chosen]
                left = np.delete(left, chosen)
    return order


def _by_row(place: Place) -> tuple[int, int]:
    """Two persons of one picture are read together."""
    return place[1], place[0]


def spaced(tracks: Sequence[LabelledTrack], count: int) -> list[Place]:
    """Choose labelled rows at even distances over all tracks, in order; 0: all of them."""
    every = [(k, row) for k, each in enumerate(tracks) for row in each.labelled.tolist()]
    if not count or count >= len(every):
        return every
    return [every[k * len(every) // count] for k in range(count)]


def passes(places: Sequence[Place], batch: int) -> list[list[Place]]:
    """Cut rows into batches of nearly equal size, at most `batch`."""
    count = -(-len(places) // batch)
    edges = [k * len(places) // count for k in range(count + 1)]
    return [list(places[low:high]) for low, high in pairwise(edges)]


def together(plan: Sequence[Sequence[Place]]) -> int:
    """Say how many of a plan's batches are loaded in one go."""
    return max(1, TOGETHER // max(len(plan[0]), 1)) if plan else 1


def planned(
    tracks: Sequence[LabelledTrack],
    rows: Sequence[NDArray[np.int64]],
    batch: int,
    rng: np.random.Generator,
    *,
    forward: bool,
) -> list[list[Place]]:
    """Give the batches of an epoch: rows of many sources, and of each not neighbours alone.

    Args:
        tracks: The tracks.
        rows: Of each track its rows, ascending.
        batch: The most rows of one.
        rng: Random numbers.
        forward: Whether sources are read much faster in their order, as for `mixed`.
    """
    plan = passes(mixed(tracks, rows, rng, forward=forward), batch)
    return _blended(plan, rng) if forward else plan


def _blended(plan: Sequence[Sequence[Place]], rng: np.random.Generator) -> list[list[Place]]:
    """Exchange rows between batches that are loaded in one go, which costs no reading."""
    count, exchanged = together(plan), list[list[Place]]()
    for first in range(0, len(plan), count):
        batches = plan[first : first + count]
        places = [place for batch in batches for place in batch]
        order = iter(rng.permutation(len(places)).tolist())
        exchanged += [[places[next(order)] for _ in batch] for batch in batches]
    return exchanged
