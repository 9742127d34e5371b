"""A remote store as its catalogue tells of it: what is not listed there is not seen."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .atomic import json_bytes
from .catalogue import FILE, PAGE, PAGES, Catalogue, page_name, parse_catalogue
from .entries import SEAL, parse_seal
from .errors import StoreError
from .place import LocalPlace, Place

if TYPE_CHECKING:
    from .url_place import UrlPlace

MANIFESTS = "manifests"


class Remote:
    """The catalogue of a remote as folders and files, and the seals that were read by it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.seals: dict[str, bytes] = {}
        self.manifests = {
            f"{name}.json": json_bytes(each.record()) for name, each in catalogue.manifests.items()
        }
        self.shards = {path_of(name): shard for name, shard in catalogue.shards.items()}

    @cached_property
    def tree(self) -> dict[str, Any]:
        """Name to the folder of that name, or to None for a file."""
        tree: dict[str, Any] = {}
        for path in self._paths():
            *folders, name = path.split("/")
            at = tree
            for folder in folders:
                at = at.setdefault(folder, {})
            at[name] = None
        return tree

    def _paths(self) -> Iterator[str]:
        yield from (f"{MANIFESTS}/{name}" for name in self.manifests)
        for path in self.shards:
            yield f"{path}/{SEAL}"
            yield f"{path.rpartition('/shards/')[0]}/recipe.json"


def path_of(shard: str) -> str:
    """Give the folder of a shard, in a store, that a catalogue lists."""
    stream, _, name = shard.rpartition("/")
    return f"streams/{stream}/shards/{name}"


@dataclass(frozen=True, slots=True)
class CataloguedPlace:
    """A folder of a remote that has a catalogue."""

    base: UrlPlace
    remote: Remote
    inside: tuple[str, ...] = ()
    """Names of the folders from the root to this one."""

    def __str__(self) -> str:
        return str(self.base)

    def __truediv__(self, name: str) -> CataloguedPlace:
        return CataloguedPlace(self.base / name, self.remote, (*self.inside, *name.split("/")))

    def folders(self) -> list[str]:
        """Names of the folders inside, sorted."""
        return sorted(name for name, inner in self._names().items() if inner is not None)

    def files(self) -> list[str]:
        """Names of the plain files inside, sorted."""
        return sorted(name for name, inner in self._names().items() if inner is None)

    def _names(self) -> dict[str, Any]:
        names = self.remote.tree
        for name in self.inside:
            names = names.get(name) or {}
        if not self._shard:
            return names
        names = dict(names)
        for name in self._sealed_sizes():
            first, _, rest = name.partition("/")
            names[first] = {} if rest else None
        return names

    @property
    def _shard(self) -> str:
        """This folder, if it is a shard's; otherwise nothing."""
        path = "/".join(self.inside)
        return path if path in self.remote.shards else ""

    def sizes(self, names: Collection[str], *, quick: bool = False) -> dict[str, int | None]:
        """Bytes of each named file; of a shard's files as its seal says, which asks for nothing."""
        if not self._shard:
            return self.base.sizes(names, quick=quick)
        sealed = self._sealed_sizes()
        return {name: sealed.get(name) for name in names}

    def _sealed_sizes(self) -> dict[str, int]:
        content = self.read(SEAL)
        seal = parse_seal(content, f"{self}/{SEAL}")
        return {SEAL: len(content), **{name: size for name, (size, _) in seal.files.items()}}

    def read(self, name: str) -> bytes:
        """Give a whole small file; a seal must be the one that the catalogue names."""
        if self.inside == (MANIFESTS,) and name in self.remote.manifests:
            return self.remote.manifests[name]
        if name != SEAL or not self._shard:
            return self.base.read(name)
        path = self._shard
        if path not in self.remote.seals:
            content = self.base.read(name)
            if hashlib.sha256(content).hexdigest() != self.remote.shards[path].seal:
                raise StoreError(f"{self}/{SEAL}: damaged: not the seal that the catalogue names")
            self.remote.seals[path] = content
        return self.remote.seals[path]

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Give a file's bytes from `start` to before `stop`."""
        return self.base.read_range(name, start, stop)

    def open(self, name: str) -> Any:
        """Open a file, read by ranges."""
        return self.base.open(name)


def catalogued(place: LocalPlace | UrlPlace) -> Place:
    """Give a store's root as its catalogue tells of it, where it is at a URL and has one.

    Raises:
        StoreError: It has none and cannot be listed, or the catalogue is damaged.
    """
    if isinstance(place, LocalPlace):
        return place
    found = read_catalogue(place)
    if found is not None:
        return CataloguedPlace(place, Remote(found))
    if place.web:
        raise StoreError(
            f"{place}: no store here that can be read by {place.url.partition(':')[0]}: it has no "
            f"{FILE}, which `concord cache push` to its folder or bucket makes"
        )
    return place


def read_catalogue(place: UrlPlace) -> Catalogue | None:
    """Give a remote's catalogue, with the pages that it lacks where they can be listed.

    Returns:
        The catalogue; None where there is neither it nor a page.
    """
    try:
        found = parse_catalogue(place.read(FILE), f"{place}/{FILE}")
    except FileNotFoundError:
        found = None
    except StoreError:
        if place.web:
            raise
        found = None  # All of it is in the pages.
    if place.web:
        return found
    missing = unlisted_pages(place, found or Catalogue())
    return with_pages(place, found or Catalogue(), missing) if found or missing else None


def unlisted_pages(place: LocalPlace | UrlPlace, catalogue: Catalogue) -> list[str]:
    """Name the pages of a remote that are not part of its catalogue."""
    names = [known[1] for name in (place / PAGES).files() if (known := PAGE.fullmatch(name))]
    return [name for name in names if name not in catalogue.pages]


def with_pages(
    place: LocalPlace | UrlPlace, catalogue: Catalogue, names: Collection[str]
) -> Catalogue:
    """Read pages into a catalogue.

    Raises:
        StoreError: A page is not what its name says.
    """
    for name in sorted(names):
        where = f"{place}/{PAGES}/{name}.json"
        content = (place / PAGES).read(f"{name}.json")
        if page_name(content) != name:
            raise StoreError(f"{where}: damaged: its name is not the digest of what it holds")
        catalogue = catalogue.with_page(name, parse_catalogue(content, where))
    return catalogue
