"""Loading: batches of samples, read and decoded by threads ahead of the training step."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..cache import MediaError
from .sampling import together

if TYPE_CHECKING:
    from .samples import Sample, Samples
    from .sampling import LabelledTrack, Place

    Block = list[tuple[int, Sequence[Place]]]
    Found = dict[Place, Sample]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples of some rows."""

    values: Tensor
    """(n, …) as `Sample.values`."""
    zeros: Tensor | None
    """(n, T) bool, as `Sample.zeros`."""
    labels: Tensor
    """(n, 2) float32."""
    numbers: tuple[int, ...]
    """Place of each row in the epoch."""
    rows: tuple[str, ...]
    """What each is, for messages."""


class Loader:
    """Threads that read the samples of a plan, one block of batches ahead."""

    def __init__(self, samples: Samples, workers: int) -> None:
        self._samples = samples
        self._pool = ThreadPoolExecutor(workers, "samples")
        self.quarantine: dict[str, str] = {}
        """Track of which nothing can be had, to the reason."""

    def batches(
        self,
        tracks: Sequence[LabelledTrack],
        plan: Sequence[Sequence[Place]],
        first: int = 0,
    ) -> Generator[Batch | None]:
        """Give the batches of a plan in order; rows that cannot be had are missing from them.

        Args:
            tracks: What places are of.
            plan: The places of each batch.
            first: Batches that are left out at the beginning.

        Yields:
            A batch; None where none of its rows can be had.
        """
        size = together(plan)
        rest = iter(enumerate(plan))
        numbers = np.cumsum([0, *(len(places) for places in plan)]).tolist()
        blocks: deque[tuple[Block, list[Future[Found]]]] = deque()
        for _ in islice(rest, first):
            pass
        # The first block ends where it would have ended had none been left out.
        sizes = chain([size - first % size], repeat(size))
        while True:
            while len(blocks) < 2 and (block := list(islice(rest, next(sizes)))):
                blocks.append((block, self._begin(tracks, block)))
            if not blocks:
                return
            block, loading = blocks.popleft()
            found = {place: sample for part in loading for place, sample in part.result().items()}
            for number, places in block:
                yield _batch(tracks, places, numbers[number], found)

    def _begin(self, tracks: Sequence[LabelledTrack], block: Block) -> list[Future[Found]]:
        rows: dict[int, list[int]] = {}
        for _, places in block:
            for track, row in places:
                rows.setdefault(track, []).append(row)
        return [
            self._pool.submit(self._read, tracks[track], track, sorted(own))
            for track, own in rows.items()
        ]

    def _read(self, each: LabelledTrack, number: int, rows: list[int]) -> Found:
        try:
            found = self._samples.read(each, rows)
        except MediaError as error:
            self.quarantine[each.track.name] = str(error)
            return {}
        return {(number, row): sample for row, sample in found.items()}

    def close(self) -> None:
        """Let go of all files; what is being read is read to its end."""
        self._pool.shutdown(cancel_futures=True)
        self._samples.close()


def _batch(
    tracks: Sequence[LabelledTrack], places: Sequence[Place], first: int, found: Found
) -> Batch | None:
    there = [(k, place) for k, place in enumerate(places, first) if place in found]
    if not there:
        return None
    samples = [found[place] for _, place in there]
    labels = np.stack([tracks[track].labels[row] for _, (track, row) in there])
    return Batch(
        values=torch.stack([sample.values for sample in samples]),
        zeros=_zeros(samples),
        labels=torch.from_numpy(labels),
        numbers=tuple(k for k, _ in there),
        rows=tuple(f"{tracks[track].track.name} row {row}" for _, (track, row) in there),
    )


def _zeros(samples: Sequence[Sample]) -> Tensor | None:
    known = [sample.zeros for sample in samples if sample.zeros is not None]
    if not known:
        return None
    none = torch.zeros_like(known[0])
    return torch.stack([none if sample.zeros is None else sample.zeros for sample in samples])
