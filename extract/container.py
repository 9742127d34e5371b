"""Containers: how files are opened, and what each format tells of its own completeness."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av
import av.error
import av.logging
from av.stream import Disposition

from ..cache import MediaError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,wav,w64,aiff,au,caf,mp3,aac,flac"
"""What is read; no play list or script that would make the library open other files."""

# FFmpeg's logging through Python can lock up threads (PyAV threads 751 and 2276).
av.logging.set_level(av.logging.PANIC)


def open_container(path: Path) -> InputContainer:
    """Open a media file, whatever its name looks like.

    Raises:
        MediaError: It is missing, no regular file, or of no known format.
    """
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise MediaError(f"{path.name}: cannot be opened: {reason(error)}") from error
    # Opening a pipe or a device can wait for ever.
    if not regular:
        raise MediaError(f"{path.name}: cannot be opened: not a regular file")
    try:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        return av.open(f"file:{path}", options=options, metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{path.name}: cannot be opened: {reason(error)}") from error


def video_stream(container: InputContainer) -> VideoStream | None:
    """Find the first stream of moving pictures that can be decoded; a cover picture is none."""
    for stream in container.streams.video:
        # The codec context is absent where there is no decoder, whatever the annotation says.
        known = getattr(stream, "codec_context", None) is not None
        if known and not stream.disposition & Disposition.attached_pic:
            if not stream.codec_context.is_open:
                stream.thread_count = 1
            return stream
    return None


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Find the first stream of sound that can be decoded."""
    for stream in container.streams.audio:
        if getattr(stream, "codec_context", None) is not None:
            return stream
    return None


def reason(error: Exception) -> str:
    """Say in few words what a library complained of."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def is_cut_short(path: Path, container: InputContainer, stream: VideoStream | AudioStream) -> bool:
    """Whether a file ends before its own tables say; call it after demuxing (fragments)."""
    size = path.stat().st_size
    name = container.format.name
    if "mov" in name:
        return any(entry.pos + entry.size > size for entry in stream.index_entries)
    with path.open("rb") as file:
        if "matroska" in name:
            return _matroska_end(file) > size
        if name == "avi":
            return 8 + int.from_bytes(file.read(8)[4:], "little") > size
    return False


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment ends by its header; 0 where it does not say."""
    file.seek(4)
    length, _ = _matroska_number(file)
    file.seek(length + 4, 1)
    length, known = _matroska_number(file)
    return file.tell() + length if known else 0


def _matroska_number(file: BinaryIO) -> tuple[int, bool]:
    """Read a number of variable length, and whether it is one (all ones: unknown)."""
    first = file.read(1)[0]
    more = 8 - first.bit_length()
    value = int.from_bytes(bytes([first & (0x7F >> more)]) + file.read(more))
    return value, value != (1 << 7 * (more + 1)) - 1
