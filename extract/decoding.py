"""What a decoding child does: one request in, chunks of pictures or sound out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..cache import MediaError
from .decoder import Answer, Ended, FrameChunk, FrameTimes, Request, SoundChunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .media import Frame, Probe, Sound

    Numbered = tuple[int, NDArray[np.uint8]]

CHUNK_BYTES = 8 << 20
"""Pictures that are sent at once; one more such chunk waits in the child, another in the parent."""
CHUNK_FRAMES = 64
SOUND_SECONDS = 10.0


def decoded(request: Request) -> Iterator[Answer]:
    """Decode what is asked for; what was decoded before an error is given before it is told."""
    kinds: dict[str, Callable[[Request], Iterator[Answer]]] = {
        "video": _video,
        "faces": _faces,
        "sound": _sound,
        "times": _times,
    }
    problem = ""
    try:
        yield from kinds[request.kind](request)
    except MediaError as error:
        problem = str(error)
    yield Ended(problem)


def _video(request: Request) -> Iterator[Answer]:
    from .media import probe

    yield FrameTimes(probe(request.path).frame_times)
    wanted = itertools.takewhile(lambda frame: frame.index < request.frames, _frames(request))
    yield from _chunks((frame.index, frame.image) for frame in wanted)


def _frames(request: Request) -> Iterator[Frame]:
    """Decode with the reader that is asked for, where the file is one for it; else with PyAV."""
    from .media import open_video

    if request.reader == "decord":
        from .decord_reader import GateError

        try:
            yield from open_video(request.path, "decord")
        except GateError:
            pass  # Told before the first frame, so none comes twice.
        else:
            return
    yield from open_video(request.path)


def _faces(request: Request) -> Iterator[Answer]:
    from .faces import list_crops, read_crop

    crops = list_crops(request.path, request.frames)
    read = ((row, read_crop(request.path / name)) for row, name in crops.items())
    yield from _chunks((row, image) for row, image in read if image is not None)


def _times(request: Request) -> Iterator[Answer]:
    yield FrameTimes(_times_of(request, _probed(request)))


def _probed(request: Request) -> Probe:
    from .media import probe

    found = probe(request.path)
    if not len(found.frame_times) and not (request.frames and found.duration_s):
        raise MediaError(f"{request.path.name}: holds no frame, so its rows have no time")
    return found


def _times_of(request: Request, found: Probe) -> NDArray[np.float64]:
    """Give the times of the frames; rows share out evenly what is sound alone."""
    if len(found.frame_times):
        return found.frame_times
    first = found.audio_start_s or 0.0
    seconds = found.duration_s or 0.0
    return first + np.linspace(0.0, seconds, request.frames, endpoint=False, dtype=np.float64)


def _sound(request: Request) -> Iterator[Answer]:
    from .media import open_audio

    found = _probed(request)
    yield FrameTimes(_times_of(request, found))
    if found.audio_rate is None:
        return
    for run in _stretches(open_audio(request.path, request.rate)):
        samples = np.concatenate([sound.samples for sound in run])
        yield SoundChunk(run[0].start_s, run[0].rate, samples)


def _chunks(frames: Iterator[Numbered]) -> Iterator[FrameChunk]:
    """Gather pictures of one size; those before an error are given before it is raised."""
    waiting: list[Numbered] = []
    try:
        for number, image in frames:
            if waiting and (_full(waiting) or image.shape != waiting[0][1].shape):
                yield _chunk(waiting)
                waiting = []
            waiting.append((number, image))
    except MediaError:
        if waiting:
            yield _chunk(waiting)
        raise
    if waiting:
        yield _chunk(waiting)


def _full(waiting: list[Numbered]) -> bool:
    return len(waiting) >= CHUNK_FRAMES or len(waiting) * waiting[0][1].nbytes >= CHUNK_BYTES


def _chunk(frames: list[Numbered]) -> FrameChunk:
    numbers = np.array([number for number, _ in frames], np.int64)
    return FrameChunk(numbers, np.stack([image for _, image in frames]))


def _stretches(sounds: Iterator[Sound]) -> Iterator[list[Sound]]:
    """Gather the codec's small frames into runs of about ten seconds without gaps."""
    from .media import follows

    run: list[Sound] = []
    try:
        for sound in sounds:
            full = run and sound.start_s - run[0].start_s >= SOUND_SECONDS
            if run and (full or not follows(run, sound)):
                yield run
                run = []
            run.append(sound)
    except MediaError:
        if run:
            yield run
        raise
    if run:
        yield run
