"""What is fine-tuned on what: checked as a whole before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import ConfigError, DataError, digest
from ..cache.atomic import temporary_sibling
from ..cache.digests import DigestMemory
from .audio import audio_backbone
from .compute import load_labels
from .samples import VisualSamples
from .sampling import LabelledTrack
from .settings import AudioSettings, VisualSettings, backbone_of
from .sound_samples import SoundSamples
from .spectrogram import PRESETS
from .training_record import TrainingRecord, training_record
from .visual import preset_of, visual_backbone, window_of
from .weights import SEEDED, weights_digest

if TYPE_CHECKING:
    from .dataset import Dataset, Split
    from .finetune_settings import FinetuneSettings
    from .samples import Samples

SPLITS: tuple[Split, Split] = ("train", "val")
TuneSettings = VisualSettings | AudioSettings
"""Settings of streams whose backbone can be fine-tuned."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A backbone, the rows that it learns from, and how."""

    stream: str
    stream_settings: TuneSettings
    settings: FinetuneSettings
    """With everything filled in."""
    network: Any
    root: Path
    training: Sequence[LabelledTrack]
    validation: Sequence[LabelledTrack]
    record: TrainingRecord
    out: Path

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        stream: str,
        stream_settings: TuneSettings,
        settings: FinetuneSettings,
        out: Path,
    ) -> Problem:
        """Check everything, read the labels, and load the backbone.

        Raises:
            ConfigError: Settings, weights or `out` are not to be had.
            DataError: No labelled tracks, a source in both splits, or a malformed label file.
        """
        _check_out(out)
        _check_splits(dataset)
        root = Path(dataset.root)
        labels: dict[str, str] = {}
        training, validation = (_labelled(dataset, split, labels) for split in SPLITS)
        backbone = backbone_of(stream, stream_settings)
        _check_windows(stream, stream_settings)
        network = _backbone(stream, stream_settings)
        scratch = SEEDED.fullmatch(stream_settings.weights) is not None
        settings = settings.resolved(backbone, network.takes, scratch=scratch)
        record = TrainingRecord(
            stream=stream,
            backbone=backbone,
            init=weights_digest(network),
            dataset=dataset.name,
            edition=dataset.release,
            labels=digest(labels),
            training=tuple(sorted(each.track.name for each in training)),
            validation=tuple(sorted(each.track.name for each in validation)),
            splits=SPLITS,
            stream_settings=asdict(stream_settings),
            settings=settings.decisive(),
        )
        return cls(
            stream, stream_settings, settings, network, root, training, validation, record, out
        )

    def finished(self) -> TrainingRecord | None:
        """Give the record of `out`, where this very training has made it.

        Raises:
            ConfigError: `out` is there, but holds something else.
        """
        if not self.out.exists():
            return None
        found = training_record(self.out)
        differing = found.differences(self.record) if found else []
        if found is None or differing:
            what = f"another, which differs in {', '.join(differing)}" if found else "none"
            raise ConfigError(
                f"{self.out}: expected no file or the weights of this training, found those of "
                f"{what}; delete it, or name another --out"
            )
        return found

    def samples(self, *, margin: int) -> Samples:
        """Give what rows look or sound like; pictures with some pixels more on every side."""
        own = self.stream_settings
        if isinstance(own, AudioSettings):
            return SoundSamples(self.root, PRESETS[own.spectrogram])
        clips = self.network.takes == "clips"
        window = window_of(self.stream, self.network, own)
        preset = preset_of(self.network, own)
        return VisualSamples(self.root, own, preset, window, clips=clips, margin=margin)


def _backbone(stream: str, settings: TuneSettings) -> Any:
    if isinstance(settings, AudioSettings):
        return audio_backbone(stream, settings)
    return visual_backbone(stream, settings)


def _check_windows(stream: str, settings: TuneSettings) -> None:
    if isinstance(settings, VisualSettings) and settings.window.dense:
        raise ConfigError(
            f"{stream}: window.dense: a backbone is fine-tuned on windows; set dense to 0 here, "
            "and give the weights to a dense stream afterwards"
        )


def _check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: expected a name that ends in .safetensors")
    probe = temporary_sibling(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be written: {error.strerror}; name another --out"
        ) from error


def _check_splits(dataset: Dataset) -> None:
    """Refuse data that is trained on and scored by at once, and tracks of a test list."""
    dataset.refuse_leaks()
    for what in ("name", "source"):
        training, validation = (
            {getattr(track, what) for track in dataset.tracks if track.split == split}
            for split in SPLITS
        )
        both = sorted(training & validation)
        if both:
            kind = "track" if what == "name" else what
            raise DataError(
                f"{dataset.root}: {kind} {both[0]!r} is in both {' and '.join(SPLITS)}; "
                "remove one of its label files"
            )


def _labelled(dataset: Dataset, split: Split, digests: dict[str, str]) -> list[LabelledTrack]:
    """Read the labels of a split, and note their digests; tracks without any are left out."""
    found: list[LabelledTrack] = []
    with TemporaryDirectory() as folder:
        memory = DigestMemory(Path(folder))
        for track in dataset.tracks:
            if track.split == split and track.labels is not None:
                labels = load_labels(track, Path(dataset.root), memory)
                values, rows = labels.values.astype(np.float32), np.flatnonzero(labels.valid)
                if len(rows):
                    found.append(LabelledTrack(track, values, rows, labels.times))
                    digests[track.name] = labels.sha256
    if not found:
        raise DataError(
            f"{dataset.root}: no track of split {split!r} has a labelled row; fine-tuning needs "
            f"some in {' and in '.join(SPLITS)}"
        )
    return found


def precise(settings: FinetuneSettings, *, bfloat16: bool) -> FinetuneSettings:
    """Choose the precision where it is left to the hardware.

    Raises:
        ConfigError: bfloat16 is asked for where the hardware does not have it.
    """
    if settings.precision == "bfloat16" and not bfloat16:
        raise ConfigError("finetune: precision: this hardware has no bfloat16; set float32 or auto")
    if settings.precision != "auto":
        return settings
    return replace(settings, precision="bfloat16" if bfloat16 else "float32")
