"""Voices of the demo data set: short syllables whose inner shape carries affect.

Valence is the glide of pitch within a syllable, arousal the place of its peak: early is a sharp
attack, late a slow rise. Both are symmetric about the base, so that the mean spectrum of a second
of sound hardly moves, while level, tilt, pitch and background wander a lot and mean nothing. A
network that learns can become deaf to these; the features of an untrained one cannot, and
find only a part. A little of arousal is loudness and colour, for their benefit.
"""

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
CONTROL_RATE = 400  # Hz: resolves an attack of a hundredth of a second
# What means something.
GLIDE = 1.2  # semitones, half of a syllable's rise, per sd of valence
SKEW = 0.25  # share of a syllable by which the peak comes earlier, per sd of arousal
EDGE = 0.06  # share of a syllable: the steepest attack or decay, about 9 ms
DEPTH = 18.0  # dB from a syllable's peak to its ends, whatever its shape
LOUDNESS = 3.0  # dB per sd of arousal: half of SWELL, so weak evidence
COLOUR = 0.04  # overtones' ratio per sd of arousal: less than TILT, so weak evidence
DRIFT = 0.1  # the voice's own drift, in sd of the affect
# What means nothing: all in sd.
SWELL = 6.0  # dB: slow change of loudness
RIPPLE = 3.0  # dB: fast change of loudness
TILT = 0.06  # overtones' ratio
WANDER = 2.0  # semitones: more than GLIDE, so that the pitch itself says little
HISS = 8.0  # dB: change of either background noise
RUSH = 0.15  # share of the tempo
SLOW = 1.5  # s: time scale of most of these
FAST = 0.4  # s: time scale of ripple
SPAN = 0.12  # octaves between speakers, up or down
FORMANTS = (600.0, 1500.0, 2700.0)  # Hz, of a middle-sized speaker
WIDTH = 0.3  # half-width of a formant, as a share of its frequency


@dataclass(frozen=True, slots=True)
class Speaker:
    """What does not change within a source."""

    pitch: float
    """Hz."""
    colour: float
    """Amplitude ratio of successive overtones."""
    level: float
    """Peaks of syllables, dB below full scale."""
    tempo: float
    """Syllables per second: several in the second that a row's features see."""
    hiss: float
    """Background noise, dB below full scale."""
    formants: FloatArray
    """(3,), Hz."""


@dataclass(frozen=True, slots=True)
class Score:
    """What changes, each (points,) at `CONTROL_RATE` from time 0."""

    pitch: FloatArray
    """Hz."""
    colour: FloatArray
    """Amplitude ratio of successive overtones."""
    level: FloatArray
    """dB below full scale."""
    white: FloatArray
    """White background noise, dB below full scale."""
    dark: FloatArray
    """The same for the noise that falls off with frequency."""


def random_speaker(rng: np.random.Generator) -> Speaker:
    """Draw a voice; bounded ranges, so that a few sources cover most of them.

    The pitch is a child's: its overtones stay apart on a mel scale of 64 bins.
    """
    return Speaker(
        pitch=420 * 2 ** rng.uniform(-SPAN, SPAN),
        colour=rng.uniform(0.68, 0.74),
        level=rng.uniform(-22, -18),
        tempo=rng.uniform(6.2, 7.8),
        hiss=rng.uniform(-61, -55),
        formants=rng.uniform(0.93, 1.08) * np.array(FORMANTS),
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
    count = round(seconds * SOUND_RATE)
    score = _score(rng, speaker, voice, seconds)
    buzz = _buzz(_dense(score.pitch, count), _dense(score.colour, count))
    wave = _resonate(buzz * _amplitude(score.level, count), speaker.formants)
    white, dark = (rng.standard_normal(count, dtype=np.float32) for _ in range(2))
    wave += white * _amplitude(score.white, count)
    wave += _darken(dark) * _amplitude(score.dark, count)
    return np.clip(wave, -1, 1)


def _score(rng: np.random.Generator, speaker: Speaker, voice: FloatArray, seconds: float) -> Score:
    """Write down what the voice does; arguments as for `synthesise_voice`."""
    times = np.arange(int(seconds * CONTROL_RATE) + 2) / CONTROL_RATE
    grid = np.arange(voice.shape[0]) / GRID_RATE
    latents = [np.interp(times, grid, column) for column in voice.T]
    drifted = [latent + DRIFT * smooth_noise(rng, times, SLOW) for latent in latents]
    valence, arousal = (2.5 * np.tanh(latent / 2.5) for latent in drifted)
    place = _syllables(rng, speaker.tempo, times)
    wander = WANDER * smooth_noise(rng, times, SLOW)
    swell = SWELL * smooth_noise(rng, times, SLOW) + RIPPLE * smooth_noise(rng, times, FAST)
    tilt = TILT * smooth_noise(rng, times, SLOW)
    return Score(
        pitch=speaker.pitch * 2 ** ((wander + GLIDE * valence * (2 * place - 1)) / 12),
        colour=np.clip(speaker.colour + tilt + COLOUR * arousal, 0.4, 0.88),
        level=speaker.level + swell + LOUDNESS * arousal - DEPTH * _fall(place, arousal),
        white=speaker.hiss + HISS * smooth_noise(rng, times, SLOW),
        dark=speaker.hiss + HISS * smooth_noise(rng, times, SLOW),
    )


def _syllables(rng: np.random.Generator, tempo: float, times: FloatArray) -> FloatArray:
    """Give the place within the current syllable, 0 to 1: (points,) for times in s."""
    speed = tempo * (1 + RUSH * smooth_noise(rng, times, 0.5))
    phase: FloatArray = np.cumsum(speed) / CONTROL_RATE
    return phase - np.floor(phase)


def _fall(place: FloatArray, arousal: FloatArray) -> FloatArray:
    """Say how far below its peak a syllable is, 0 to 1.

    It rises to the peak and falls from it in straight lines on a scale of dB: wherever the peak
    is, the syllable spends equal times at all levels.
    """
    peak = np.clip(0.5 - SKEW * arousal, EDGE, 1 - EDGE)
    return np.where(place < peak, 1 - place / peak, (place - peak) / (1 - peak))


def _dense(values: FloatArray, count: int) -> Wave:
    """Interpolate values at `CONTROL_RATE` to sound samples."""
    positions = np.arange(count, dtype=np.float64) * (CONTROL_RATE / SOUND_RATE)
    return np.interp(positions, np.arange(values.size), values).astype(np.float32)


def _amplitude(level: FloatArray, count: int) -> Wave:
    """Turn dB at `CONTROL_RATE` into factors at sound samples."""
    return np.exp(_dense(level * (np.log(10) / 20), count))


def _buzz(pitch: Wave, colour: Wave) -> Wave:
    """Sum all overtones r**(k-1) * sin(k * phase) in closed form: sin / (1 - 2 r cos + r**2).

    A ratio r below 0.9 puts what lies above the Nyquist frequency far below hearing.
    """
    phase = np.cumsum(pitch, dtype=np.float64) * (2 * np.pi / SOUND_RATE)
    phase = np.mod(phase, 2 * np.pi).astype(np.float32)
    wave = np.sin(phase) / (1 - 2 * colour * np.cos(phase) + colour**2)
    return wave.astype(np.float32)


def _resonate(wave: Wave, formants: FloatArray) -> Wave:
    """Filter through three resonances on a flat floor."""
    hertz = _frequencies(wave.size)
    away = (hertz - formants[:, None]) / (WIDTH * formants[:, None])
    return _filter(wave, 0.2 + np.sum(1 / (1 + away**2), axis=0))


def _darken(noise: Wave) -> Wave:
    """Let white noise fall off above 300 Hz by 6 dB an octave."""
    return _filter(noise, 4 / (1 + _frequencies(noise.size) / 300))


def _frequencies(count: int) -> FloatArray:
    """Give the frequencies in Hz at which `_filter` weighs a sound of `count` samples."""
    length = 1 << int(np.ceil(np.log2(count)))
    return np.fft.rfftfreq(length, 1 / SOUND_RATE).astype(np.float64)


def _filter(wave: Wave, gain: FloatArray) -> Wave:
    """Weigh a sound in the frequency domain; gain (frequencies,) as of `_frequencies`."""
    length = 2 * (gain.size - 1)
    spectrum = np.fft.rfft(wave, length) * gain.astype(np.float32)
    return np.fft.irfft(spectrum, length)[: wave.size].astype(np.float32)
