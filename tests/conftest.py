"""The demo data set, made and extracted once for all tests that need it."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from hypothesis import settings

# Small networks gain nothing from a second thread, and lose much on a busy machine.
torch.set_num_threads(1)

# Where a test does not say how many; `--hypothesis-profile exhaustive` tries many more.
settings.register_profile("quick", max_examples=40)
settings.register_profile("exhaustive", max_examples=1000)
settings.load_profile("quick")


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A folder in which the demo has been made and extracted, as the workflow does it."""
    return extracted(tmp_path_factory.mktemp("demo"), {"base": "demo"}, bad=2)


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory):
    """The same for the tiny profile, with few rows computed: it takes seconds."""
    streams = {
        "visual/resnet18": {"weights": "seeded", "resize": 32, "crop": 32, "stride": 40},
        "audio/resnet18": {"weights": "seeded", "stride": 40},
    }
    own = {"base": "demo", "data": {"profile": "tiny"}, "streams": streams, "failure_budget": 1.0}
    return extracted(tmp_path_factory.mktemp("tiny"), own, bad=1)


def extracted(folder, values, bad):
    """Make a configuration's demo and extract it; `bad` of its sources end in quarantine."""
    from concord.pipelines.config import load_config
    from concord.pipelines.demo import make_demo

    settings = folder / "demo.yaml"
    settings.write_text(yaml.safe_dump(values))
    config = load_config(settings)
    make_demo(folder / config.data.path, config.data.profile, config.data.seed)
    command = [sys.executable, "-m", "concord.pipelines", "extract"]
    receipts = [folder / f"{i}.json" for i in range(2)]
    names = [["visual/resnet18"], ["audio/resnet18", "labels/va"]]
    running = [
        subprocess.Popen(
            [
                *command,
                "run",
                "--config",
                str(settings),
                *(f"--stream={name}" for name in names),
                "--receipt",
                str(receipt),
                "--threads=1",
            ],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for names, receipt in zip(names, receipts, strict=True)
    ]
    assert [process.wait(timeout=600) for process in running] == [0, 0]
    index = [*command, "index", *map(str, receipts), "--store", config.store_path]
    index += ["--coverage", "coverage.json", "--budget", str(config.failure_budget)]
    subprocess.run(index, cwd=folder, check=True, timeout=120)
    assert json.loads((folder / "coverage.json").read_text())["budget"]["quarantined"] == bad
    return folder


@pytest.fixture(scope="session")
def save_bert():
    """A maker of small random BERTs, saved as transformers saves them."""

    def save(folder, words, layers=4, seed=0):
        """Save one of 32 dimensions whose tokenizer knows `words`, and letters to spell others."""
        from transformers import BertConfig, BertModel, BertTokenizerFast

        folder.mkdir(parents=True, exist_ok=True)
        letters = "abcdefghijklmnopqrstuvwxyz'.!?"
        pieces = [*letters, *(f"##{letter}" for letter in letters), *words]
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(pieces)]
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=layers,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            # As trained ones have it: with 0.02 all words have nearly the same vector.
            initializer_range=0.2,
        )
        BertModel(config).save_pretrained(folder)
        return folder

    return save
