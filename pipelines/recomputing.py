"""Computing items of a store once more, from the media that a configuration names."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from ..cache import (
    ConcordError,
    ConfigError,
    DataError,
    FeatureStore,
    MediaError,
    canonical,
    digest,
)
from ..cache.copying import new_item_of
from ..cache.identity import differences
from ..extract.settings import LABELS
from .commands_remote import short

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..cache import Stream
    from ..cache.recomputed import Recompute, Recomputed, Sampled
    from ..extract.dataset import Dataset
    from ..extract.receipt import Receipt
    from .config import Config


class Recomputing:
    """Computes sampled items, all of one stream at once, into a store that goes in the end."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        folder: Path,
        device: str,
        sampled: Sequence[Sampled],
    ) -> None:
        self._config = config
        self._dataset = dataset
        self._folder = folder
        self._device = device
        self._tracks: dict[str, set[str]] = {}
        for each in sampled:
            self._tracks.setdefault(each.stream.full_name, set()).add(each.track)
        self._done: dict[str, tuple[Receipt, FeatureStore] | ConcordError] = {}

    def __call__(self, each: Sampled) -> Mapping[str, Any]:
        """Compute an item.

        Returns:
            x, valid, flags and times, as they would be stored.

        Raises:
            ConcordError: It cannot be computed here; says why.
        """
        name = each.stream.full_name
        if name not in self._done:
            try:
                self._done[name] = self._compute(each.stream)
            except ConcordError as error:
                self._done[name] = error
        done = self._done[name]
        if isinstance(done, ConcordError):
            raise done
        receipt, store = done
        return self._found(each, receipt, store)

    def _compute(self, stream: Stream) -> tuple[Receipt, FeatureStore]:
        """Compute what was sampled of a stream."""
        from ..extract.engine import extract

        known = {LABELS: None, **self._config.streams}
        if stream.name not in known:
            listed = ", ".join(known)
            raise ConfigError(f"the configuration has no stream {stream.name}; it has: {listed}")
        settings = {stream.name: known[stream.name]}
        _check_recipe(stream, settings)
        wanted = self._tracks[stream.full_name]
        tracks = tuple(track for track in self._dataset.tracks if track.name in wanted)
        dataset = dataclasses.replace(self._dataset, tracks=tracks)
        store = FeatureStore.create(self._folder / digest(stream.full_name)[:16])
        return extract(dataset, settings, store, device=self._device), store

    def _found(self, each: Sampled, receipt: Receipt, store: FeatureStore) -> Mapping[str, Any]:
        if all(track.name != each.track for track in self._dataset.tracks):
            raise DataError(f"{self._dataset.root}: has no track {each.track!r:.80}")
        for entry in receipt.quarantine:
            if each.track in entry.tracks:
                raise MediaError(entry.message)
        record = receipt.items[each.stream.name].get(each.track)
        if record is None:
            raise DataError(f"{self._dataset.root}: nothing of {each.track!r:.80} to compute from")
        item = store[each.stream.name].item(record.key)
        if record.key != each.key:
            stored = each.stream.item(each.key).identity
            parts = [each.part for each in differences(stored, item.identity)]
            raise DataError(
                f"{each.track!r:.80}: other inputs here than it was computed from: "
                f"{', '.join(parts) or 'they are not recorded'}"
            )
        return new_item_of(item).arrays()


def _check_recipe(stream: Stream, settings: dict[str, Any]) -> None:
    """Check that a configured stream has the recipe of a stored one.

    Raises:
        ConfigError: It has another, or its weights are not to be had; says what differs.
    """
    from ..extract.compute import Workers

    recipe = json.loads(canonical(Workers(settings, "cpu").recipe(stream.name)))
    if digest(recipe) != stream.digest:
        parts = [
            f"{each.part} is {each.right!r:.80}, stored with {each.left!r:.80}"
            for each in differences(stream.recipe, recipe)
        ]
        raise ConfigError(f"another recipe here: {'; '.join(parts)}")


@contextmanager
def recomputing(settings: str, device: str, sampled: Sequence[Sampled]) -> Generator[Recompute]:
    """Give what computes sampled items, from the data set and streams of a configuration.

    Raises:
        ConfigError: The configuration is none, or the device is not there.
        DataError: The data set's folder is not laid out as its adapter expects.
    """
    from .config import load_config
    from .datasets import dataset_of
    from .device import prepared_device

    config = load_config(settings)
    dataset = dataset_of(config)
    with TemporaryDirectory(prefix="concord-") as folder, prepared_device(device, 0) as held:
        yield Recomputing(config, dataset, Path(folder), held, sampled)


def verify_sample(
    store: str,
    count: int,
    settings: str | None,
    *,
    streams: tuple[str, ...],
    manifest: str | None,
    seed: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Compute some items of a store once more, and say how many are equal.

    Raises:
        ConfigError: No configuration says where the media are.
        DamageFoundError: Some differ from what their recipe gives, or are damaged.
        DataError: Not one could be computed.
    """
    from ..cache.errors import DamageFoundError
    from ..cache.recomputed import compare, sample
    from .progress import progress

    if settings is None:
        raise ConfigError("--sample needs --config FILE, which names the media and the streams")
    sampled = sample(FeatureStore(store), count, streams, manifest, seed)
    found: list[Recomputed] = []
    with recomputing(settings, device, sampled) as recompute, progress(f"verify {store}") as told:
        for done, each in enumerate(sampled):
            told(done, len(sampled), f"{each.stream.name} {each.track}")
            found.append(compare(each, recompute))
        told(len(sampled), len(sampled), "done")
    counts = Counter(each.outcome for each in found)
    _print(store, found, counts, as_json=as_json)
    wrong = counts["differs"] + counts["damaged"]
    if wrong:
        raise DamageFoundError(f"{store}: {wrong} of {len(found)} items are not what was computed")
    if not counts["equal"]:
        raise DataError(f"{store}: none of {len(found)} items could be computed here")


def _print(store: str, found: Sequence[Recomputed], counts: Counter[str], *, as_json: bool) -> None:
    from .tables import print_json, print_table

    if as_json:
        kinds = {kind: counts[kind] for kind in ("equal", "differs", "damaged", "not recomputed")}
        print_json({**kinds, "items": [each.record() for each in found]})
        return
    rows = [
        {
            "stream": short(each.stream),
            "track": each.track,
            "outcome": each.outcome,
            "apart": None if each.distance is None else f"{each.distance:.2g}",
            "allowed": None if each.tolerance is None else f"{each.tolerance:.2g}",
            "why": each.why,
        }
        for each in found
    ]
    print_table(store, ("stream", "track", "outcome", "apart", "allowed", "why"), rows)
    click.echo(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
