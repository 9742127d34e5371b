"""The state of training on disk while it lasts, so that a killed run is continued."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..cache.atomic import TEMPORARY, atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from .state import State

SUFFIX = ".safetensors"
LEFT = 3600.0
"""Seconds after which an unfinished write is nobody's."""
SECONDS = 30.0
"""Between two checkpoints: the most work that a kill can cost."""


class Checkpoint:
    """One file, written as a whole or not at all."""

    def __init__(self, path: Path, members: Sequence[str], seconds: float = SECONDS) -> None:
        """Name a checkpoint; nothing is written yet.

        Args:
            path: The file.
            members: Digests of the runs that are trained at once, in their order.
            seconds: Between two writes.
        """
        self.path, self.members, self.seconds = path, tuple(members), seconds
        self._written = time.monotonic()

    @classmethod
    def holding(
        cls, folder: Path, missing: Collection[str], group: Collection[str], seconds: float
    ) -> Checkpoint | None:
        """Find a checkpoint of runs that were trained at once.

        Args:
            folder: Where to look.
            missing: Digests of runs that it must hold.
            group: Digests of runs that it may hold.
            seconds: Between two writes.
        """
        for path in sorted(folder.glob(f"[!.]*{SUFFIX}")):
            members = _members(path)
            if members and set(missing) <= set(members) <= set(group):
                return cls(path, members, seconds)
        return None

    @staticmethod
    def tidy(folder: Path) -> None:
        """Delete what killed writes left behind an hour ago or earlier."""
        for path in folder.glob(f"{TEMPORARY}*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > LEFT:
                    path.unlink()

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._written >= self.seconds

    def write(self, state: State) -> None:
        """Keep the state.

        Raises:
            StoreError: The disk is full; the one before is as it was.
        """
        told = {"state": json.dumps(state.record()), "members": json.dumps(self.members)}
        atomic_write(self.path, save(state.tensors(), told))
        self._written = time.monotonic()

    def read(self, state: State) -> None:
        """Go back to the kept state, if there is one."""
        if self.path.exists():
            record, tensors = self._content()
            state.restore(record, tensors)

    def _content(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        with safe_open(self.path, "pt") as file:
            record = json.loads(file.metadata()["state"])
            return record, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def remove(self) -> None:
        """Training is over."""
        self.path.unlink(missing_ok=True)


def _members(path: Path) -> list[str]:
    """Read the members of a checkpoint; none where it went away meanwhile, or is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["members"])
    except (OSError, SafetensorError, KeyError, TypeError):
        return []
