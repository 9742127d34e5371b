"""Text streams of a small BERT, and a plain loop that says what its vectors of words are."""

from __future__ import annotations

import numpy as np
import torch
from concord.extract.settings import TextSettings
from concord.extract.text import TextStream

NAME = "text/bert"
KNOWN = ["it", "rain", "fine", "day", "happ", "##y"]
"""Words that the tokenizer of the tests knows; it spells others."""


def settings(bert, **changes):
    return TextSettings(**{"weights": str(bert), "max_tokens": 64, "dtype": "float32", **changes})


def stream(bert, **changes):
    return TextStream(NAME, settings(bert, **changes), torch.device("cpu"))


def reference(bert, texts, layers=4):
    """Vectors of one sentence's words, as the formula says: piece by piece, word by word."""
    from transformers import BertModel, BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(bert)
    model = BertModel.from_pretrained(bert, attn_implementation="eager").eval()
    pieces = [tokenizer.tokenize(text) for text in texts]
    flat = [tokenizer.cls_token, *(p for own in pieces for p in own), tokenizer.sep_token]
    with torch.no_grad():
        ids = torch.tensor([tokenizer.convert_tokens_to_ids(flat)])
        hidden = model(ids, output_hidden_states=True).hidden_states
    summed = sum(hidden[-k][0] for k in range(1, layers + 1)).numpy()
    vectors, at = [], 1
    for own in pieces:
        vectors.append(sum(summed[at + k] for k in range(len(own))) / len(own))
        at += len(own)
    assert at == len(flat) - 1
    return np.stack(vectors)
