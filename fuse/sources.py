"""Where the rows of a stream lie: in memory, or on disk behind a memory map."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache.joined import JoinedRows

GIB = 1 << 30


class Source(Protocol):
    """Rows (N, dim) of a stream over tracks that lie end to end."""

    @property
    def dim(self) -> int:
        """Width of a row."""
        ...

    def take(self, numbers: NDArray[np.int64]) -> Tensor:
        """Give rows (…, T, dim) of the stored type for windows of row numbers (…, T).

        What stands in rows `OUTSIDE`, or without a value, is finite and means nothing.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Resident:
    """Rows in memory, on the device."""

    x: Tensor
    """(N, dim); zeros where there is no value."""

    @property
    def dim(self) -> int:
        """Width of a row."""
        return self.x.shape[1]

    def take(self, numbers: NDArray[np.int64]) -> Tensor:
        """Give rows (…, T, dim); the last row stands for what lies outside."""
        return taken(self.x, numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """Rows that stay in the store; pages come and go as the system likes."""

    rows: JoinedRows
    device: str

    @property
    def dim(self) -> int:
        """Width of a row."""
        return self.rows.dim

    def take(self, numbers: NDArray[np.int64]) -> Tensor:
        """Give rows (…, T, dim), zeros outside."""
        return torch.from_numpy(self.rows.take(numbers)).to(self.device)


def taken(x: Tensor, numbers: NDArray[np.int64]) -> Tensor:
    """Give rows (…, dim) of x (N, dim) or (N,) by number, from the end where it is negative.

    On a processor NumPy copies whole rows, several times as fast as torch does.
    """
    if x.device.type == "cpu":
        return torch.from_numpy(x.numpy().take(numbers, axis=0))
    return x[torch.from_numpy(numbers).to(x.device)]


def free_memory(device: str) -> int:
    """Give the bytes that are free: of the device, or what the system can give without swapping."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024


def fits(bytes_: int, budget: float, device: str) -> tuple[bool, str]:
    """Say whether rows may be held in memory.

    Args:
        bytes_: Of the rows.
        budget: GiB that they may take; 0 for half of what is free.
        device: Where they would lie.

    Returns:
        The answer, and a sentence for the log.
    """
    most = budget * GIB if budget else free_memory(device) / 2
    where = "in memory" if device == "cpu" else f"in the memory of {device}"
    size, limit = f"{bytes_ / GIB:.2f} GiB", f"{most / GIB:.2f} GiB"
    if bytes_ <= most:
        return True, f"{size} of rows {where} (of {limit} that they may take)"
    return False, f"{size} of rows mapped from the store: more than the {limit} that they may take"


@contextmanager
def reading(rows: Mapping[str, JoinedRows], device: str) -> Generator[dict[str, Source]]:
    """Read all rows of some streams into memory, converting nothing, while the caller goes on.

    Two threads: one waits for the system to copy while the other computes checksums.

    Args:
        rows: Stream to its rows.
        device: Where they end up.

    Yields:
        Stream to resident rows, which are there when the context ends.
    """
    held = {name: np.empty((len(each), each.dim), each.dtype) for name, each in rows.items()}
    sources: dict[str, Source] = {}
    with ThreadPoolExecutor(2) as pool:
        started: list[Future[None]] = []
        for name, each in rows.items():
            for item, at in zip(each.items, each.spans, strict=True):
                if item is None:
                    held[name][at] = 0
                else:
                    started.append(pool.submit(item.rows.read_into, 0, held[name][at]))
        yield sources
        for each in started:
            each.result()
    sources |= {name: Resident(torch.from_numpy(x).to(device)) for name, x in held.items()}
