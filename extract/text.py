"""Text streams: one vector per row from the word that is spoken at its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .encoder import Encoder
from .rows import new_item, row_times
from .sentences import chunks
from .transcripts import word_of_rows

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ..cache import NewItem
    from .settings import TextSettings
    from .words import Transcript

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRecipe:
    """Everything that determines a text stream's numbers, but for the transcripts."""

    backbone: str
    """Class of the network."""
    weights: str
    """SHA-256 of the tensors."""
    tokenizer: str
    """Digest of the tokenizer's files."""
    config: str
    """Digest of the network's configuration."""
    layers: int
    max_tokens: int
    chunk: str
    pause: float
    dtype: str
    precision: str = "float32"
    version: int = VERSION


class TextStream:
    """A frozen BERT over word-timed transcripts."""

    reads = "transcript"

    def __init__(self, name: str, settings: TextSettings, device: torch.device) -> None:
        """Load the network.

        Raises:
            ConfigError: transformers or the weights are not to be had, or do not fit the settings.
        """
        self.name = name
        self.settings = settings
        self.encoder = Encoder(name, settings, device)
        self.dim = self.encoder.dim
        """Length of a word's vector."""
        self.recipe = TextRecipe(
            backbone=self.encoder.backbone,
            weights=self.encoder.weights,
            tokenizer=self.encoder.tokenizer_digest,
            config=self.encoder.config_digest,
            layers=settings.layers,
            max_tokens=settings.max_tokens,
            chunk=settings.chunk,
            pause=settings.pause,
            dtype=settings.dtype,
        )

    def begin(self, key: str, track: str, rows: int, transcript: Transcript) -> TextItem:
        """Begin an item whose rows' times will come."""
        return TextItem(self, key, track, rows, transcript)

    def vectors(self, transcript: Transcript) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Compute the vectors of a transcript's words, each in the context of its chunk.

        Returns:
            (words, dim), zeros for a word that the tokenizer drops; and which are told, (words,).
        """
        words = transcript.words
        lengths = self.encoder.lengths([word.text for word in words])
        limit = self.encoder.most_pieces
        cut = chunks(words, lengths, limit, self.settings.pause, self.settings.chunk)
        texts = [[word.text for word in words[chunk]] for chunk in cut]
        values = np.zeros((len(words), self.dim), np.float32)
        told = np.zeros(len(words), np.bool_)
        for chunk, (own, known) in zip(cut, self.encoder.encode(texts), strict=True):
            values[chunk], told[chunk] = own, known
        return values, told


class TextItem:
    """One track's rows in the making."""

    def __init__(
        self, stream: TextStream, key: str, track: str, rows: int, transcript: Transcript
    ) -> None:
        self.key = key
        self.track = track
        self._stream = stream
        self._rows = rows
        self._transcript = transcript
        self._times = np.zeros(0)
        self._ended = False

    def begin(self, times: NDArray[np.float64]) -> None:
        """Take the times of all frames of the source: (frames,) seconds, at least one."""
        self._times = row_times(times, self._rows)

    def add(self, chunk: Any) -> None:
        """Refuse pictures and sound: none is asked for."""
        raise AssertionError(f"{self.track}: {type(chunk).__name__} for a transcript")

    def end(self) -> None:
        """Take note that the times are complete."""
        self._ended = True

    @property
    def empty(self) -> bool:
        """The times have not come; without a word there still is an item, of invalid rows."""
        return not len(self._times)

    @property
    def done(self) -> bool:
        """Everything has come."""
        return self._ended

    def item(self) -> NewItem:
        """Give the item, after the end: rows in silence are invalid, and zeros."""
        vectors, told = self._stream.vectors(self._transcript)
        spoken = word_of_rows(self._times, self._transcript.words)
        valid = spoken >= 0
        valid[valid] = told[spoken[valid]]
        values = np.zeros((self._rows, self._stream.dim), np.float32)
        values[valid] = vectors[spoken[valid]]
        dtype = self._stream.recipe.dtype
        return new_item(self.key, self.track, values, valid, self._times, dtype=dtype)
