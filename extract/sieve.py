"""A sieve: of the frames that a decoder gives, only those that nothing damaged has touched."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import av.error
import numpy as np

from .container import reason

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from .packets import Packets


class Sieve:
    """Holds each frame until all that it may be predicted from is known to be intact.

    A decoder hides damage: it copies what it lacks from other frames and goes on, and it shows
    frames out of decoding order, so that the damaged one may come last. A frame is trusted if no
    packet from its key packet on to its own has failed, was flagged, or came out without a picture.
    Held frames are few: as many as the codec reorders.
    """

    def __init__(self, packets: Packets, start: int = 0) -> None:
        """Start before the packet of a rank.

        Args:
            packets: The stream's packets.
            start: Rank of the first packet that the decoder gets.
        """
        self.packets = packets
        self._start = start
        self._known = packets.numbers < 0
        self._known[:start] = True
        self._upto = start
        shown = packets.pts[packets.order]
        self._last = int(np.searchsorted(shown, packets.pts[start])) - 1
        ranks = np.arange(len(packets.base))
        self._groups = np.maximum.accumulate(np.where(packets.base == ranks, ranks, -1))
        self._failed: list[int] = []
        self._held: deque[tuple[int, VideoFrame]] = deque()
        self.reason: str | None = None
        """What was first complained of."""

    def fail(self, rank: int, why: str) -> None:
        """Note that a packet is damaged."""
        self._known[rank] = True
        at = bisect_right(self._failed, rank)
        if not at or self._failed[at - 1] != rank:
            insort(self._failed, rank)
        self.reason = self.reason or why

    def take(self, rank: int, frame: VideoFrame) -> None:
        """Hold a frame that came out of the decoder."""
        number = int(self.packets.numbers[rank])
        if frame.is_corrupt:
            self.fail(rank, "a frame is damaged")
        if number < 0:
            return
        if number <= self._last:
            self.fail(rank, "frames come out of order")
            return
        self._miss(number)
        self._last = number
        self._known[rank] = True
        self._held.append((rank, frame))

    def _miss(self, number: int) -> None:
        """Fail the frames before a number that have not come out."""
        for rank in self.packets.order[self._last + 1 : number]:
            if not self._known[rank]:
                self.fail(int(rank), "a packet gives no frame")

    def ready(self) -> Iterator[tuple[int, VideoFrame | None]]:
        """Give the frames that are decided: their numbers, and None for what is not trusted."""
        while self._upto < len(self._known) and self._known[self._upto]:
            self._upto += 1
        while self._held and self._held[0][0] < self._upto:
            rank, frame = self._held.popleft()
            yield int(self.packets.numbers[rank]), frame if self._trusts(rank) else None

    def end(self) -> None:
        """Decide all that is left: what has not come out never will."""
        self._miss(len(self.packets.order))
        self._known[:] = True

    def _trusts(self, rank: int) -> bool:
        base = int(self.packets.base[rank])
        return base >= self._start and not self._is_touched(rank, base)

    def _is_touched(self, rank: int, base: int) -> bool:
        """Whether damage from a frame's key packet on reaches the frame."""
        bases = self.packets.base
        if self.packets.made_up and any(self._is_near(rank, failed) for failed in self._failed):
            return True
        near = self._failed[bisect_left(self._failed, base) : bisect_right(self._failed, rank)]
        # Frames shown before a key frame, but decoded after it, are never predicted from.
        return any(bases[failed] >= base for failed in near)

    def _is_near(self, rank: int, failed: int) -> bool:
        """Whether a frame shares a key frame with a damaged packet or the one before it.

        A damaged packet is of no known kind, so that made-up times go to wrong frames around it.
        """
        bases, groups = self.packets.base, self._groups
        own = {int(bases[rank]), int(groups[rank])}
        return not own.isdisjoint({bases[failed], groups[failed], groups[max(failed - 1, 0)]})


def decode(
    stream: VideoStream, ranked: Iterator[tuple[int, Packet[VideoStream]]], sieve: Sieve
) -> Iterator[tuple[int, VideoFrame | None]]:
    """Decode packets to the end, past all damage.

    Args:
        stream: Where they come from.
        ranked: Packets with their ranks, in decoding order.
        sieve: Gets what the decoder says.

    Yields:
        A frame's number, and the frame, or None where it is not to be trusted.
    """
    packets = sieve.packets
    try:
        for rank, packet in ranked:
            # Decoders hand a packet's time to its frame; a place in order tells which is whose.
            packet.pts, packet.dts = int(packets.places[rank]), None
            if packet.is_corrupt:
                sieve.fail(rank, "a packet is incomplete")
            _feed(stream, packet, rank, sieve)
            yield from sieve.ready()
    except av.error.FFmpegError as error:
        # The packets that are lost with the container's end fail below.
        sieve.reason = sieve.reason or reason(error)
    _feed(stream, None, None, sieve)
    sieve.end()
    yield from sieve.ready()


def _feed(
    stream: VideoStream, packet: Packet[VideoStream] | None, rank: int | None, sieve: Sieve
) -> None:
    packets = sieve.packets
    try:
        frames = stream.decode(packet)
    except (av.error.FFmpegError, ValueError) as error:
        if rank is not None:
            sieve.fail(rank, reason(error))
        return
    for frame in frames:
        if frame.pts is not None and 0 <= frame.pts < len(packets.by_time):
            sieve.take(int(packets.by_time[frame.pts]), frame)
