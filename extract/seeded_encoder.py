"""A small BERT of random weights that spells every word: for trials where no trained one is."""

from __future__ import annotations

import string
from pathlib import Path

import torch

WIDTH, LAYERS, HEADS, POSITIONS = 128, 4, 4, 512
SPREAD = 0.2
"""Of the random weights; with BERT's own 0.02 all words have nearly the same vector."""
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def save_seeded(folder: Path, seed: int) -> None:
    """Save network and tokenizer into an empty folder, the same bytes for the same seed.

    Raises:
        ImportError: transformers is missing.
    """
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = [*string.ascii_lowercase, *string.digits, *"'.,!?-"]
    pieces = [*MARKS, *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=POSITIONS,
        initializer_range=SPREAD,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
