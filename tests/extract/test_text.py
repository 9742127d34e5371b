"""Text streams: words' vectors against a plain loop, recipes, and weights that are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from concord.cache import ConfigError
from concord.extract.compute import Workers
from concord.extract.encoder import BATCH, Encoder
from concord.extract.settings import TextSettings
from concord.extract.transcripts import Transcript, Word

from .plain_bert import KNOWN, NAME, reference, settings, stream

pytest.importorskip("transformers")

SENTENCES = (
    "it doesn't rain .",
    "fine !",
    "we said that it would be a fine day , and it was .",
    "she's so unbelievably happy ?",
)
TEXTS = [text for sentence in SENTENCES for text in sentence.split()]


@pytest.fixture(scope="module")
def bert(tmp_path_factory, save_bert):
    return save_bert(tmp_path_factory.mktemp("bert"), KNOWN)


def told(texts, start=0.0, each=0.5):
    """A transcript of words that follow one another."""
    return Transcript(
        tuple(Word(text, start + n * each, start + (n + 1) * each) for n, text in enumerate(texts))
    )


@pytest.mark.parametrize("layers", [1, 4])
def test_vectors_are_those_of_a_plain_loop(bert, layers):
    found, known = stream(bert, layers=layers).vectors(told(TEXTS))
    expected = [reference(bert, sentence.split(), layers) for sentence in SENTENCES]
    error = np.abs(found - np.concatenate(expected)).max()
    print(f"largest difference from the loop: {error:.1e}")
    assert error < 1e-5
    assert known.all()
    assert np.linalg.norm(found, axis=1).min() > 1


def test_long_sentences_are_read_in_pieces(bert):
    texts = ["rain"] * 7 + ["fine"] * 7
    found, known = stream(bert, max_tokens=10).vectors(told(texts))
    expected = [reference(bert, part) for part in (texts[:8], texts[8:])]
    assert np.abs(found - np.concatenate(expected)).max() < 1e-5
    assert known.all()


def test_sentences_are_read_together_where_that_is_wished(bert):
    found, _ = stream(bert, chunk="longest").vectors(told(["it", "rain.", "fine", "day."]))
    expected = reference(bert, ["it", "rain.", "fine", "day."])
    assert np.abs(found - expected).max() < 1e-5


def test_words_that_the_tokenizer_drops_or_that_are_too_long(bert):
    found, known = stream(bert, max_tokens=12).vectors(
        told(["it", "\u200b\ufffd", "a" * 60, "day"])
    )
    assert known.tolist() == [True, False, True, True]
    assert not found[1].any()
    # The tokenizer does not spell words over a hundred letters; this one is cut after ten pieces.
    assert np.abs(found[2] - reference(bert, ["a" * 10])[0]).max() < 1e-5


def test_what_else_is_read_changes_no_bits(bert):
    worker = stream(bert)
    texts = [f"{'fine ' * n}day ." for n in range(1, 2 * BATCH)]
    alone = worker.vectors(told(texts[0].split()))[0]
    worker.vectors(told(" ".join(texts).split()))
    assert np.array_equal(worker.vectors(told(texts[0].split()))[0], alone)
    again = stream(bert).vectors(told(" ".join(texts).split()))[0]
    assert np.array_equal(again, worker.vectors(told(" ".join(texts).split()))[0])


def test_other_encoders_are_read_too(tmp_path):
    """RoBERTa: spaces belong to words, two positions are kept, and no pooler is saved."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([*SENTENCES] * 3, vocab_size=300, special_tokens=special)
    trained.save_model(str(tmp_path))
    RobertaTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    config = RobertaConfig(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=66,
        pad_token_id=1,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    model = RobertaModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path)
    worker = stream(tmp_path, layers=2)
    assert worker.recipe.weights == stream(tmp_path, layers=2).recipe.weights
    found, known = worker.vectors(told(["it", "doesn't", "rain"]))
    ids = [0, *(i for text in ("it", "doesn't", "rain") for i in trained.encode(f" {text}").ids), 2]
    lengths = [len(trained.encode(f" {text}").ids) for text in ("it", "doesn't", "rain")]
    with torch.no_grad():
        hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    summed = (hidden[-1] + hidden[-2])[0, 1:-1]
    expected = [part.mean(0).numpy() for part in summed.split(lengths)]
    assert np.abs(found - np.stack(expected)).max() < 1e-5
    assert known.all()
    with pytest.raises(ConfigError, match="max_tokens: expected at most 64"):
        stream(tmp_path, layers=2, max_tokens=65)


def test_recipes_follow_from_tensors_tokenizer_and_configuration(bert, tmp_path, save_bert):
    first = stream(bert).recipe
    copy = shutil.copytree(bert, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config |= {"transformers_version": "0", "_name_or_path": "elsewhere"}
    (copy / "config.json").write_text(json.dumps(config))
    assert stream(copy).recipe == first
    (copy / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
    assert stream(copy).recipe.config != first.config
    assert stream(save_bert(tmp_path / "same", KNOWN)).recipe == first
    other = stream(save_bert(tmp_path / "seed", KNOWN, seed=1)).recipe
    assert (other.weights != first.weights, other.tokenizer) == (True, first.tokenizer)
    assert stream(save_bert(tmp_path / "words", KNOWN[::-1])).recipe.tokenizer != first.tokenizer


def no_tensors(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_tokenizer(folder):
    for path in [*folder.glob("tokenizer*"), folder / "vocab.txt"]:
        path.unlink()


def another_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    with (folder / "vocab.txt").open("a") as file:
        file.write("surplus\n")


def half_the_tensors(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in state.items() if "layer.2" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def garbage(folder):
    (folder / "model.safetensors").write_bytes(b"no tensors" * 100)


@pytest.mark.parametrize(
    ("damage", "changes", "says"),
    [
        (None, {"layers": 5}, "layers: expected 1 to 4, .* found 5"),
        (None, {"max_tokens": 65}, "max_tokens: expected at most 64, .* found 65"),
        (no_tensors, {}, r"model\.safetensors, found pytorch_model\.bin, which may run code"),
        (no_tokenizer, {}, "no tokenizer"),
        (another_tokenizer, {}, "the tokenizer has 71 pieces, the network knows 70"),
        (half_the_tensors, {}, "do not fit: missing encoder.layer.2"),
        (garbage, {}, "cannot be loaded"),
        (lambda folder: (folder / "config.json").unlink(), {}, r"expected a config\.json"),
    ],
)
def test_weights_that_are_refused(bert, tmp_path, damage, changes, says):
    copy = shutil.copytree(bert, tmp_path / "copy")
    if damage:
        damage(copy)
    with pytest.raises(ConfigError, match=says):
        stream(copy, **changes)


def test_a_name_that_cannot_be_fetched(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="'nobody/none': no such folder, and not to be fetched"):
        stream("nobody/none")


def test_without_transformers_the_command_is_named(bert):
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import torch\n"
        "from concord.extract.compute import Workers\n"
        "from concord.extract.settings import TextSettings\n"
        f"Workers({{'text/bert': TextSettings(weights={str(bert)!r})}}, 'cpu')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigError: text/bert: reading text needs transformers" in done.stderr
    assert "pip install 'concord[text]'" in done.stderr


def test_workers_know_what_text_is_read_from(bert):
    workers = Workers({NAME: settings(bert)}, "cpu")
    assert workers.reads(NAME) == "transcript"
    assert workers.recipe(NAME) == stream(bert).recipe


def test_a_seeded_encoder_spells_words_and_is_the_same_every_time():
    words = ["happy", "don't", "7", "éclair"]
    told = {}
    for weights in ("seeded", "seeded:0", "seeded:1"):
        encoder = Encoder("text/bert", TextSettings(weights=weights), torch.device("cpu"))
        torch.rand(1)
        ((vectors, known),) = encoder.encode([words])
        assert known.all()
        told[weights] = (encoder.weights, encoder.tokenizer_digest, vectors.tobytes())
        assert encoder.lengths(words)[:3] == [5, 5, 1]
    assert told["seeded"] == told["seeded:0"]
    assert told["seeded"][0] != told["seeded:1"][0]
    with pytest.raises(ConfigError, match="expected seeded or seeded:N, found 'seeded:x'"):
        Encoder("text/bert", TextSettings(weights="seeded:x"), torch.device("cpu"))
