"""Packets: a video stream's frames, numbered and timed without decoding them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av.error
import numpy as np

from ..cache import MediaError
from .container import is_cut_short, reason

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

JUMP_SECONDS = 1.0
"""A decoding clock that steps back further has started anew."""


@dataclass(frozen=True, slots=True)
class Packets:
    """The packets of a video stream; ranks count them in decoding order."""

    pts: NDArray[np.int64]
    """(packets,) presentation times in ticks."""
    base: NDArray[np.int64]
    """(packets,) rank of the key packet with which decoding has to begin; -1 without one."""
    numbers: NDArray[np.int64]
    """(packets,) number of the frame in presentation order; -1 for one that is not shown."""
    order: NDArray[np.int64]
    """(frames,) rank of each frame's packet."""
    by_time: NDArray[np.int64]
    """(packets,) ranks of all packets by presentation time, the ones not shown too."""
    places: NDArray[np.int64]
    """(packets,) where in `by_time` each packet stands."""
    tick: Fraction
    """Seconds per tick."""
    cut: str | None
    """Why the list ends before the file's own end; None for a complete one."""
    delay: int = 0
    """Ticks by which the times are later than the container's clock."""
    made_up: bool = False
    """Whether the container has no presentation times, so that they rest on the packets' inside."""

    @property
    def times(self) -> NDArray[np.float64]:
        """(frames,) seconds, in presentation order."""
        ticks = (self.pts[self.order] - self.delay).astype(np.float64)
        return np.divide(ticks * self.tick.numerator, self.tick.denominator, dtype=np.float64)


def demux(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Give a stream's packets; empty ones would end the decoder and are left out."""
    return (packet for packet in container.demux(stream) if packet.size)


def read_packets(path: Path, container: InputContainer, stream: VideoStream) -> Packets:
    """Read a stream's packets to the end.

    Raises:
        MediaError: There are none, or one has no time stamp.
    """
    rows: list[tuple[int, int | None, int, bool, bool]] = []
    cut: str | None = None
    try:
        for packet in demux(container, stream):
            if packet.pts is None:
                raise MediaError(f"{path.name}: packet {len(rows)} of the video has no time stamp")
            row = (packet.pts, packet.dts, packet.duration or 0)
            rows.append((*row, packet.is_keyframe, packet.is_discard))
    except av.error.FFmpegError as error:
        cut = reason(error)
    if not rows or stream.time_base is None:
        raise MediaError(f"{path.name}: its video stream holds no frames")
    cut = cut or ("the file is cut short" if is_cut_short(path, container, stream) else None)
    name = container.format.name
    packets = numbered(rows, stream.time_base, cut, name in {"mpegts", "flv"})
    if name != "avi":
        return packets
    # The times that are made up for an AVI count the decoder's delay; its sound does not.
    start, first, *_ = rows[0]
    return replace(packets, made_up=True, delay=0 if first is None else start - first)


def numbered(
    rows: list[tuple[int, int | None, int, bool, bool]],
    tick: Fraction,
    cut: str | None = None,
    may_be_cut: bool = False,
) -> Packets:
    """Number frames by their presentation times.

    Not shown are: what the container discards (an edit list), what precedes the first key frame
    and so cannot be decoded by anyone, and what follows a decoding clock that has started anew.

    Args:
        rows: Each packet's pts, dts, duration, key flag and discard flag, in decoding order.
        tick: Seconds per tick.
        cut: Why the packets end early, if they do.
        may_be_cut: Whether the format cannot tell a complete file from a cut one.
    """
    pts = np.array([row[0] for row in rows], np.int64)
    dts = np.array([row[0] if row[1] is None else row[1] for row in rows], np.int64)
    keys = np.array([row[3] for row in rows])
    if not keys.any():
        keys[0] = True
    base = _bases(pts, keys)
    shown = (base >= 0) & ~np.array([row[4] for row in rows])
    back = np.flatnonzero(np.diff(dts) * float(tick) < -JUMP_SECONDS)
    if len(back):
        shown[back[0] + 1 :] = False
        cut = f"its clock jumps back at {int(pts[back[0]]) * float(tick):.3f} s"
    elif rows[-1][1] is not None:
        # What is lost has later decoding times: earlier frames are complete, so their numbers hold.
        sure = pts <= dts[-1] + rows[-1][2]
        if cut or (may_be_cut and _has_hole(np.sort(pts), int(sure.sum()))):
            cut = cut or "the file is cut short"
            shown &= sure
    by_time = np.argsort(pts, kind="stable")
    places, numbers = np.empty_like(pts), np.full(len(pts), -1, np.int64)
    places[by_time] = np.arange(len(pts))
    order = by_time[shown[by_time]]
    numbers[order] = np.arange(len(order))
    return Packets(pts, base, numbers, order, by_time, places, tick, cut)


def _bases(pts: NDArray[np.int64], keys: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Find each packet's last key packet; of a frame shown before it, the one before that."""
    ranks = np.arange(len(pts))
    last = np.maximum.accumulate(np.where(keys, ranks, -1))
    before = np.concatenate([[-1], last[:-1]])
    while True:
        early = (last >= 0) & (pts < pts[last])
        if not early.any():
            return last
        last = np.where(early, before[last], last)


def _has_hole(pts: NDArray[Any], sure: int) -> bool:
    """Whether the frames after the sure ones are further apart than frames usually are."""
    steps = np.diff(pts)
    return bool(len(steps) > 2 and (steps[max(sure - 1, 0) :] > 1.5 * np.median(steps)).any())
