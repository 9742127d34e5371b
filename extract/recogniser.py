"""Recognisers: from speech to words with times, by a program of the user's choice."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..cache import ConfigError
from ..cache.digests import digest, file_digest
from ..cache.plugins import offered, plugged_in
from .words import Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUP = "concord.recognisers"
"""Entry points under which installed packages offer recognisers."""
RATE = 16_000
"""Samples per second of the sound that recognisers hear."""


class Recogniser(Protocol):
    """What hears words; one of your own is called as `Class(model=…, language=…, device=…)`.

    It hears one unbroken stretch of sound after another, each from `begin` to `end`.
    """

    name: str
    """What it is, with its version."""
    model: str
    """Name of the model."""
    model_sha256: str
    """Digest of the model's files."""
    language: str
    """Of the stretch that ended last, `en`; empty where it is not known."""

    def begin(self) -> None:
        """Prepare for another stretch of sound."""
        ...

    def hear(self, samples: NDArray[np.float32]) -> Iterable[Word]:
        """Take the next samples, (n,) mono at 16 kHz, some ten seconds.

        Returns:
            Words that are certain by now; their times count from the stretch's first sample.
        """
        ...

    def end(self) -> Iterable[Word]:
        """Take note that the stretch ends, and give the words that are left."""
        ...


class FasterWhisper:
    """OpenAI's Whisper on CTranslate2. It hears a stretch as a whole: 4 MB per minute of sound."""

    def __init__(self, model: str, language: str, device: str) -> None:
        """Load the model.

        Args:
            model: A folder with a CTranslate2 model (`model.bin`), or a name such as `small`,
                which faster-whisper fetches.
            language: `en`, say; where empty, what is heard first decides.
            device: cpu or cuda:N.

        Raises:
            ConfigError: faster-whisper or the model is missing.
        """
        try:
            import faster_whisper  # pyright: ignore[reportMissingImports] - an extra
        except ImportError as error:
            raise ConfigError(
                "recogniser faster-whisper is not installed; pip install 'concord[transcribe]', or "
                "name another with --recogniser module:Class"
            ) from error
        folder = _whisper_folder(model)
        kind, _, number = device.partition(":")
        self._whisper: Any = faster_whisper.WhisperModel(
            str(folder), device=kind, device_index=int(number or 0), local_files_only=True
        )
        self._asked = language or None
        self._samples: list[NDArray[np.float32]] = []
        self.name = f"faster-whisper {version('faster-whisper')}"
        self.model = folder.name if Path(model).is_dir() else model
        self.model_sha256 = _folder_digest(folder)
        self.language = language

    def begin(self) -> None:
        """Prepare for another stretch of sound."""
        self._samples = []

    def hear(self, samples: NDArray[np.float32]) -> Iterable[Word]:
        """Keep the samples."""
        self._samples.append(samples)
        return ()

    def end(self) -> Iterable[Word]:
        """Recognise the stretch; a temperature of 0 gives the same words each time."""
        segments, info = self._whisper.transcribe(
            np.concatenate([np.zeros(0, np.float32), *self._samples]),
            language=self._asked,
            word_timestamps=True,
            vad_filter=True,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        self._samples = []
        self.language = str(info.language)
        for segment in segments:
            for word in segment.words or ():
                start, end = float(word.start), float(word.end)
                yield Word(word.word.strip(), start, max(start, end), float(word.probability))


def _whisper_folder(model: str) -> Path:
    if not model:
        raise ConfigError(
            "recogniser faster-whisper needs --model: a folder with a CTranslate2 model, or a "
            "name such as small"
        )
    folder = Path(model)
    if not folder.is_dir():
        from faster_whisper.utils import (  # pyright: ignore[reportMissingImports]
            download_model,
        )

        try:
            folder = Path(download_model(model))
        except (OSError, ValueError, RuntimeError) as error:
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ConfigError(
                f"model {model!r}: no such folder, and not to be fetched under that name: {why}; "
                "fetch it elsewhere and give the folder"
            ) from error
    if not (folder / "model.bin").is_file():
        raise ConfigError(f"model {str(folder)!r}: expected a CTranslate2 model with a model.bin")
    return folder


def _folder_digest(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return digest({path.name: file_digest(path) for path in files})


RECOGNISERS = {"faster-whisper": FasterWhisper}
"""Built-in recognisers."""


def build_recogniser(name: str, model: str, language: str, device: str) -> Recogniser:
    """Load a recogniser.

    Args:
        name: A built-in one, an entry point of `concord.recognisers`, or `module:Class`.
        model: What it loads, a folder mostly.
        language: What is spoken; where empty, the recogniser finds out or assumes.
        device: cpu or cuda:N.

    Raises:
        ConfigError: Unknown, or it or its model is missing.
    """
    build = RECOGNISERS.get(name) or plugged_in("recogniser", GROUP, name)
    if build is None:
        known = ", ".join(sorted({*RECOGNISERS, *offered(GROUP)}))
        raise ConfigError(f"unknown recogniser {name!r}; known: {known}, or module:Class")
    return build(model=model, language=language, device=device)
