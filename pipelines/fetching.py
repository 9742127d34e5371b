"""Fetching: brings what the stores of a project's list hold into its own, says what is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import ConfigError, DataError, FeatureStore, ShardFormat, StoreError, digest
from ..cache.errors import RemoteError
from ..cache.pulled import CachingTarget, make_room, use
from ..cache.remote_names import located
from ..cache.selection import Selection
from ..cache.transfer import plan_pull
from ..cache.transfer_log import logged, planned
from ..extract.received import receipt_of
from ..extract.settings import LABELS
from .editions import check_edition, own_edition
from .fallback import LOCAL, Keys, chosen_edition, offered, settle
from .plan import Plan, streams_of
from .progress import note
from .sizes import bytes_of

if TYPE_CHECKING:
    from ..cache import Manifest
    from ..extract.receipt import Receipt
    from .config import Config
    from .fallback import Settled
    from .progress import Progress

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a fetch brought, and what it leaves to be computed."""

    receipt: Receipt | None
    """Of all rows that are listed and here; None where there are none."""
    edition: str
    """`dataset@edition`; empty where no store has the data set."""
    streams: Mapping[str, Mapping[str, int]]
    """Stream to store to the number of tracks whose rows it gave."""
    compute: tuple[str, ...]
    """Groups whose jobs must run."""
    unreachable: Mapping[str, str]
    """Store that did not answer to the reason."""
    shards: tuple[str, ...]
    """Shards, as paths in the store, that hold the rows."""
    removed: int
    """Bytes of other pulled shards that were removed to make room."""

    def record(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        names = [each.name for each in dataclasses.fields(self) if each.name != "receipt"]
        plain = {name: getattr(self, name) for name in names}
        return {"version": VERSION, "fetched": self.receipt is not None, **plain}


def recipes_of(config: Config) -> dict[str, Any]:
    """Give the recipe of each configured stream, as plain values.

    Raises:
        ConfigError: The weights of a stream are not here, so which rows are meant is not known.
    """
    from ..extract.compute import Workers

    found: dict[str, Any] = {}
    for name, settings in streams_of(config, ()).items():
        try:
            found |= Workers({name: settings}, "cpu").known([name]).recipes
        except (OSError, ConfigError) as error:
            raise ConfigError(
                f"streams.{name}: {error}; rows are asked for by what they are made with, so a "
                "stream's weights must be here, even where nothing is computed"
            ) from error
    return found


def fetch(config: Config, told: Progress | None = None) -> Fetched:
    """Bring the rows of a configuration's streams into its store, from the first that lists them.

    Raises:
        RemoteError: Rows are missing, a store does not answer, and the configuration says `stop`.
        DataError: The labels here are not those of the manifest; or something must be computed,
            and what from is not here.
        ConfigError: A store has several editions of the data set, or weights are not here.
        NotInStoreError: The list names a remote that is not known.
        StoreError: The disk is full, or a store is damaged.
    """
    return _Fetching(config, told).go()


@dataclass
class _Fetching:
    """A fetch in progress."""

    config: Config
    told: Progress | None
    unreachable: dict[str, str] = field(default_factory=dict)
    removed: int = 0

    @cached_property
    def store(self) -> FeatureStore:
        return FeatureStore.create(self.config.store_path, ShardFormat(self.config.shards))

    @cached_property
    def recipes(self) -> dict[str, Any]:
        return recipes_of(self.config)

    @cached_property
    def streams(self) -> dict[str, str]:
        """Stream name to full name."""
        return {name: f"{name}@{digest(recipe)}" for name, recipe in self.recipes.items()}

    def go(self) -> Fetched:
        listings = self._listings()
        own = own_edition(self.config) if self.config.labels else None
        manifest = chosen_edition(
            self.config.data_name, self.config.data.edition, listings, own.edition if own else ""
        )
        if own and manifest:
            check_edition(own, manifest, f"labels: {self.config.labels}")
        held, came = self._pulled(manifest, listings)
        settled = settle(
            manifest, held, self.config.failure_budget, own_labels=bool(self.config.labels)
        )
        self._judge(settled, manifest, held)
        return self._result(settled, manifest, held, came)

    def _listings(self) -> dict[str, tuple[Manifest, ...]]:
        """Read every store's manifests; take note of those that do not answer."""
        found: dict[str, tuple[Manifest, ...]] = {}
        for name in self.config.stores:
            where = self.config.store_path if name == LOCAL else located(Path(), name)
            store = self.store
            try:
                store = self.store if name == LOCAL else FeatureStore(where)
                found[name] = store.manifests()
            except (RemoteError, StoreError) as error:
                if name == LOCAL:
                    raise
                self.unreachable[name] = str(error)
        return found

    def _pulled(
        self, manifest: Manifest | None, listings: Mapping[str, Sequence[Manifest]]
    ) -> tuple[dict[str, Keys], dict[str, dict[str, int]]]:
        """Pull what each store is the first to list.

        Returns:
            Stream to the tracks whose rows are here, and to the number that each store gave.
        """
        wanted = {n: s for n, s in self.streams.items() if not (self.config.labels and n == LABELS)}
        held: dict[str, Keys] = {name: {} for name in self.streams}
        came: dict[str, dict[str, int]] = {name: {} for name in self.streams}
        if manifest is None:
            return held, came
        offers = {
            store: {name: offered(each, manifest.name, full) for name, full in wanted.items()}
            for store, each in listings.items()
        }
        needed = {
            full: {key for offer in offers.values() for key in offer[name].values()}
            for name, full in wanted.items()
        }
        for store, offer in offers.items():
            for name, full in wanted.items():
                lacking = {t: k for t, k in offer[name].items() if t not in held[name]}
                if store != LOCAL and lacking.keys() - self._here(full, lacking).keys():
                    tracks = lacking if held[name] else ()
                    self._pull(store, manifest, full, tuple(tracks), needed)
                new = self._here(full, lacking)
                held[name] |= new
                came[name] |= {store: len(new)} if new else {}
        self._make_room(needed)
        return held, came

    def _here(self, full: str, keys: Keys) -> Keys:
        """Give those of some items that the project's own store holds."""
        found = [stream for stream in self.store.streams() if stream.full_name == full]
        items = found[0].items if found else {}
        return {track: key for track, key in keys.items() if key in items}

    def _pull(
        self,
        store: str,
        manifest: Manifest,
        full: str,
        tracks: tuple[str, ...],
        needed: Mapping[str, set[str]],
    ) -> None:
        selection = Selection(dataset=manifest.name, streams=(full,), tracks=tracks)
        where = located(Path(), store)
        try:
            plan = plan_pull(self.store.path, where, selection, kind=CachingTarget)
            self._make_room(needed, plan.bytes)
            with logged(self.store.path, "pull", store, planned(plan)) as log:
                moved = plan.carry_out(self.told)
                log.moved(moved)
        except RemoteError as error:
            self.unreachable[store] = str(error)
            return
        for lost in moved.damaged:
            note(f"{store}: {full.partition('@')[0]}, track {lost.track}: {lost.problem}")

    def _make_room(self, needed: Mapping[str, set[str]], coming: int = 0) -> None:
        if not self.config.cache_limit:
            return
        limit = bytes_of(self.config.cache_limit, "cache_limit")
        self.removed += sum(shard.bytes for shard in make_room(self.store, limit, needed, coming))

    # --- what is left

    def _judge(self, settled: Settled, manifest: Manifest | None, held: Mapping[str, Keys]) -> None:
        """Refuse what cannot be computed, and say why the rest must be."""
        asked = [n for n in settled.compute if not (self.config.labels and n == LABELS)]
        why = {name: self._why(name, manifest, held[name]) for name in asked}
        listed = "".join(f"\n  {name}: {reason}" for name, reason in why.items())
        silent = "".join(f"\n  {store}: {told}" for store, told in self.unreachable.items())
        if asked and silent and self.config.unreachable == "stop":
            raise RemoteError(
                f"stores that do not answer:{silent}\nrows that are not here:{listed}\nrun again "
                "later, or let them be computed here: `unreachable: compute`"
            )
        if silent:
            note(f"stores that do not answer:{silent}")
        if asked:
            note(f"to be computed here:{listed}")
        plan = Plan(self.config)
        for name in settled.compute:
            try:
                dataset = plan.over(name).dataset
            except DataError as error:
                reason = why.get(name, "labels are your own")
                raise DataError(
                    f"{name}: has to be computed here ({reason}), and what from is not: {error}"
                ) from error
            if manifest and name in asked and any(held.values()) and Path(dataset.root).exists():
                check_edition(own_edition(self.config), manifest, f"data: {dataset.root}")

    def _why(self, stream: str, manifest: Manifest | None, held: Keys) -> str:
        """Say why a stream must be computed."""
        if manifest is None:
            return f"no store that answers has the data set {self.config.data_name}"
        if held:
            return f"only {len(held)} of {len(manifest.tracks)} tracks in {manifest.name} have rows"
        names = {full for row in manifest for full in row.items}
        others = sorted(full for full in names if full.partition("@")[0] == stream)
        if self.streams[stream] in others:
            return f"{manifest.name} lists it, and the rows did not arrive"
        if not others:
            return f"{manifest.name} does not list it"
        listed = ", ".join(f"{stream}@{full.partition('@')[2][:8]}" for full in others)
        asked = self.streams[stream].partition("@")[2][:8]
        return (
            f"{manifest.name} lists it under other recipes: {listed}, asked for is {asked}"
            f"{self._differs(stream, others[0])}"
        )

    def _differs(self, stream: str, other: str) -> str:
        """Say in what another recipe differs, where the store that has it can be read."""
        from ..cache.identity import differences

        for name in self.config.stores:
            try:
                where = self.config.store_path if name == LOCAL else located(Path(), name)
                recipe = FeatureStore(where)[other].recipe
            except (RemoteError, StoreError, LookupError):
                continue
            parts = [each.part for each in differences(self.recipes[stream], recipe)]
            return f"; they differ in {', '.join(parts[:6])}"
        return ""

    def _result(
        self,
        settled: Settled,
        manifest: Manifest | None,
        held: Mapping[str, Keys],
        came: Mapping[str, Mapping[str, int]],
    ) -> Fetched:
        groups = Plan(self.config).groups
        compute = tuple(g for g, names in groups.items() if set(names) & set(settled.compute))
        jobs = {name for group in compute for name in groups[group]}
        keys = {name: each for name, each in held.items() if each}
        streams = {name: self.store[self.streams[name]] for name in keys}
        unlisted = {name: rows for name, rows in settled.unlisted.items() if name not in jobs}
        receipt = None
        if manifest and keys:
            receipt = receipt_of(manifest, streams, keys, unlisted)
        shards = {streams[n].item(key).shard.path for n in keys for key in keys[n].values()}
        use(self.store.path, [Path(path).name for path in shards])
        root = self.store.path
        return Fetched(
            receipt=receipt,
            edition=manifest.name if manifest else "",
            streams=came,
            compute=compute,
            unreachable=self.unreachable,
            shards=tuple(sorted(str(Path(path).relative_to(root)) for path in shards)),
            removed=self.removed,
        )
