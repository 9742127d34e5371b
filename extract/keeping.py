"""Keeping: finished items on their way into the store, and what the receipt says of them."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ..cache import REPEATED, MediaError, NewItem
from .inputs import input_digests
from .receipt import ItemRecord
from .writing import Writing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ..cache import Stream
    from ..cache.digests import DigestMemory
    from .compute import Job, Known
    from .feeds import Outcome

    Result = tuple[Sequence[Job], ItemRecord | MediaError]

LIBRARIES = ("concord", "torch", "torchvision", "torchaudio", "av", "decord", "numpy", "zarr")
EXTRAS = ("transformers", "tokenizers")
"""Named too where they are installed."""


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in LIBRARIES}
    for name in EXTRAS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def item_record(job: Job, valid: NDArray[Any], flags: NDArray[Any] | None) -> ItemRecord:
    """Say of an item what a receipt says.

    Args:
        job: The item's job.
        valid: (rows,) bool.
        flags: (rows,) uint8; None for zeros.
    """
    return ItemRecord(
        key=job.key,
        rows=job.rows,
        invalid=int((~valid).sum()),
        repeated=0 if flags is None else int((flags & REPEATED != 0).sum()),
    )


class Keeping:
    """Takes finished items into the store. Leaving the block publishes all that was taken."""

    def __init__(
        self,
        known: Known,
        streams: Mapping[str, Stream],
        root: Path,
        digests: DigestMemory,
        device: str,
    ) -> None:
        """Prepare.

        Args:
            known: What the streams are computed from.
            streams: The streams, opened in the store.
            root: The data set's root.
            digests: What is remembered of inputs.
            device: Where items are computed, for their provenance.
        """
        self._known = known
        self._root = root
        self._digests = digests
        provenance: dict[str, Any] = {
            "versions": _versions(),
            "python": platform.python_version(),
            "device": device,
        }
        writers = {name: stream.writer(provenance) for name, stream in streams.items()}
        self._writing = Writing(writers)

    def keep(self, job: Job, item: NewItem) -> ItemRecord:
        """Take a finished item."""
        self._writing.add(job.stream, replace(item, identity=job.identity.record()))
        return item_record(job, item.valid, item.flags)

    def kept(self, outcomes: Iterable[Outcome]) -> Iterator[Result]:
        """Take what was computed, unless an input changed while it was read."""
        for jobs, outcome in outcomes:
            if not isinstance(outcome, NewItem):
                yield jobs, outcome
            elif self._changed(jobs[0]):
                source = jobs[0].track.source
                yield jobs, MediaError(f"{source}: changed while it was read; run again")
            else:
                yield jobs, self.keep(jobs[0], outcome)

    def _changed(self, job: Job) -> bool:
        reads = self._known.reads[job.stream]
        try:
            found = input_digests(reads, job.track, job.rows, self._root, self._digests)
        except (MediaError, OSError):
            return True
        return found != job.identity.inputs

    def __enter__(self) -> Keeping:
        self._writing.__enter__()
        return self

    def __exit__(self, *left: Any) -> None:
        self._writing.__exit__(*left)
