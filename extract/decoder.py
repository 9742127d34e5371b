"""Decoding in a child process that the parent can always kill.

A decoder that hangs in native code is deaf to everything but SIGKILL, and one that crashes takes
its process along. So the parent asks a child for one source at a time, waits a bounded time for
each answer, and starts a new child after a kill: a bad file costs its own source only.
The pipe holds back the child while the parent is busy, so memory stays bounded.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import MediaError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from numpy.typing import NDArray

    from .media import Frame, Probe, Sound

    Pipe = Connection[Any, Any]

CHUNK_FRAMES = 32
ANSWER_SECONDS = 60.0
SOUND_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class FrameChunk:
    """Consecutive frames of one size."""

    first: int
    times: NDArray[np.float64]
    """(frames,) seconds."""
    images: NDArray[np.uint8]
    """(frames, H, W, 3) RGB."""


class DecoderLostError(MediaError):
    """The child hung or crashed: what it gave says nothing sure about the file."""


class DecoderCrashedError(DecoderLostError):
    """The child died, by itself or killed from outside: worth another try."""


class Decoder:
    """A child process that decodes one source at a time."""

    def __init__(self, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Prepare; the child starts with the first request.

        Args:
            answer_seconds: Longest wait for one chunk before the child is killed.
        """
        self._limit = answer_seconds
        self._child: SpawnProcess | None = None
        self._pipe: Pipe | None = None

    def video(self, path: Path) -> Iterator[FrameChunk]:
        """Decode a video's frames in chunks; raises MediaError as `open_video` does."""
        return self._ask("video", path)

    def audio(self, path: Path) -> Iterator[Sound]:
        """Decode a file's sound in stretches; raises MediaError as `open_audio` does."""
        return self._ask("audio", path)

    def probe(self, path: Path) -> Probe:
        """Read a container's streams and frame times; raises MediaError as `probe` does."""
        (found,) = self._ask("probe", path)
        return found

    def _ask(self, what: str, path: Path) -> Iterator[Any]:
        pipe = self._connect()
        done = False
        try:
            self._send(pipe, what, path)
            while True:
                kind, value = self._answer(pipe, path)
                if kind == "end":
                    done = True
                    return
                if kind == "error":
                    done = True
                    raise MediaError(value)
                yield value
        finally:
            # A caller that stops early leaves answers in the pipe: the next one starts afresh.
            if not done:
                self.close()

    def _send(self, pipe: Pipe, what: str, path: Path) -> None:
        try:
            pipe.send((what, path))
        except OSError:
            raise DecoderCrashedError(f"{path.name}: the decoder crashed") from None

    def _answer(self, pipe: Pipe, path: Path) -> tuple[str, Any]:
        try:
            if pipe.poll(self._limit):
                return pipe.recv()
        except (EOFError, OSError):
            raise DecoderCrashedError(f"{path.name}: the decoder crashed") from None
        raise DecoderLostError(f"{path.name}: the decoder gave no answer within {self._limit:g} s")

    def _connect(self) -> Pipe:
        if self._child is not None and not self._child.is_alive():
            self.close()
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            self._pipe = ours
            self._child = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._child.start()
            theirs.close()
        return self._pipe

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
    import signal

    from .media import open_audio, open_video, probe

    # Ctrl-C reaches the whole process group; the parent decides when this child ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sources: dict[str, Callable[[Path], Iterator[Any]]] = {
        "video": lambda path: _chunks(open_video(path)),
        "audio": lambda path: _stretches(open_audio(path)),
        "probe": lambda path: iter([probe(path)]),
    }
    while True:
        try:
            what, path = pipe.recv()
        except EOFError:
            return
        try:
            for value in sources[what](path):
                pipe.send(("value", value))
        except MediaError as error:
            pipe.send(("error", str(error)))
        else:
            pipe.send(("end", None))


def _chunks(frames: Iterator[Frame]) -> Iterator[FrameChunk]:
    """Gather frames of one size; frames before an error are given before it is raised."""
    waiting: list[Frame] = []
    failure: MediaError | None = None
    try:
        for frame in frames:
            if waiting and (
                len(waiting) == CHUNK_FRAMES or frame.image.shape != waiting[0].image.shape
            ):
                yield _chunk(waiting)
                waiting = []
            waiting.append(frame)
    except MediaError as error:
        failure = error
    if waiting:
        yield _chunk(waiting)
    if failure is not None:
        raise failure


def _chunk(frames: list[Frame]) -> FrameChunk:
    times = np.array([frame.pts_s for frame in frames])
    return FrameChunk(frames[0].index, times, np.stack([frame.image for frame in frames]))


def _stretches(sounds: Iterator[Sound]) -> Iterator[Sound]:
    """Join the codec's small frames into stretches of about ten seconds without gaps."""
    from .media import follows

    waiting: list[Sound] = []
    failure: MediaError | None = None
    try:
        for sound in sounds:
            full = waiting and sound.start_s - waiting[0].start_s >= SOUND_SECONDS
            if waiting and (full or not follows(waiting, sound)):
                yield _joined(waiting)
                waiting = []
            waiting.append(sound)
    except MediaError as error:
        failure = error
    if waiting:
        yield _joined(waiting)
    if failure is not None:
        raise failure


def _joined(sounds: list[Sound]) -> Sound:
    first = sounds[0]
    return type(first)(
        first.start_s, first.rate, np.concatenate([sound.samples for sound in sounds])
    )
