"""Gathering: windows of rows of many items, copied once into one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .item import ItemRows
    from .stream import Stream

OUTSIDE = -1
"""Number of a row that lies outside its track."""


def gather(items: Sequence[ItemRows], rows: ArrayLike, out: Any, stream: Stream) -> NDArray[Any]:
    """Copy windows of rows into one array; see `TracksOfStream.gather`."""
    numbers = np.asarray(rows)
    if numbers.ndim != 2 or len(numbers) != len(items) or numbers.dtype.kind not in "iu":
        raise StoreError(
            f"{stream.full_name[:60]}: expected rows as (B, T) whole numbers for {len(items)} "
            f"tracks, found {numbers.dtype} {numbers.shape}"
        )
    numbers = numbers.astype(np.int64, copy=False)
    shape = (*numbers.shape, stream.dim)
    windows = np.empty(shape, stream.dtype) if out is None else _writable(out, shape, stream)
    if not numbers.size:
        return windows
    stretches = (numbers[:, 0] >= 0) & (np.diff(numbers, axis=1) == 1).all(1)
    firsts: list[int] = numbers[:, 0].tolist()
    chosen = zip(windows, items, numbers, firsts, stretches.tolist(), strict=True)
    for window, item, wanted, first, stretch in chosen:
        if stretch:
            item.read_into(first, window)
        else:
            _scatter(item, wanted, window)
    return windows


def _scatter(item: ItemRows, wanted: NDArray[np.int64], window: NDArray[Any]) -> None:
    """Copy rows that do not follow each other, or lie outside the track."""
    inside = wanted != OUTSIDE
    if (wanted[inside] < 0).any() or (wanted[inside] >= len(item)).any():
        message = (
            f"rows {wanted.min()} to {wanted.max()} of track {item.entry.track!r}, "
            f"which has {len(item)}; {OUTSIDE} stands for a row outside"
        )
        raise IndexError(message)
    if inside.all():
        item.take(wanted, window)
        return
    window[~inside] = 0
    if inside.any():
        found = np.empty((int(inside.sum()), window.shape[1]), item.dtype)
        item.take(wanted[inside], found)
        window[inside] = found


def _writable(out: Any, shape: tuple[int, ...], stream: Stream) -> NDArray[Any]:
    """Give the memory of an array or tensor, checked."""
    try:
        array = out if isinstance(out, np.ndarray) else np.asarray(out)
    except (TypeError, RuntimeError) as error:
        raise StoreError(f"gather: out must lie in the processor's memory: {error}") from error
    own = (
        isinstance(out, np.ndarray)
        or hasattr(out, "__array_interface__")
        or hasattr(out, "data_ptr")
    )
    if not own or array.shape != shape or not array.flags.writeable or array.dtype.kind != "f":
        raise StoreError(
            f"gather: expected a writable float array or tensor of shape {shape} for stream "
            f"{stream.name}, found {type(out).__name__} {array.dtype} {array.shape}"
        )
    return array
