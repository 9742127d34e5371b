"""Voices of the demo data set: a buzzing source whose pitch, loudness and colour carry affect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .demo_signal import GRID_RATE, smooth_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .demo_signal import FloatArray

Wave: TypeAlias = "NDArray[np.float32]"
"""Sound, shape (samples,), -1 to 1."""

SOUND_RATE = 44_100  # Hz
PITCH = 1.5  # semitones per sd of valence
COLOUR = 0.035  # overtones' ratio per sd of arousal
LOUDNESS = 1.0  # dB per sd of arousal
SPAN = 0.16  # octaves between speakers, up or down
SLOW = 1.5  # s: time scale of the drift
SWELL = 6.0  # dB: loudness that means nothing, sd
HISS = 10.0  # dB: change of the background noise, sd
FAST = 0.3  # s: time scale of swell and hiss
DRIFT = 0.15  # the voice's own drift, in sd of the affect


@dataclass(frozen=True, slots=True)
class Speaker:
    """What does not change within a source."""

    pitch: float
    """Hz."""
    colour: float
    """Amplitude ratio of successive overtones."""
    level: float
    """dB below full scale."""
    tempo: float
    """Syllables per second."""
    hiss: float
    """Background noise, dB below full scale."""
    formants: FloatArray
    """(3,), Hz."""


def random_speaker(rng: np.random.Generator) -> Speaker:
    """Draw a voice; bounded ranges, so that a few sources cover most of them."""
    size = rng.uniform(0.9, 1.12)
    return Speaker(
        pitch=170 * 2 ** rng.uniform(-SPAN, SPAN),
        colour=rng.uniform(0.68, 0.74),
        level=rng.uniform(-22, -18),
        tempo=rng.uniform(3.5, 5.0),
        hiss=rng.uniform(-62, -52),
        formants=size * np.array([600.0, 1500.0, 2700.0]),
    )


def synthesise_voice(rng: np.random.Generator, voice: FloatArray, seconds: float) -> Wave:
    """Sound a course of affect.

    Args:
        rng: Random numbers of this source: speaker, drift, noise.
        voice: (points, 2) at `GRID_RATE` from time 0: valence and arousal, sd 1.
        seconds: Length of the sound.

    Returns:
        (samples,) at 44.1 kHz.
    """
    speaker = random_speaker(rng)
    grid = np.arange(voice.shape[0]) / GRID_RATE
    drift = [DRIFT * smooth_noise(rng, grid, SLOW) for _ in range(2)]
    valence, arousal = 2.5 * np.tanh(voice.T / 2.5)
    count = round(seconds * SOUND_RATE)
    pitch = speaker.pitch * 2 ** (PITCH / 12 * (valence + drift[0]))
    colour = np.clip(speaker.colour + COLOUR * (arousal + drift[1]), 0.4, 0.88)
    level = speaker.level + LOUDNESS * arousal + SWELL * smooth_noise(rng, grid, FAST)
    buzz = _buzz(_dense(pitch, count), _dense(colour, count))
    buzz *= _syllables(rng, speaker.tempo, count) * 10 ** (_dense(level, count) / 20)
    noise = 10 ** (_dense(speaker.hiss + HISS * smooth_noise(rng, grid, FAST), count) / 20)
    hiss = noise * rng.standard_normal(count, dtype=np.float32)
    return np.clip(_resonate(buzz, speaker.formants) + hiss, -1, 1).astype(np.float32)


def _dense(values: FloatArray, count: int) -> Wave:
    """Interpolate values on the latent grid to sound samples."""
    positions = np.arange(count, dtype=np.float64) * (GRID_RATE / SOUND_RATE)
    return np.interp(positions, np.arange(values.size), values).astype(np.float32)


def _buzz(pitch: Wave, colour: Wave) -> Wave:
    """Sum all overtones r**(k-1) * sin(k * phase) in closed form: sin / (1 - 2 r cos + r**2).

    A ratio r below 0.9 puts what lies above the Nyquist frequency far below hearing.
    """
    phase = np.cumsum(pitch, dtype=np.float64) * (2 * np.pi / SOUND_RATE)
    phase = np.mod(phase, 2 * np.pi).astype(np.float32)
    wave = np.sin(phase) / (1 - 2 * colour * np.cos(phase) + colour**2)
    return wave.astype(np.float32)


def _syllables(rng: np.random.Generator, tempo: float, count: int) -> Wave:
    """Open and close the voice a few times a second, never quite to silence."""
    times = np.arange(count // (SOUND_RATE // 100) + 2) / 100
    speed = tempo * (1 + 0.2 * smooth_noise(rng, times, 0.5))
    beat = 0.65 + 0.35 * np.sin(2 * np.pi * np.cumsum(speed) / 100)
    positions = np.arange(count, dtype=np.float64) * (100 / SOUND_RATE)
    return np.interp(positions, np.arange(times.size), beat).astype(np.float32)


def _resonate(wave: Wave, formants: FloatArray) -> Wave:
    """Filter through three resonances on a flat floor, blockwise in the frequency domain."""
    length = 1 << int(np.ceil(np.log2(wave.size)))
    hertz = np.fft.rfftfreq(length, 1 / SOUND_RATE)
    bandwidth = 0.12 * formants[:, None]
    gain = 0.2 + np.sum(1 / (1 + ((hertz - formants[:, None]) / bandwidth) ** 2), axis=0)
    spectrum = np.fft.rfft(wave, length) * gain.astype(np.float32)
    return np.fft.irfft(spectrum, length)[: wave.size].astype(np.float32)
