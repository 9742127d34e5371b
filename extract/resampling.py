"""Resampling of sound that comes in pieces, as if it had come whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchaudio.functional import resample

from ..cache import MediaError
from .media import GAP_SECONDS, Sound

if TYPE_CHECKING:
    from numpy.typing import NDArray

ZERO_CROSSINGS = 6
ROLLOFF = 0.99
"""The filter of torchaudio: a windowed sinc, so wide, with its edge so far below Nyquist's."""
KERNEL_LIMIT = 1 << 24
"""Most filter taps: for rates without a common divisor they would fill the memory."""


class Resampler:
    """Resamples one stretch of sound: the result is torchaudio's of the whole, to the last ulps.

    The filter is linear and repeats every `step` samples, so a part of the input with enough of
    its surroundings gives exactly its part of the output. Parts have a fixed size, so the result
    does not depend on the pieces in which the input comes.
    """

    def __init__(self, source: int, target: int) -> None:
        """Prepare for one pair of rates.

        Args:
            source: Samples per second that come in.
            target: Samples per second that go out.

        Raises:
            MediaError: The rates have no useful common divisor.
        """
        divisor = math.gcd(source, target)
        self._source, self._target = source, target
        self._step, self._gain = source // divisor, target // divisor
        half = math.ceil(ZERO_CROSSINGS * self._step / (min(self._step, self._gain) * ROLLOFF))
        if self._gain * (self._step + 2 * half) > KERNEL_LIMIT:
            raise MediaError(
                f"sound of {source} samples per second cannot be resampled to {target}: "
                f"their common divisor {divisor} is too small"
            )
        self._context = math.ceil(half / self._step) * self._step
        self._part = math.ceil(source / self._step) * self._step
        self._before = np.zeros(0, np.float32)
        self._waiting: list[NDArray[np.float32]] = []
        self._count = 0

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take (samples,) in; give what is complete of the output."""
        self._waiting.append(samples)
        self._count += len(samples)
        if self._source == self._target:
            return self._all()
        if self._count < self._part + self._context:
            return np.zeros(0, np.float32)
        held = self._all()
        done: list[NDArray[np.float32]] = []
        while len(held) >= self._part + self._context:
            done.append(self._convert(held[: self._part + self._context], self._part))
            self._before = np.concatenate([self._before, held[: self._part]])[-self._context :]
            held = held[self._part :]
        self._waiting, self._count = [held], len(held)
        return np.concatenate(done)

    def finish(self) -> NDArray[np.float32]:
        """Give the rest of the output; silence follows the input's end."""
        held = self._all()
        return self._convert(held, len(held)) if len(held) else held

    def _all(self) -> NDArray[np.float32]:
        held = np.concatenate([np.zeros(0, np.float32), *self._waiting])
        self._waiting, self._count = [], 0
        return held

    def _convert(self, samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
        """Resample the first `length` samples, with what came before and comes after them."""
        around = torch.from_numpy(np.concatenate([self._before, samples]))
        out = resample(around, self._source, self._target).numpy()
        skipped = len(self._before) // self._step * self._gain
        return out[skipped : skipped + math.ceil(length * self._gain / self._step)]


def resampled(sounds: Iterator[Sound], rate: int) -> Iterator[Sound]:
    """Resample stretches of sound; a gap, an overlap or a change of rate starts afresh.

    What came before an error is given before it is raised.
    """
    line: _Line | None = None
    failure: MediaError | None = None
    try:
        for sound in sounds:
            if line is not None and not line.goes_on(sound):
                yield from line.finish()
                line = None
            line = line or _Line(sound, rate)
            yield from line.push(sound)
    except MediaError as error:
        failure = error
    if line is not None:
        yield from line.finish()
    if failure is not None:
        raise failure


class _Line:
    """A stretch without gaps, and the clock of what comes out of it."""

    def __init__(self, first: Sound, rate: int) -> None:
        self._resampler = Resampler(first.rate, rate)
        self._start, self._source, self._rate = first.start_s, first.rate, rate
        self._taken = self._given = 0

    def goes_on(self, sound: Sound) -> bool:
        end = self._start + self._taken / self._source
        return sound.rate == self._source and abs(sound.start_s - end) < GAP_SECONDS

    def push(self, sound: Sound) -> Iterator[Sound]:
        self._taken += len(sound.samples)
        return self._give(self._resampler.push(sound.samples))

    def finish(self) -> Iterator[Sound]:
        return self._give(self._resampler.finish())

    def _give(self, samples: NDArray[np.float32]) -> Iterator[Sound]:
        if len(samples):
            yield Sound(self._start + self._given / self._rate, self._rate, samples)
            self._given += len(samples)
