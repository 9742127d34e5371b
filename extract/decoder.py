"""Decoding in child processes that the parent can always kill.

A decoder that hangs in native code is deaf to everything but SIGKILL, and one that crashes takes
its process along. So a child decodes one file at a time, the parent waits a bounded time for each
of its answers, and a new child takes its place after a kill: a bad file costs its own source only.
The pipe holds back a child whose parent is busy, so memory stays bounded.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..cache import MediaError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from numpy.typing import NDArray

    Pipe = Connection[Any, Any]

ANSWER_SECONDS = 60.0
RECYCLED_AFTER = 100
"""Files that a child decodes before another takes its place: native libraries leak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a child is to decode."""

    kind: Literal["video", "faces", "sound", "times"]
    """`times` asks for those of a video's frames alone."""
    path: Path
    """A media file, or a folder of face crops."""
    reader: Literal["pyav", "decord"] = "pyav"
    rate: int = 0
    """Samples per second of the sound."""
    frames: int = 0
    """Frames or rows that are wanted; those after them are left out. Of sound: rows that share it
    out evenly where the file has no frames; 0: a file without frames is refused."""


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """The times of all frames of a file, known before any is decoded: the first answer."""

    times: NDArray[np.float64]
    """(frames,) seconds, ascending."""


@dataclass(frozen=True, slots=True)
class FrameChunk:
    """Pictures of one size, in order."""

    numbers: NDArray[np.int64]
    """(n,) each picture's frame number, or row (face crops)."""
    images: NDArray[np.uint8]
    """(n, H, W, 3) RGB."""


@dataclass(frozen=True, slots=True)
class SoundChunk:
    """A stretch of mono sound."""

    start_s: float
    """Time of the first sample in seconds on the container's clock."""
    rate: int
    samples: NDArray[np.float32]
    """(samples,)"""


@dataclass(frozen=True, slots=True)
class Ended:
    """The file has come to its end; the last answer."""

    problem: str = ""
    """What kept the decoder from going on, or from beginning."""


Answer = FrameTimes | FrameChunk | SoundChunk | Ended


class DecoderLostError(MediaError):
    """The child hung or crashed: what it gave says nothing sure about the file."""


class DecoderCrashedError(DecoderLostError):
    """The child died, by itself or killed from outside: worth another try."""


class Decoder:
    """A child process that decodes one file at a time."""

    def __init__(self, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Prepare; the child starts with the first request.

        Args:
            answer_seconds: Longest wait for one answer before the child is killed.
        """
        self._limit = answer_seconds
        self._child: SpawnProcess | None = None
        self._pipe: Pipe | None = None
        self._name = ""
        self._asked = 0
        self._latest = 0.0

    def start(self, request: Request) -> None:
        """Begin to decode a file; the answers are to be received up to the last.

        Raises:
            DecoderCrashedError: The child is dead.
        """
        self._name = request.path.name
        if self._asked >= RECYCLED_AFTER or not (self._child and self._child.is_alive()):
            self.close()
        pipe = self._pipe or self._spawn()
        self._asked += 1
        self._latest = time.monotonic() + self._limit
        try:
            pipe.send(request)
        except OSError:
            raise self._crashed() from None

    @property
    def pipe(self) -> Pipe:
        """What becomes readable when there is an answer."""
        assert self._pipe is not None
        return self._pipe

    @property
    def seconds_left(self) -> float:
        """Seconds until an answer is too late."""
        return self._latest - time.monotonic()

    def receive(self) -> Answer:
        """Wait for the next answer, but not for ever.

        Raises:
            DecoderLostError: None came in time, or the child died; it is gone now.
        """
        if not self.pipe.poll(max(0.0, self.seconds_left)):
            raise self._too_late()
        assert self._child is not None
        # A child that stalls within an answer would hold up its parent as well.
        watchdog = threading.Timer(self._limit, self._child.kill)
        watchdog.start()
        begun = time.monotonic()
        try:
            answer = _receive(self.pipe)
        except (EOFError, OSError):
            late = time.monotonic() - begun >= self._limit
            raise (self._too_late() if late else self._crashed()) from None
        finally:
            watchdog.cancel()
        self._latest = time.monotonic() + self._limit
        return answer

    def answers(self, request: Request) -> Iterator[Answer]:
        """Decode a file, and give all answers; one after another, for a single file."""
        self.start(request)
        ended = False
        try:
            while not ended:
                answer = self.receive()
                ended = isinstance(answer, Ended)
                yield answer
        finally:
            # A caller that stops early leaves answers in the pipe: the next one starts afresh.
            if not ended:
                self.close()

    def _too_late(self) -> DecoderLostError:
        self.close()
        return DecoderLostError(
            f"{self._name}: the decoder gave no answer within {self._limit:g} s"
        )

    def _crashed(self) -> DecoderCrashedError:
        self.close()
        return DecoderCrashedError(f"{self._name}: the decoder crashed")

    def _spawn(self) -> Pipe:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        child = context.Process(target=_serve, args=(theirs,), daemon=True)
        child.start()
        self._child = child
        theirs.close()
        self._pipe, self._asked = ours, 0
        return ours

    def close(self) -> None:
        """Kill the child, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child.join()
        if self._pipe is not None:
            self._pipe.close()
        self._child = self._pipe = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _serve(pipe: Pipe) -> None:
    """Answer requests until the parent is gone; runs in the child."""
    import ctypes
    import signal

    from .decoding import decoded

    # Ctrl-C reaches the whole process group; the parent decides when this child ends. And a parent
    # that is killed outright must not leave a child that hangs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent_died = 1
    ctypes.CDLL(None).prctl(parent_died, signal.SIGKILL)
    while True:
        try:
            request = pipe.recv()
            for answer in decoded(request):
                _send(pipe, answer)
        except (EOFError, ConnectionError):
            return


def _send(pipe: Pipe, answer: Answer) -> None:
    """Send an answer, its arrays as plain bytes: pickling would copy them twice."""
    arrays = {
        f.name: value
        for f in fields(answer)
        if isinstance(value := getattr(answer, f.name), np.ndarray)
    }
    shapes = {name: (value.shape, value.dtype.str) for name, value in arrays.items()}
    pipe.send((replace(answer, **dict.fromkeys(arrays)), shapes))
    for value in arrays.values():
        if value.size:
            pipe.send_bytes(np.ascontiguousarray(value).data.cast("B"))


def _receive(pipe: Pipe) -> Answer:
    answer, shapes = pipe.recv()
    arrays: dict[str, NDArray[Any]] = {}
    for name, (shape, dtype) in shapes.items():
        arrays[name] = np.empty(shape, dtype)
        if arrays[name].size:
            pipe.recv_bytes_into(arrays[name].data.cast("B"))
    return replace(answer, **arrays)
