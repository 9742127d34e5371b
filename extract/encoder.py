"""Encoders of text: a frozen BERT of the user's, from words in sentences to one vector each."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..cache import ConfigError
from ..cache.digests import digest, file_digest
from .seeded_encoder import save_seeded
from .weights import weights_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .settings import TextSettings

    Told = tuple[NDArray[np.float32], NDArray[np.bool_]]

BATCH = 8
"""Chunks per forward pass, always: the last batch of an item is filled with its first chunk. With
lengths in steps, a transcript has the same batches whenever it is computed, so the same numbers."""
STEP = 32
"""Tokens: chunks are padded to a multiple of it."""
SEEDED = "seeded"
CONFIG = "config.json"
TENSORS = "*.safetensors"
TOKENIZER = (
    "tokenizer*.json", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    "*.model",
)  # fmt: skip
"""Files that a tokenizer is made of; which ones, depends on its kind."""
SAID_OF_ITSELF = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")
"""Keys of a configuration that change no number here."""
NO_TRANSFORMERS = (
    "{}: reading text needs transformers, which is missing; pip install 'concord[text]'"
)


class Encoder:
    """A BERT-type network with its tokenizer; a word's vector is the mean of its pieces'.

    A piece's vector is the sum of the network's last hidden states, as many as `layers` says.
    """

    def __init__(self, name: str, settings: TextSettings, device: torch.device) -> None:
        """Load tokenizer and network; a hub's name is fetched first.

        Raises:
            ConfigError: transformers or the weights are not to be had, or do not fit the settings.
        """
        with weights_folder(name, settings.weights) as folder:
            self._tokenizer = _tokenizer(name, folder)
            network = _network(name, folder)
            self.tokenizer_digest = _files_digest(folder)
            self.config_digest = _config_digest(folder)
        self._device = device
        self._layers = settings.layers
        self._most = settings.max_tokens
        self._network = network.to(device)
        config: Any = network.config
        if len(self._tokenizer) > config.vocab_size:
            raise ConfigError(
                f"{name}: weights {settings.weights!r}: the tokenizer has {len(self._tokenizer)} "
                f"pieces, the network knows {config.vocab_size}; they do not belong together"
            )
        self.dim = int(config.hidden_size)
        """Length of a word's vector."""
        self.backbone = type(network).__name__
        self.weights = weights_digest(network)
        depth = int(config.num_hidden_layers)
        if not 1 <= settings.layers <= depth:
            raise ConfigError(
                f"{name}: layers: expected 1 to {depth}, which {settings.weights} has, "
                f"found {settings.layers}"
            )
        longest = min(_positions(network, config), int(self._tokenizer.model_max_length))
        if settings.max_tokens > longest:
            raise ConfigError(
                f"{name}: max_tokens: expected at most {longest}, which {settings.weights} takes, "
                f"found {settings.max_tokens}"
            )

    @property
    def most_pieces(self) -> int:
        """Most pieces of words in a chunk, beside the tokens that mark its ends."""
        return self._most - self._tokenizer.num_special_tokens_to_add(pair=False)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Count the pieces that each word is cut into; 0 for one that the tokenizer drops."""
        if not texts:
            return []
        found = self._tokenizer(
            list(texts), is_split_into_words=True, add_special_tokens=False, verbose=False
        )
        words = [word for word in found.word_ids(0) if word is not None]
        return np.bincount(words, minlength=len(texts)).tolist()

    def encode(self, chunks: Sequence[Sequence[str]]) -> Iterator[Told]:
        """Compute the vectors of the words of some chunks.

        Args:
            chunks: Words of each.

        Yields:
            Per chunk its words' vectors (words, dim), zeros for words that the tokenizer drops,
            and which words have one, (words,).
        """
        if not chunks:
            return
        found = self._tokenizer(
            [list(texts) for texts in chunks],
            is_split_into_words=True,
            truncation=True,
            max_length=self._most,
            padding=False,
        )
        tokens: list[list[int]] = found["input_ids"]
        pieces = self._pieces(tokens)
        for number, texts in enumerate(chunks):
            yield _means(pieces[number], found.word_ids(number), len(texts))

    def _pieces(self, tokens: Sequence[Sequence[int]]) -> dict[int, NDArray[np.float32]]:
        """Compute the vectors of all tokens: chunk to (tokens, dim)."""
        sizes = [min(-(-len(own) // STEP) * STEP, self._most) for own in tokens]
        values: dict[int, NDArray[np.float32]] = {}
        for size in sorted(set(sizes)):
            alike = [number for number, own in enumerate(sizes) if own == size]
            for first in range(0, len(alike), BATCH):
                batch = alike[first : first + BATCH]
                found = self._forward([tokens[number] for number in batch], size)
                values |= dict(zip(batch, found.numpy(), strict=False))
        return values

    @torch.inference_mode()
    def _forward(self, tokens: Sequence[Sequence[int]], size: int) -> Tensor:
        """(n ≤ 8, T) tokens of any lengths to (8, size, dim)."""
        ids = torch.full((BATCH, size), int(self._tokenizer.pad_token_id or 0))
        mask = torch.zeros_like(ids)
        for row in range(BATCH):
            own = tokens[row if row < len(tokens) else 0]
            ids[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = 1
        found = self._network(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            output_hidden_states=True,
        )
        return torch.stack(found.hidden_states[-self._layers :]).sum(0).float().cpu()


def _means(pieces: NDArray[np.float32], owners: Sequence[int | None], words: int) -> Told:
    """Average pieces (tokens or more, dim) by the word that each belongs to; None is no word's."""
    places = [place for place, owner in enumerate(owners) if owner is not None]
    numbers = np.array([owner for owner in owners if owner is not None], np.int64)
    sums = np.zeros((words, pieces.shape[1]), np.float32)
    np.add.at(sums, numbers, pieces[places])
    counts = np.bincount(numbers, minlength=words)
    return sums / np.maximum(counts, 1)[:, None].astype(np.float32), counts > 0


@contextmanager
def weights_folder(name: str, weights: str) -> Generator[Path]:
    """Give the folder of weights: of `seeded[:N]` a temporary one; a hub's name is fetched.

    Raises:
        ConfigError: It cannot be fetched, or lacks tensors in safetensors or a configuration.
    """
    word, _, seed = weights.partition(":")
    if word != SEEDED:
        yield _found(name, weights)
        return
    if seed and not seed.isdecimal():
        raise ConfigError(f"{name}: weights: expected seeded or seeded:N, found {weights!r}")
    with TemporaryDirectory() as made:
        try:
            save_seeded(Path(made), int(seed or 0))
        except ImportError as error:
            raise ConfigError(NO_TRANSFORMERS.format(name)) from error
        yield Path(made)


def _found(name: str, weights: str) -> Path:
    folder = Path(weights)
    if not folder.is_dir():
        folder = _fetched(name, weights)
    if not any(folder.glob(TENSORS)):
        other = next(iter(sorted(folder.glob("*.bin"))), None)
        found = f"found {other.name}, which may run code: convert it" if other else "found none"
        raise ConfigError(
            f"{name}: weights {weights!r}: expected tensors in model.safetensors, {found}; "
            "save_pretrained of a transformers model writes it"
        )
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{name}: weights {weights!r}: expected a {CONFIG} beside the tensors")
    return folder


def _fetched(name: str, weights: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ConfigError(NO_TRANSFORMERS.format(name)) from error
    try:
        wanted = [CONFIG, TENSORS, "*.safetensors.index.json", *TOKENIZER]
        return Path(snapshot_download(weights, allow_patterns=wanted))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{name}: weights {weights!r}: no such folder, and not to be fetched under that name: "
            f"{_first_line(error)}; fetch it elsewhere and give the folder"
        ) from error


def _tokenizer(name: str, folder: Path) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ConfigError(NO_TRANSFORMERS.format(name)) from error
    # Without any file transformers makes a tokenizer that knows no word.
    if not _tokenizer_files(folder):
        raise ConfigError(
            f"{name}: weights {str(folder)!r}: no tokenizer; expected tokenizer.json, or vocab.txt"
        )
    try:
        # Tokenizers that count the space before a word need to be told that there is one.
        found = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, add_prefix_space=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{name}: weights {str(folder)!r}: no tokenizer can be read: {_first_line(error)}"
        ) from error
    if not getattr(found, "is_fast", False):
        raise ConfigError(
            f"{name}: weights {str(folder)!r}: expected a tokenizer that tells which word a piece "
            "belongs to, with a tokenizer.json; found one without"
        )
    return found


def _network(name: str, folder: Path) -> nn.Module:
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        network, told = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"{name}: weights {str(folder)!r}: cannot be loaded: {_first_line(error)}"
        ) from error
    # The pooler reads the first token for whole sentences; many checkpoints have none.
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    missing = sorted(key for key in told["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ConfigError(
            f"{name}: weights {str(folder)!r} do not fit: missing {', '.join(missing[:5])}"
        )
    return network.eval().requires_grad_(requires_grad=False)


def _positions(network: nn.Module, config: Any) -> int:
    """Count the positions that a network knows; some of RoBERTa's are kept for padding."""
    known = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
    embeddings: Any = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    kept = getattr(embeddings, "padding_idx", None)
    return known if kept is None else known - kept - 1


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _tokenizer_files(folder: Path) -> list[Path]:
    return sorted({path for pattern in TOKENIZER for path in folder.glob(pattern)})


def _files_digest(folder: Path) -> str:
    return digest({path.name: file_digest(path) for path in _tokenizer_files(folder)})


def _config_digest(folder: Path) -> str:
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
    return digest({key: config[key] for key in config if key not in SAID_OF_ITSELF})
