"""Transcribing in real processes: words on the container's clock, going on after a stop, errors."""

import json
import os
import subprocess
import sys
import wave
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from concord.extract.affwild2 import scan
from concord.extract.transcripts import read_transcript
from concord.pipelines.commands_extract import group
from concord.pipelines.demo_media import encode_mp4

RATE = 44_100
BURSTS = {"1": [(0.5, 0.9), (2.0, 2.6), (23.2, 24.0)], "2_left": [(0.2, 0.4)], "3": []}
"""Seconds of tone within the sound of each source; the first one lasts to the sound's very end."""
START = 0.7
"""Seconds before the sound of source 1 begins."""

PLUGIN = '''
"""A recogniser of tones: a word for each, told when it is over."""
import os
import numpy as np
from concord.extract.recogniser import RATE
from concord.extract.transcripts import Word

BLOCK = RATE // 100

class Tones:
    name, model, model_sha256 = "tones 1", "none", ""

    def __init__(self, model, language, device):
        self.language = language or "xx"
        self.limit = float(model or 0.05)
        self.stretches = 0

    def begin(self):
        self.stretches += 1
        if os.environ.get("STOP_AT") == str(self.stretches):
            os._exit(9)
        self.left, self.at, self.since = np.zeros(0, np.float32), 0, None

    def hear(self, samples):
        self.left = np.concatenate([self.left, samples])
        while len(self.left) >= BLOCK:
            block, self.left = self.left[:BLOCK], self.left[BLOCK:]
            loud = np.abs(block).max() > self.limit
            if loud and self.since is None:
                self.since = self.at
            elif not loud and self.since is not None:
                yield self.told()
            self.at += BLOCK

    def end(self):
        if self.since is not None:
            yield self.told()

    def told(self):
        start, self.since = self.since, None
        return Word("tone", start / RATE, self.at / RATE, 0.75)
'''


def sound(bursts, seconds):
    wave_ = np.zeros(round(seconds * RATE), np.float32)
    for start, end in bursts:
        t = np.arange(round(start * RATE), round(end * RATE))
        wave_[t] = 0.5 * np.sin(t / RATE * 2 * np.pi * 440)
    return wave_


def write_media(path, bursts, seconds, start=0.0):
    frames = np.zeros((max(2, round(seconds)), 32, 32, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_mp4(frames, Fraction(1), sound(bursts, seconds), start))


def write_silent_film(path):
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width = stream.height = 32
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "set"
    (root / "VA_Set" / "Train_Set").mkdir(parents=True)
    for name in ("1", "2_left", "3", "4", "5"):
        (root / "VA_Set" / "Train_Set" / f"{name}.txt").write_text("valence,arousal\n0,0\n")
    write_media(root / "1.mp4", BURSTS["1"], 24.0, START)
    write_media(root / "2.mp4", BURSTS["2_left"], 1.0)
    write_silent_film(root / "3.mp4")
    (root / "4.mp4").write_bytes(b"no film at all" * 100)
    (root / "transcripts").mkdir()
    (root / "transcripts" / "5.srt").write_text("")
    (tmp_path / "mine.py").write_text(PLUGIN)
    return root


def transcribe(data, *words, stop_at=0, recogniser="mine:Tones"):

    command = [sys.executable, "-m", "concord.pipelines", "extract", "transcribe", "--data", data]
    command += ["--recogniser", recogniser, "--device", "cpu", *words]
    environment = {**os.environ, "STOP_AT": str(stop_at)}
    return subprocess.run(
        [str(word) for word in command],
        cwd=data.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_words_lie_on_the_containers_clock_and_the_last_one_is_heard(data):
    done = transcribe(data, "--language", "en")
    assert done.returncode == 0, done.stderr
    assert "3 of 4 sources transcribed" in done.stdout
    assert "not transcribed: 4.mp4: cannot be opened" in done.stderr
    told = read_transcript(data / "transcripts" / "1.json")
    found = np.array([(word.start_s, word.end_s) for word in told.words])
    # The codec smears edges and rounds the end up to a frame of 23 ms.
    assert np.allclose(found, np.array(BURSTS["1"]) + START, atol=0.05)
    assert (told.language, told.recogniser) == ("en", "tones 1, none")
    assert {word.confidence for word in told.words} == {0.75}
    empty = read_transcript(data / "transcripts" / "3.json")
    assert (empty.words, empty.language) == ((), "")
    record = json.loads((data / "transcripts" / "1.json").read_text())
    assert record["model"] == {"name": "none", "sha256": ""}
    assert {track.name: track.transcript for track in scan(data).tracks} == {
        "1": "transcripts/1.json",
        "2_left": "transcripts/2.json",
        "3": "transcripts/3.json",
        "4": None,
        "5": "transcripts/5.srt",
    }


def test_a_run_that_was_killed_goes_on(data):
    folder = data / "transcripts"
    assert transcribe(data, stop_at=2).returncode == 9
    assert sorted(path.name for path in folder.iterdir()) == ["1.json", "5.srt"]
    before = (folder / "1.json").stat()
    done = transcribe(data)
    assert "2 of 3 sources transcribed" in done.stdout
    after = (folder / "1.json").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_with_nothing_to_do_no_recogniser_is_loaded(data):
    for name in ("1", "2", "3", "4"):
        (data / "transcripts" / f"{name}.ctm").write_text("")
    done = CliRunner().invoke(group, ["transcribe", "--data", str(data), "--recogniser", "nobody"])
    assert "all 5 sources have a transcript" in done.output


def test_more_failures_than_the_budget_allows(data):
    (data / "4.mp4").unlink()
    done = transcribe(data, "--budget", "0.1")
    assert done.returncode == 3
    assert "not transcribed: 4: has no media file" in done.stderr
    assert "BudgetError: 1 of 5 sources could not be transcribed" in done.stderr
    # What could be is there.
    assert (data / "transcripts" / "1.json").exists()


def test_sound_alone_and_a_cut_file(data):
    for name in ("3", "4"):
        (data / f"{name}.mp4").unlink()
    with wave.open(str(data / "3.wav"), "w") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((sound([(0.4, 0.8)], 1.5) * 32767).astype("<i2").tobytes())
    content = (data / "3.wav").read_bytes()
    (data / "4.wav").write_bytes(content[: len(content) * 3 // 4])
    assert transcribe(data).returncode == 0
    for name in ("3", "4"):
        (word,) = read_transcript(data / "transcripts" / f"{name}.json").words
        assert (word.start_s, word.end_s) == pytest.approx((0.4, 0.8), abs=0.03)


@pytest.mark.parametrize(
    ("recogniser", "words", "says"),
    [
        ("nobody", (), "unknown recogniser 'nobody'; known: faster-whisper, or module:Class"),
        ("mine:Nobody", (), "recogniser 'mine:Nobody': mine:Nobody cannot be imported"),
    ],
)
def test_recognisers_that_are_refused(data, recogniser, words, says):
    done = transcribe(data, *words, recogniser=recogniser)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (data / "transcripts" / "1.json").exists()


def test_faster_whisper_or_its_model_is_missing(tmp_path):
    code = (
        "import sys; sys.modules['faster_whisper'] = None\n"
        "from concord.extract.recogniser import build_recogniser\n"
        "build_recogniser('faster-whisper', 'small', '', 'cpu')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "is not installed; pip install 'concord[transcribe]'" in done.stderr
    pytest.importorskip("faster_whisper")
    from concord.cache import ConfigError
    from concord.extract.recogniser import build_recogniser

    with pytest.raises(ConfigError, match="needs --model: a folder with a CTranslate2 model"):
        build_recogniser("faster-whisper", "", "", "cpu")
    with pytest.raises(ConfigError, match=r"expected a CTranslate2 model with a model\.bin"):
        build_recogniser("faster-whisper", str(tmp_path), "", "cpu")


def save_whisper(folder):
    """Save a tiny Whisper that says `aaa` of everything, as CTranslate2 reads it."""
    import torch
    from ctranslate2.converters import TransformersConverter
    from faster_whisper.tokenizer import _LANGUAGE_CODES
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    told = ["endoftext", "startoftranscript", *_LANGUAGE_CODES, "translate", "transcribe"]
    told += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    told += [f"{n * 0.02:.2f}" for n in range(1501)]
    tokenizer.add_special_tokens([f"<|{each}|>" for each in told])
    end = tokenizer.token_to_id("<|endoftext|>")
    sizes = {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    sizes |= {f"{part}_ffn_dim": 32 for part in ("encoder", "decoder")}
    ends = {f"{kind}_token_id": end for kind in ("pad", "bos", "eos")}
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        decoder_start_token_id=tokenizer.token_to_id("<|startoftranscript|>"),
        suppress_tokens=[],
        begin_suppress_tokens=[],
        **sizes,
        **ends,
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        norm, table = model.model.decoder.layer_norm, model.model.decoder.embed_tokens.weight
        said = [table[tokenizer.token_to_id(letter)] for letter in ("a", "\u0120")]
        norm.weight.mul_(0.05)
        norm.bias.copy_(200 * (said[0] + 1.02 * said[1]))
    model.generation_config.alignment_heads = [[1, 0], [1, 1]]
    model.save_pretrained(folder / "hf")
    WhisperFeatureExtractor().save_pretrained(folder / "hf")
    tokenizer.save(str(folder / "hf" / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<|endoftext|>"}
    (folder / "hf" / "tokenizer_config.json").write_text(json.dumps(kind))
    beside = ["tokenizer.json", "preprocessor_config.json"]
    TransformersConverter(str(folder / "hf"), copy_files=beside).convert(str(folder / "ct2"))
    return folder / "ct2"


@pytest.mark.slow
def test_faster_whisper_itself(tmp_path, monkeypatch):
    """The real library on a model that is made here: what it says is nonsense, when is not."""
    pytest.importorskip("ctranslate2")
    pytest.importorskip("transformers")
    from concord.extract.recogniser import build_recogniser

    # Its threads wait by spinning, which takes minutes where others work too.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    hears = build_recogniser("faster-whisper", str(save_whisper(tmp_path)), "en", "cpu")
    # Syllables of a buzz, which its detector takes for a voice.
    t = np.arange(16_000 * 4) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 30))
    sound_ = (0.2 * buzz * (np.sin(2 * np.pi * 3 * t) > -0.3)).astype(np.float32)
    found = []
    for _ in range(2):
        hears.begin()
        assert [*hears.hear(sound_[:30_000]), *hears.hear(sound_[30_000:])] == []
        found.append(list(hears.end()))
    assert found[0] == found[1]
    assert {word.text.strip("a") for word in found[0]} == {""}
    assert all(0 <= word.start_s <= word.end_s <= 4 for word in found[0])
    assert hears.language == "en"
    assert (hears.name.split()[0], hears.model, len(hears.model_sha256)) == (
        "faster-whisper",
        "ct2",
        64,
    )
    hears.begin()
    assert list(hears.end()) == []
