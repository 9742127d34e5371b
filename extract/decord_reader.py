"""Frames through decord, behind a gate: only files with which it has been seen to be right.

Decord numbers frames by its own count, hides damage, and loses start offsets; in some containers
it also starts late or returns other frames than asked for. The gate lets through what is plain and
whole, which takes one pass of decoding without conversion; then both readers give the same bytes.
Decord decodes ahead of its caller without bound, so long videos belong to the reference reader.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..cache import MediaError
from .container import open_container
from .conversion import display_matrix
from .damage import damage
from .media import Frame, require_video
from .packets import Packets, demux, read_packets
from .sieve import Sieve, decode

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

# Read once when the library loads: its default lets it retry for half a minute at a file's end.
os.environ.setdefault("DECORD_EOF_RETRY_MAX", "4096")

FORMATS = {"mov", "matroska"}
CODECS = {"h264", "vp9", "libvpx-vp9"}
"""With others it fails (AV1) or seeks to wrong frames (HEVC, MPEG-4)."""
PIXELS = {"yuv420p", "yuvj420p"}
ANY_DAMAGE = 1e-9
"""Share of frames that may be replaced by others before decord complains."""


class GateError(MediaError):
    """A file breaks a rule without which decord cannot be trusted."""


def gate(path: Path) -> Packets:
    """Let a file pass if decord gives its frames right, in order and at random.

    Returns:
        The file's packets, which number and time its frames.

    Raises:
        GateError: It does not; the message names the rule.
        MediaError: The file cannot be opened.
    """
    return DecordFrames(path).packets


class DecordFrames:
    """A file that has passed the gate, open in decord."""

    def __init__(self, path: Path) -> None:
        """Open a file; raises GateError and MediaError as `gate` does."""
        self._path = path
        self.packets = _checked_packets(path)
        self._reader: Any = _open(path)
        self._next = 0
        _check_counts(path, self.packets, self._reader)

    def frame(self, number: int) -> NDArray[np.uint8]:
        """Give a frame as (H, W, 3) RGB; raises MediaError where decord fails."""
        try:
            if number != self._next:
                self._reader.seek_accurate(number)
            image = self._reader.next().asnumpy()
        except Exception as error:
            raise _named(self._path, error) from error
        self._next = number + 1
        return image

    def images(self, numbers: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Give the frames of ascending numbers, each with its number."""
        for number in numbers:
            yield number, self.frame(number)

    def close(self) -> None:
        """Let go of the file; decord closes it when nothing refers to it."""
        self._reader = None


def decord_video(path: Path) -> Iterator[Frame]:
    """Give a file's frames in order; raises as `gate` does."""
    source = DecordFrames(path)
    for number, time in enumerate(source.packets.times.tolist()):
        yield Frame(number, time, source.frame(number))


def _open(path: Path) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        open_reader: Any = decord.VideoReader
        return open_reader(f"file:{path}", num_threads=1, fault_tol=ANY_DAMAGE)
    except Exception as error:
        raise _named(path, error) from error


def _named(path: Path, error: Exception) -> MediaError:
    """Turn what decord raises into an error; its classes share no base but Exception."""
    lines = str(error).splitlines() or [type(error).__name__]
    return MediaError(f"{path.name}: decord fails: {lines[0]}")


def _refuse(path: Path, rule: str, found: object) -> GateError:
    return GateError(f"{path.name}: not for decord: {rule}, found {found}")


def _checked_packets(path: Path) -> Packets:
    with closing(open_container(path)) as container:
        stream = require_video(path, container)
        name, codec = container.format.name, stream.codec_context.name
        if not FORMATS & set(name.split(",")):
            raise _refuse(path, "the container has to be MP4 or Matroska", name)
        if codec not in CODECS:
            raise _refuse(path, "the codec has to be H.264 or VP9", codec)
        if stream.pix_fmt not in PIXELS:
            raise _refuse(path, "pixels have to be 8-bit 4:2:0", stream.pix_fmt)
        packets = read_packets(path, container, stream)
        declared = stream.frames if "mov" in name else 0
    if packets.cut:
        raise _refuse(path, "the file has to be undamaged", packets.cut)
    _check_edits(path, packets, declared, name)
    _check_times(path, packets)
    _check_decoding(path, packets)
    return packets


def _check_edits(path: Path, packets: Packets, declared: int, name: str) -> None:
    hidden = int((packets.numbers < 0).sum())
    if hidden:
        raise _refuse(path, "every packet has to be shown", f"an edit list that hides {hidden}")
    if declared and declared != len(packets.pts):
        rest = f"an edit list that keeps {len(packets.pts)} of {declared}"
        raise _refuse(path, "every packet has to be shown", rest)
    if "mov" in name and (edits := _most_edits(path)) > 1:
        raise _refuse(path, "a track has to be one piece", f"an edit list of {edits} pieces")


def _check_times(path: Path, packets: Packets) -> None:
    times = packets.times
    if times[0] < 0:
        raise _refuse(path, "the first time must not be negative", f"{times[0]:.3f} s")
    if (np.diff(times) <= 0).any():
        raise _refuse(path, "times have to increase", "one twice")


def _check_decoding(path: Path, packets: Packets) -> None:
    """Decode all, converting nothing: decord would not tell what is damaged."""
    given, sieve = 0, Sieve(packets)
    first: VideoFrame | None = None
    with closing(open_container(path)) as container:
        stream = require_video(path, container)
        for _, frame in decode(stream, enumerate(demux(container, stream)), sieve):
            if frame is None:
                continue
            first = first or frame
            given += 1
            if (frame.width, frame.height) != (first.width, first.height):
                raise _refuse(path, "frames have to be of one size", f"{frame.width} wide ones too")
    if first is None:
        raise damage(path, list(range(len(packets.order))), len(packets.order), str(sieve.reason))
    if given < len(packets.order):
        raise _refuse(path, "the file has to be undamaged", f"damage: {sieve.reason}")
    a, b, c, d = display_matrix(first)
    if a * d - b * c < 0:
        raise _refuse(path, "pictures must not be mirrored", "a mirror")


def _check_counts(path: Path, packets: Packets, reader: Any) -> None:
    expected, found = len(packets.order), len(reader)
    if found != expected:
        raise _refuse(path, f"decord has to count {expected} frames", found)
    times = reader.get_frame_timestamp(list(range(found)))[:, 0].astype(np.float64)
    if not np.isfinite(times).all() or times[0] < 0 or (np.diff(times) <= 0).any():
        raise _refuse(path, "decord's times have to increase from zero or more", times[0])
    steps = np.abs(np.diff(times) - np.diff(packets.times))
    if (steps > 0.25 * np.diff(packets.times)).any():
        raise _refuse(path, "decord's times have to agree", f"{steps.max():.3f} s between frames")


def _most_edits(path: Path) -> int:
    """Count the pieces in the longest edit list of an MP4, a wait before the first aside."""
    with path.open("rb") as file:
        return max(_edits(file, 0, path.stat().st_size), default=0)


def _edits(file: BinaryIO, start: int, end: int) -> Iterator[int]:
    """Walk the boxes down to the edit lists, and count the pieces in each."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        size, kind, skip = int.from_bytes(head[:4]), head[4:8], 8
        if size == 1:
            size, skip = int.from_bytes(head[8:16]), 16
        size = size or end - start
        if size < skip:
            return
        if kind in {b"moov", b"trak", b"edts"}:
            yield from _edits(file, start + skip, min(start + size, end))
        elif kind == b"elst":
            file.seek(start + skip)
            content = file.read(size - skip)
            wide = 20 if content[0] else 12
            rows = [content[at : at + wide] for at in range(8, len(content), wide)]
            waits = rows[0][wide // 3 : -4] if rows else b""
            yield len(rows) - (set(waits) == {0xFF})
        start += size
