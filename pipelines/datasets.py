"""Data sets as a configuration or a command names them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extract.affwild2 import scan
from ..extract.table import FILE, scan_table
from .demo import demo_dataset
from .standin import is_complete, standin_dataset

if TYPE_CHECKING:
    from ..extract.dataset import Dataset
    from .config import Config


def dataset_of(config: Config) -> Dataset:
    """List the data set's tracks, from file names alone.

    What the workflow makes has the tracks of its plan until it is there.

    Raises:
        DataError: The folder is not laid out as its adapter expects.
    """
    data, name = config.data, config.data_name
    if data.adapter == "demo":
        return dataclasses.replace(demo_dataset(data.path, data.profile, data.seed), name=name)
    if data.adapter == "table":
        found = scan_table(Path(data.path), name)
        return dataclasses.replace(found, release=data.edition) if data.edition else found
    if data.is_made and not is_complete(Path(data.path)):
        return standin_dataset(data.path, name)
    return scan(Path(data.path), name, edition=data.edition, faces=data.faces)


def data_settings(path: Path) -> dict[str, Any]:
    """Give the settings of a data set that is named by its place alone.

    A table of tracks, or a folder with one, is read as such; any other folder as Aff-Wild2's.
    """
    table = path.suffix.lower() == ".csv" or (path / FILE).is_file()
    plain = path.resolve()
    name = plain.stem if plain.suffix.lower() == ".csv" else plain.name
    name = re.sub("[^A-Za-z0-9._-]", "-", name).lstrip("._-") or "data"
    return {"adapter": "table" if table else "affwild2", "path": str(path), "name": name[:64]}
