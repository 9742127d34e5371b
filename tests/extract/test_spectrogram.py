"""Row spectrograms against torchaudio's own transforms of every row's segment, one at a time.

Cells are normalised: 1e-5 is 2e-4 dB. Both sides transform the same float32 frames, so that they
agree to 1e-6 even just above the floor, where the rounding of a transform weighs most.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from concord.extract.media import Sound
from concord.extract.row_spectrograms import KEPT_SEGMENTS, ROWS, RowSpectrograms
from concord.extract.spectrogram import PRESETS, LogMel, mel_bank
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram, Spectrogram

CLOSE = 1e-5
# name: samples per second, of a segment, of it after the row's own, shape of a picture.
SHAPES = {
    "livia": (44_100, 45_599, 0, (64, 104)),
    "tsav": (44_100, 441_000, 220_500, (64, 1001)),
    "vggish": (16_000, 15_600, 7_800, (64, 96)),
}
mel = MelSpectrogram(44_100, n_fft=1024, win_length=882, hop_length=441, n_mels=64)
to_db = AmplitudeToDB("power", 80.0)
magnitude = Spectrogram(n_fft=512, win_length=400, hop_length=160, power=1.0, center=False)


def vggish_bank():
    """VGGish's filters, as its paper's code has them: straight flanks on the mel axis."""
    mels = [1127 * np.log(1 + f / 700) for f in np.arange(257) * 8000 / 256]
    low, high = (1127 * np.log(1 + f / 700) for f in (125, 7500))
    corner = [low + k * (high - low) / 65 for k in range(66)]
    bank = np.zeros((257, 64))
    for b in range(64):
        for f in range(1, 257):
            rise = (mels[f] - corner[b]) / (corner[b + 1] - corner[b])
            fall = (corner[b + 2] - mels[f]) / (corner[b + 2] - corner[b + 1])
            bank[f, b] = max(0.0, min(rise, fall))
    return torch.from_numpy(bank).float()


BANK = vggish_bank()


def segment_picture(name, segment):
    """One segment's picture by torchaudio."""
    if name == "vggish":
        # torchaudio sets the window of 400 into the middle of 512 samples: 56 at either side.
        spectrum = magnitude(torch.nn.functional.pad(segment, (56, 56)))
        return torch.log(BANK.T @ spectrum + 0.01)
    return (to_db(mel(segment)[None])[0] + 14.8) / 19.895


def loop(name, line, start, times, shift=0):
    """Every row's segment, cut and transformed by itself; a shift is a fault on purpose."""
    rate, length, ahead, shape = SHAPES[name]
    end = start + len(line) / rate
    pictures = []
    for time in times:
        if not start <= time <= end + 0.5:
            pictures.append(torch.zeros(shape))
            continue
        last = round(float((time - start) * rate)) + ahead + shift
        segment = torch.zeros(length)
        low, high = max(0, last - length + 1), min(len(line), last + 1)
        if low < high:
            place = low - (last - length + 1)
            segment[place : place + high - low] = torch.from_numpy(line[low:high])
        pictures.append(segment_picture(name, segment))
    return torch.stack(pictures)[:, None]


def stretches(line, rate, start, sizes):
    """Cut a line into stretches of these sizes, again and again."""
    sounds, at = [], 0
    while at < len(line):
        size = sizes[len(sounds) % len(sizes)]
        sounds.append(Sound(start + at / rate, rate, line[at : at + size]))
        at += size
    return sounds


def run(name, sounds, times):
    """Feed sounds one by one, taking what is ready after each: all pictures, all valid."""
    rows = RowSpectrograms(PRESETS[name], np.asarray(times))
    parts = []
    for sound in sounds:
        rows.feed(sound)
        parts += list(rows.pictures())
    rows.finish()
    parts += list(rows.pictures())
    assert [part.first for part in parts] == np.cumsum([0, *(len(p.valid) for p in parts)])[
        :-1
    ].tolist()
    valid = np.concatenate([part.valid for part in parts])
    assert valid.tolist() == rows.valid.tolist()
    return torch.cat([part.values for part in parts]), valid


def noise(seconds, rate, seed=0):
    """Noise that swells and fades over five decades, with a tone: floors cut some cells."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    swell = 10.0 ** (-2.5 + 2.5 * np.sin(2 * np.pi * t / 1.7))
    tone = 0.3 * np.sin(2 * np.pi * (300 + 200 * t) * t)
    return (swell * random.standard_normal(len(t)) + tone).astype(np.float32)


def clock(kind, seconds):
    """Times of rows."""
    if kind == "vfr":
        steps = np.random.default_rng(3).uniform(0.005, 0.09, 400)
        times = np.cumsum(steps)
        return times[times < seconds]
    if kind == "ms":
        return np.round(np.arange(int(seconds * 30)) / 30, 3)
    return np.arange(int(seconds * kind)) / kind


@pytest.mark.parametrize("start", [0.0, 0.7])
@pytest.mark.parametrize("kind", [25, 30, 30_000 / 1001, 24, "ms", "vfr"])
@pytest.mark.parametrize("name", ["livia", "vggish"])
def test_rows_equal_the_loop(name, kind, start):
    rate = SHAPES[name][0]
    line, times = noise(2.4, rate), clock(kind, 4.0)
    found, valid = run(name, [Sound(start, rate, line)], times)
    assert found.shape == (len(times), 1, *SHAPES[name][3])
    assert 0 < valid.sum() < len(times)
    expected = loop(name, line, start, times)
    assert (found - expected).abs().max() < CLOSE
    assert not found[~torch.from_numpy(valid)].any()


@pytest.mark.parametrize("kind", [25, 30_000 / 1001])
def test_tsav_rows_equal_the_loop(kind):
    line, times = noise(12.0, 44_100), clock(kind, 13.0)[::7]
    found, _ = run("tsav", stretches(line, 44_100, 0.3, [30_000]), times)
    assert (found - loop("tsav", line, 0.3, times)).abs().max() < CLOSE


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("hops", [0, 1, -1])
def test_a_fault_of_one_sample_or_hop_would_be_seen(name, hops):
    rate = SHAPES[name][0]
    line, times = noise(1.5, rate), [0.9, 1.0]
    found, _ = run(name, [Sound(0.0, rate, line)], times)
    shift = hops * PRESETS[name].hop or 1
    assert (found - loop(name, line, 0.0, times, shift)).abs().max() > 1000 * CLOSE


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(["livia", "vggish"]),
    st.lists(st.integers(1, 30_000), min_size=1, max_size=6),
    st.lists(st.floats(-0.2, 3.0), min_size=1, max_size=40).map(sorted),
    st.floats(-1, 1),
)
def test_chunk_by_chunk_equals_the_whole(name, sizes, times, start):
    rate = SHAPES[name][0]
    line = noise(1.3, rate, seed=1)
    # Many stretches of one sample each take long, and show nothing more than some of them do.
    sizes = [*sizes, 1, 1, 20_000]
    times = np.array(times) + start
    whole, valid = run(name, [Sound(start, rate, line)], times)
    parts, also = run(name, stretches(line, rate, start, sizes), times)
    assert torch.equal(whole, parts)
    assert valid.tolist() == also.tolist()
    assert (whole - loop(name, line, start, times)).abs().max() < CLOSE


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 900), st.integers(3, 20_000), st.lists(st.integers(1, 5000), min_size=1))
def test_gaps_are_silence(first, gap, sizes):
    line = noise(0.9, 16_000, seed=2)
    holed = np.concatenate([line[:first], np.zeros(gap, np.float32), line[first:]])
    after = (first + gap) / 16_000
    sounds = stretches(line[:first], 16_000, 0.0, sizes) if first else []
    sounds += stretches(line[first:], 16_000, after, sizes)
    if not first:
        holed, after = line, 0.0
        sounds = stretches(line, 16_000, 0.0, sizes)
    # Gaps below 2 ms are the rounding of times in containers.
    if gap < 32 and first:
        holed = line
    times = np.arange(0, 2.2, 0.04)
    found, _ = run("vggish", sounds, times)
    assert (found - loop("vggish", holed, 0.0, times)).abs().max() < CLOSE


def test_no_sound_gives_invalid_rows():
    found, valid = run("livia", [], np.arange(40) / 10)
    assert found.shape == (40, 1, 64, 104)
    assert not valid.any()
    assert not found.any()


@pytest.mark.parametrize("name", SHAPES)
def test_sound_of_a_few_samples(name):
    rate = SHAPES[name][0]
    line = noise(0.01, rate)
    times = [0.0, 0.3, 0.31, 0.80, 0.9]
    found, valid = run(name, [Sound(0.3, rate, line)], times)
    assert valid.tolist() == [False, True, True, True, False]
    assert (found - loop(name, line, 0.3, times)).abs().max() < CLOSE


@pytest.mark.parametrize("name", SHAPES)
def test_silence_is_finite(name):
    rate = SHAPES[name][0]
    line = np.zeros(rate, np.float32)
    found, valid = run(name, [Sound(0.0, rate, line)], [0.5, 0.6])
    assert valid.all()
    assert found.isfinite().all()
    assert (found - loop(name, line, 0.0, [0.5, 0.6])).abs().max() < CLOSE


def test_damaged_samples_are_silence():
    line = noise(1.0, 16_000)
    damaged = line.copy()
    damaged[[100, 5000, 9000]] = np.nan, np.inf, -np.inf
    line[[100, 5000, 9000]] = 0
    found, _ = run("vggish", [Sound(0.0, 16_000, damaged)], [0.5, 0.9])
    assert torch.equal(found, run("vggish", [Sound(0.0, 16_000, line)], [0.5, 0.9])[0])


def test_the_floor_lies_below_each_rows_own_maximum():
    loud, quiet = noise(1.2, 44_100), 1e-4 * noise(1.2, 44_100, seed=4)
    line = np.concatenate([loud, quiet])
    found, _ = run("livia", [Sound(0.0, 44_100, line)], [1.0, 2.39])
    spread = (found.amax((1, 2, 3)) - found.amin((1, 2, 3))) * 19.895
    assert spread.max() <= 80.001
    assert (found - loop("livia", line, 0.0, [1.0, 2.39])).abs().max() < CLOSE
    assert found[1].max() < found[0].max() - 3


def test_columns_that_see_mirrored_sound():
    edges = {name: preset.edges for name, preset in PRESETS.items()}
    assert edges == {"livia": (0, 103), "tsav": (0, 1000), "vggish": ()}
    for name, preset in PRESETS.items():
        assert (preset.rate, preset.segment, preset.ahead) == SHAPES[name][:3]
        assert (preset.mels, preset.columns) == SHAPES[name][3]


def test_banks():
    assert torch.equal(mel_bank(PRESETS["livia"]), mel.mel_scale.fb)
    assert (mel_bank(PRESETS["vggish"]) - BANK).abs().max() < 1e-6


def test_columns_depend_on_their_sound_alone():
    transform = LogMel(PRESETS["livia"], torch.device("cpu"))
    line = torch.from_numpy(noise(1.0, 44_100))
    places = torch.arange(0, 40_000, 101)
    whole = transform.columns(line, places)
    for count in (1, 2, 3, 5, 64, 127, 129):
        assert torch.equal(transform.columns(line, places[:count]), whole[:count])


@pytest.mark.parametrize(("fps", "most"), [(25, 6.5), (30, 13), (24, 42)])
def test_rows_of_one_phase_share_columns(monkeypatch, fps, most):
    made = []
    plain = LogMel.columns

    def counted(self, line, places):
        made.append(len(places))
        return plain(self, line, places)

    monkeypatch.setattr(LogMel, "columns", counted)
    line = noise(12.0, 44_100)
    run("livia", stretches(line, 44_100, 0.0, [1024]), np.arange(12 * fps) / fps)
    # At 24 every other row lies between two samples, and rounds to the even one.
    phases = {25: 1, 30: 3, 24: 9}[fps]
    assert (sum(made) - 104 * phases) / (12 * fps) < most


def bounded(name, rows, sounds):
    """Feed sounds and give the most samples and columns that were kept."""
    most = np.zeros(2, np.int64)
    given = 0
    for sound in sounds:
        rows.feed(sound)
        for part in rows.pictures():
            given += len(part.valid)
            assert len(part.valid) <= ROWS
            assert part.values.isfinite().all()
        most = np.maximum(most, rows.kept)
    rows.finish()
    return most.tolist(), given + sum(len(part.valid) for part in rows.pictures())


def test_two_hours_of_sound_need_little_memory():
    times = np.arange(5.0, 7200.0, 20.0)
    rows = RowSpectrograms(PRESETS["livia"], times)
    block = noise(10.0, 44_100)
    sounds = (Sound(10.0 * k, 44_100, block) for k in range(720))
    (samples, columns), given = bounded("livia", rows, sounds)
    assert given == len(times)
    assert samples <= 45_599 + len(block)
    assert columns <= KEPT_SEGMENTS * 104


@pytest.mark.parametrize("kind", [25, "ms", "vfr"])
def test_dense_rows_need_little_memory(kind):
    times = clock(kind, 20.0)
    rows = RowSpectrograms(PRESETS["vggish"], times)
    block = noise(0.5, 16_000)
    sounds = (Sound(0.5 * k, 16_000, block) for k in range(40))
    (samples, columns), given = bounded("vggish", rows, sounds)
    assert given == len(times)
    assert samples <= 15_600 + 2 * len(block)
    assert columns <= KEPT_SEGMENTS * 96


def test_a_gap_of_hours_needs_no_memory():
    times = np.array([0.1, 10.0, 9000.0, 9000.1])
    sounds = [Sound(0.0, 16_000, noise(0.5, 16_000)), Sound(9000.0, 16_000, noise(0.5, 16_000))]
    rows = RowSpectrograms(PRESETS["vggish"], times)
    (samples, _), given = bounded("vggish", rows, sounds)
    assert given == 4
    assert samples <= 16_000
    assert rows.valid.all()


def test_rows_are_given_when_their_last_sample_has_come():
    rows = RowSpectrograms(PRESETS["livia"], np.array([0.5, 1.0]))
    line = noise(1.2, 44_100)
    assert rows.ready == 0
    rows.feed(Sound(0.0, 44_100, line[:22_050]))
    assert rows.ready == 0
    rows.feed(Sound(0.5, 44_100, line[22_050:22_051]))
    assert rows.ready == 1
    assert len(next(rows.pictures()).valid) == 1
    assert rows.ready == 0
    rows.finish()
    assert rows.ready == 1


def test_misuse_is_refused():
    rows = RowSpectrograms(PRESETS["vggish"], np.array([0.5]))
    with pytest.raises(ValueError, match=r"44100 samples per second, expected 16000: resample"):
        rows.feed(Sound(0.0, 44_100, np.zeros(4, np.float32)))
    rows.finish()
    with pytest.raises(ValueError, match="comes after the end"):
        rows.feed(Sound(0.0, 16_000, np.zeros(4, np.float32)))
    for times in ([1.0, 0.5], [np.nan, 1.0], [np.nan]):
        with pytest.raises(ValueError, match="ascending"):
            RowSpectrograms(PRESETS["vggish"], np.array(times))
