"""Text streams on real films: rows by the container's clock, the engine, plan and command."""

from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from concord.cache import ConfigError, FeatureStore
from concord.extract.affwild2 import scan
from concord.extract.engine import extract
from concord.extract.index import Index
from concord.extract.inputs import changed_inputs
from concord.extract.table import scan_table
from concord.pipelines.config import parse_config
from concord.pipelines.plan import Plan

from ..pipelines.commands import concord
from .plain_bert import KNOWN, NAME, reference, settings

pytest.importorskip("transformers")

LABELS = "VA_Set/Train_Set"
TIMES_MS = [0, 100, 200, 300, 400, 1400, 1500, 1600, 3000, 3040]
"""Of a file with a hole: at 10 rows a second row 5 would lie at 0.5 s, not at 1.4."""
WORDS = [
    ("\u200b\ufffd", 0.0, 0.05),  # a word that the tokenizer drops, so that its row has no value
    ("it", 0.1, 0.25),
    ("rain", 0.3, 0.6),
    ("fine", 1.4, 1.6),
    ("day", 3.0, 3.04),
    ("!", 3.1, 9),
]
SPOKEN = [None, "it", "it", "rain", "rain", "fine", "fine", None, "day", None, "!", "!"]
"""By hand: two rows more than frames go on at the median step, 100 ms: 3.14 and 3.24 s."""


def plain(words, language="en", recogniser="me"):
    listed = [{"word": w, "start": a, "end": b, "confidence": 0.5} for w, a, b in words]
    return json.dumps({"language": language, "recogniser": recogniser, "words": listed})


@pytest.fixture(scope="module")
def bert(tmp_path_factory, save_bert):
    return save_bert(tmp_path_factory.mktemp("bert"), KNOWN)


@pytest.fixture(scope="module")
def data(tmp_path_factory, media):
    """Two persons of one uneven film, and a film each: unsaid, silent, malformed; no film."""
    root = tmp_path_factory.mktemp("text") / "set"
    for name in ("5_left", "5_right"):
        media.labels(root / LABELS / f"{name}.txt", len(SPOKEN))
    for name in ("6", "7", "8", "9"):
        media.labels(root / LABELS / f"{name}.txt", 6)
    media.labels(root / "VA_Set" / "Validation_Set" / "10.txt", 6)
    frames = [media.picture(k) for k in range(len(TIMES_MS))]
    media.write(root / "batch1" / "5.mkv", frames, times=TIMES_MS)
    for name in ("6", "7", "8", "10"):
        media.write(root / "batch1" / f"{name}.mp4", frames[:6])
    folder = root / "transcripts"
    folder.mkdir()
    (folder / "5.json").write_text(plain(WORDS))
    (folder / "7.json").write_text(plain([], "de"))
    (folder / "8.ctm").write_text("8 1 0.0 0.2\n")
    (folder / "9.json").write_text(plain(WORDS))
    (folder / "10.srt").write_text("1\n00:00:00,000 --> 00:00:00,500\nit rain\n")
    return root


def run(data, bert, store, streams=None, **changes):
    streams = streams or {NAME: settings(bert, **changes), "labels/va": None}
    return extract(scan(data), streams, store)


@pytest.fixture(scope="module")
def done(tmp_path_factory, data, bert):
    store = FeatureStore.create(tmp_path_factory.mktemp("done") / "store")
    receipt = run(data, bert, store)
    return SimpleNamespace(store=store, receipt=receipt, stream=store[NAME])


def item_of(done, track):
    return done.stream.items[done.receipt.items[NAME][track].key]


def test_rows_lie_on_the_containers_clock(done, bert):
    item = item_of(done, "5_left")
    vectors = dict(
        zip(("it", "rain", "fine"), reference(bert, ["it", "rain", "fine"]), strict=True)
    )
    for word in ("day", "!"):
        vectors[word] = reference(bert, [word])[0]
    # The pause before "fine" is 0.8 s, so that sentences are: it rain / fine / day !
    vectors |= dict(zip(("it", "rain"), reference(bert, ["it", "rain"]), strict=True))
    vectors["fine"] = reference(bert, ["fine"])[0]
    vectors |= dict(zip(("day", "!"), reference(bert, ["day", "!"]), strict=True))
    assert item.valid.tolist() == [word is not None for word in SPOKEN]
    assert np.allclose(item.times, [*(t / 1000 for t in TIMES_MS), 3.14, 3.24])
    for row, word in enumerate(SPOKEN):
        expected = 0 if word is None else vectors[word]
        assert np.abs(item.rows[row] - expected).max() < 1e-5, row
    record = done.receipt.items[NAME]["5_left"]
    assert (record.rows, record.invalid, record.repeated) == (12, 3, 0)


def test_persons_of_one_source_share_their_words(done):
    items = done.receipt.items[NAME]
    assert items["5_left"] == items["5_right"]
    assert len(done.stream.items) == 3


def test_no_words_are_an_item_of_invalid_rows(done):
    item = item_of(done, "7")
    assert not item.valid.any()
    assert not np.asarray(item.rows).any()
    assert np.isfinite(item.times).all()


def test_what_cannot_be_read_is_in_quarantine(done):
    why = {
        entry.source: (entry.error, entry.message, entry.place) for entry in done.receipt.quarantine
    }
    assert sorted(why) == ["6", "8", "9"]
    assert {(error, place) for error, _, place in why.values()} == {("MediaError", "transcript")}
    assert why["6"][1].startswith("6: has no transcript; expected transcripts/6.json")
    assert why["8"][1].startswith("8.ctm, line 1: expected file, channel, start")
    assert why["9"][1].startswith("9: has no media file")


def test_an_item_says_what_it_was_made_of(done):
    inputs = item_of(done, "7").identity["inputs"]
    assert set(inputs) == {"media", "transcript", "language", "recogniser"}
    assert (inputs["language"], inputs["recogniser"]) == ("de", "me")
    provenance = item_of(done, "7").provenance
    assert set(provenance["versions"]) >= {"transformers", "tokenizers", "av"}
    recipe = provenance["recipe"]
    assert (recipe["backbone"], recipe["layers"], recipe["max_tokens"]) == ("BertModel", 4, 64)


def test_a_second_run_does_nothing(done, data, bert):
    before = {path: path.stat().st_mtime_ns for path in done.store.path.rglob("*")}
    assert run(data, bert, done.store) == done.receipt
    assert {path: path.stat().st_mtime_ns for path in done.store.path.rglob("*")} == before


def test_items_made_one_by_one_have_the_same_bytes(done, data, bert, tmp_path):
    store = FeatureStore.create(tmp_path / "store")
    for part in range(3, 0, -1):
        extract(scan(data), {NAME: settings(bert)}, store, part=(part, 3))
    found = {key: np.asarray(item.rows).tobytes() for key, item in store[NAME].items.items()}
    assert found == {k: np.asarray(i.rows).tobytes() for k, i in done.stream.items.items()}


def test_another_transcript_is_another_item(data, bert, done, tmp_path):
    copy = shutil.copytree(data, tmp_path / "copy")
    assert run(copy, bert, done.store) == done.receipt
    store = FeatureStore.create(tmp_path / "store")
    receipt = run(copy, bert, store)
    index = Index([receipt], store)
    assert changed_inputs(scan(copy), store, index.manifest(), lambda *_: None) == []
    path = copy / "transcripts" / "5.json"
    stat = path.stat()
    path.write_text(path.read_text().replace("rain", "fine"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = changed_inputs(scan(copy), store, index.manifest(), lambda *_: None)
    assert [(each.track, each.input, each.path) for each in found] == [
        (track, "transcript", "transcripts/5.json") for track in ("5_left", "5_right")
    ]
    after = run(copy, bert, store)
    assert after.items[NAME]["5_left"].key != receipt.items[NAME]["5_left"].key
    assert after.items[NAME]["10"] == receipt.items[NAME]["10"]


def test_rows_on_a_clock_of_their_own(bert, data, tmp_path, media):
    """A table says when rows are: every 0.2 s from 0.05 s on."""
    shutil.copy(data / "batch1" / "5.mkv", tmp_path / "5.mkv")
    (tmp_path / "5.json").write_text(plain(WORDS))
    (tmp_path / "labels.txt").write_text("valence,arousal\n" + "0,0\n" * 9)
    columns = "track,media,split,labels,rate,start_s,transcript"
    line = "a,5.mkv,train,labels.txt,5,0.05,5.json"
    (tmp_path / "tracks.csv").write_text(f"{columns}\n{line}\n")
    store = FeatureStore.create(tmp_path / "store")
    receipt = extract(scan_table(tmp_path), {NAME: settings(bert), "labels/va": None}, store)
    item = store[NAME].items[receipt.items[NAME]["a"].key]
    assert np.allclose(item.times, 0.05 + 0.2 * np.arange(9))
    # 0.05, 0.25, …, 1.65: "it" lasts to before 0.25, "rain" is at 0.45, "fine" at 1.45.
    assert np.flatnonzero(item.valid).tolist() == [2, 7]
    assert np.abs(item.rows[2] - reference(bert, ["it", "rain"])[1]).max() < 1e-5
    # Then sound alone will do.
    (tmp_path / "5.mkv").unlink()
    media.write(tmp_path / "5.wav", sound=media.tone(2), sound_codec="pcm_s16le")
    (tmp_path / "tracks.csv").write_text(f"{columns}\n{line.replace('mkv', 'wav')}\n")
    receipt = extract(scan_table(tmp_path), {NAME: settings(bert), "labels/va": None}, store)
    heard = store[NAME].items[receipt.items[NAME]["a"].key]
    assert heard.key != item.key
    assert np.array_equal(heard.rows, item.rows)


def config(bert, data, **changes):
    text = {"weights": str(bert), "max_tokens": 64, **changes}
    return {"data": {"adapter": "affwild2", "path": str(data)}, "streams": {NAME: text}, "parts": 1}


def test_the_plan_lists_transcripts_and_weights(bert, data):
    inputs = Plan.of(config(bert, data)).inputs("text-bert", 1)
    assert {f"{data}/transcripts/5.json", f"{data}/batch1/5.mkv"} <= set(inputs)
    assert {str(path) for path in bert.iterdir()} <= set(inputs)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weights": ""}, r"streams\.text/bert\.weights: expected a folder"),
        ({"layers": 0}, "layers: expected at least 1, found 0"),
        ({"max_tokens": 4}, "max_tokens: expected at least 8"),
        ({"pause": 0.0}, "pause: expected more than 0 seconds"),
        ({"chunk": "word"}, "chunk: expected one of sentence, longest"),
        ({"stride": 2}, "stride: unknown key"),
    ],
)
def test_wrong_settings_are_told_before_work_starts(bert, data, changes, says):
    with pytest.raises(ConfigError, match=says):
        parse_config(config(bert, data, **changes))


def test_the_command_needs_a_folder_of_weights_alone(bert, data, tmp_path):
    words = ["--data", str(data), "--store", str(tmp_path / "store"), "--stream", NAME]
    # This BERT takes no more than 64 tokens, and the command's default is 256.
    large = shutil.copytree(bert, tmp_path / "large")
    told_config = json.loads((large / "config.json").read_text())
    from safetensors.torch import load_file, save_file

    state = load_file(large / "model.safetensors")
    places = "embeddings.position_embeddings.weight"
    state[places] = state[places].repeat(4, 1)
    save_file(state, large / "model.safetensors", metadata={"format": "pt"})
    told_config["max_position_embeddings"] = 256
    (large / "config.json").write_text(json.dumps(told_config))
    words += ["--weights", f"{NAME}={large}", "--budget", "0.6", "--device", "cpu"]
    done = concord("extract", "run", *words)
    assert done.returncode == 0, done.stderr
    assert "3 of 6 sources in quarantine" in done.stdout
    assert FeatureStore(tmp_path / "store")[NAME]["10"].valid.sum() == 5
