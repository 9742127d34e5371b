"""A stream: a named sequence of vectors under one recipe, as its shards held it when opened."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .digests import parsed_digest
from .errors import NotInStoreError, StoreError
from .gather import gather
from .item import Item
from .place import read_record
from .shard import Damage, Shard, open_shards

if TYPE_CHECKING:
    import dask.array
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from .entries import Entry
    from .joined import JoinedRows
    from .manifest import Manifest
    from .place import Place
    from .store import FeatureStore
    from .writer import StreamWriter


class Stream:
    """A named sequence of vectors under one recipe.

    `stream["video3"].rows[100:400]` gives rows of a track, `stream.gather(...)` batches of windows.
    What is published after the stream was opened is seen by opening it again.
    """

    def __init__(self, store: FeatureStore, name: str, recipe_digest: str, place: Place) -> None:
        self.store = store
        self.name = name
        self.digest = recipe_digest
        self.place = place

    @property
    def full_name(self) -> str:
        """`name@digest` with the whole digest, as manifests carry it."""
        return f"{self.name}@{self.digest}"

    @functools.cached_property
    def recipe(self) -> dict[str, Any]:
        """Everything that determines this stream's numbers.

        Raises:
            StoreError: The recipe's file is damaged.
        """
        recipe = read_record(self.place, "recipe.json").get("recipe")
        if parsed_digest(recipe, f"{self.place}/recipe.json") != self.digest:
            raise StoreError(
                f"{self.place}/recipe.json: damaged: the recipe does not have the digest "
                f"{self.digest[:16]}; run the extraction again to write it anew"
            )
        return recipe  # pyright: ignore[reportReturnType]

    @functools.cached_property
    def _opened(self) -> tuple[tuple[Shard, ...], tuple[Damage, ...]]:
        shards, damages = open_shards(self.place / "shards", mapped=self.store.mapped)
        kinds = {(shard.dim, shard.dtype.name): shard.path for shard in shards}
        if len(kinds) > 1:
            found = ", ".join(f"{path} {kind[1]} {kind[0]}" for kind, path in kinds.items())
            raise StoreError(f"{self.place}: shards of one stream differ in type or width: {found}")
        return shards, damages

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Published shards that are sound, those with most rows first."""
        return self._opened[0]

    @property
    def damages(self) -> tuple[Damage, ...]:
        """Shards that cannot be opened, and why."""
        return self._opened[1]

    @functools.cached_property
    def items(self) -> Mapping[str, Item]:
        """Item key to item; the larger shard is read where two hold the same item."""
        found: dict[str, Item] = {}
        for shard in self.shards:
            for key, entry in shard.entries.items():
                if key not in found:
                    found[key] = Item(shard, entry)
        return found

    @functools.cached_property
    def lost(self) -> Mapping[str, tuple[Damage, Entry]]:
        """Key of an item that only a damaged shard holds to that shard's damage."""
        return {
            entry.key: (damage, entry)
            for damage in self.damages
            for entry in damage.entries
            if entry.key not in self.items
        }

    @property
    def dim(self) -> int:
        """Width of a row."""
        return self._model.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a row's values."""
        return self._model.dtype

    @property
    def _model(self) -> Shard:
        if not self.shards:
            why = "".join(f"\n  {damage.problem}" for damage in self.damages)
            raise NotInStoreError(f"{self.place}: stream {self.full_name} holds no shard yet{why}")
        return self.shards[0]

    def item(self, key: str) -> Item:
        """Give an item by its key.

        Raises:
            StoreError: Its shard is damaged.
            NotInStoreError: It is not stored.
        """
        found = self.items.get(key)
        if found is not None:
            return found
        if key in self.lost:
            damage, entry = self.lost[key]
            raise damage.error(entry)
        why = "".join(f"\n  {damage.problem}" for damage in self.damages if not damage.entries)
        raise NotInStoreError(
            f"{self.store.place}: stream {self.name}: item {key[:12]} is not stored{why}"
        )

    def of(self, manifest: str) -> TracksOfStream:
        """Choose a data set's edition: `stream.of("demo@3fa9c1")["video3"]`."""
        return TracksOfStream(self, (self.store.manifest(manifest),))

    @functools.cached_property
    def tracks(self) -> TracksOfStream:
        """The stream's items by track, in all manifests of the store."""
        return TracksOfStream(self, self.store.manifests())

    def __getitem__(self, track: str) -> Item:
        return self.tracks[track]

    def gather(self, tracks: Sequence[str], rows: ArrayLike, out: Any = None) -> NDArray[Any]:
        """Copy windows of rows into one array; see `TracksOfStream.gather`."""
        return self.tracks.gather(tracks, rows, out)

    def to_dask(self, keys: Sequence[str] | None = None) -> dask.array.Array:
        """Give items end to end as one dask array, (rows, dim), one chunk per item.

        Args:
            keys: Item keys in their order; by default all, as `items` lists them.
        """
        from .lazily import stream_to_dask

        return stream_to_dask(self, list(self.items) if keys is None else list(keys))

    def writer(self, provenance: Mapping[str, Any] | None = None) -> StreamWriter:
        """Write items: `with stream.writer() as writer: writer.add(item)`.

        Args:
            provenance: Library versions, device and the like; the recipe is added.
        """
        from .writer import StreamWriter

        return StreamWriter(self.store, self, dict(provenance or {}))

    def joined(self, items: Sequence[Item | None], rows: Sequence[int]) -> JoinedRows:
        """Give items end to end as one array of which any rows can be copied at once.

        Args:
            items: In their order; None gives rows of zeros.
            rows: Rows of each.
        """
        from .joined import JoinedRows

        return JoinedRows(self, items, rows)


@dataclass(frozen=True)
class TracksOfStream:
    """A stream's items by track, as some manifests name them."""

    stream: Stream
    manifests: tuple[Manifest, ...]

    @functools.cached_property
    def _choices(self) -> Mapping[str, Mapping[str, str]]:
        """Track to item key to the manifest that names it."""
        name = self.stream.full_name
        found: dict[str, dict[str, str]] = {}
        for manifest in self.manifests:
            for row in manifest:
                if name in row.items:
                    found.setdefault(row.track, {})[row.items[name]] = manifest.name
        return found

    def __getitem__(self, track: str) -> Item:
        choices = self._choices.get(track, {})
        if len(choices) != 1:
            raise self._ambiguous(track, choices)
        try:
            return self.stream.item(next(iter(choices)))
        except NotInStoreError as error:
            raise NotInStoreError(
                f"{error}; rows 0 to {self._rows(track)} of track {track!r} are listed in "
                f"{next(iter(choices.values()))}: "
                "run the extraction again (snakemake --forcerun extract)"
            ) from None

    def _rows(self, track: str) -> int:
        return next(row.rows for each in self.manifests for row in each if row.track == track)

    def _ambiguous(self, track: str, choices: Mapping[str, str]) -> NotInStoreError:
        where = f"{self.stream.store.place}: stream {self.stream.name}, track {track!r}"
        if not choices:
            known = ", ".join(manifest.name for manifest in self.manifests)
            problem = f"not listed in {known}" if known else "no manifest of this store lists it"
            return NotInStoreError(f"{where}: {problem}")
        listed = ", ".join(sorted(choices.values()))
        return NotInStoreError(
            f"{where}: several data sets or editions hold a track of that name: {listed}; "
            'choose with stream.of("dataset@edition")'
        )

    def gather(self, tracks: Sequence[str], rows: ArrayLike, out: Any = None) -> NDArray[Any]:
        """Copy windows of rows into one array.

        Args:
            tracks: Track of each window, B names.
            rows: (B, T) numbers of rows in their tracks; -1 gives zeros (outside the track).
            out: (B, T, dim) NumPy array or tensor on the processor to write into, of any float
                type; a new array of the stream's type by default.

        Returns:
            (B, T, dim): `out`, or its memory as an array.

        Raises:
            NotInStoreError: A track is unknown or ambiguous.
            IndexError: A row lies outside its track.
            StoreError: Rows are damaged, or `out` does not fit.
        """
        return gather([self[track].rows for track in tracks], rows, out, self.stream)
