"""Code variants behind the contract of a head, to be trained from the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..cache import ConfigError
from .catalogue import check_head
from .masking import any_valid
from .parts import FusionHead, Readout
from .reference import find_reference
from .reference_lfan import CHANNELS

if TYPE_CHECKING:
    from .settings import ExperimentSettings

MODALITIES = {"v": "visual", "a": "audio", "t": "text"}
"""In the order in which the programs join them."""


class ReferenceHead(FusionHead):
    """A code variant between streams and valence and arousal, named by `settings.head`.

    Widths are those of the streams, all else is of the authors' size, with their dropout. A program
    with one model per target is there twice; a block without an output layer gets `Readout` with
    `settings.hidden` and `settings.dropout`. The programs have no masks: a row without a value is a
    row of zeros to them. Batch norm alone leaves such rows out.

    Raises:
        ConfigError: Streams of other modalities than the program joins, of several widths where it
            needs one, or attention heads that do not divide a width.
    """

    def __init__(self, dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> None:
        check_head(settings.head, list(dims))
        super().__init__(dims, length, settings)
        self.variant = find_reference(self.name)
        names = MODALITIES | ({"v": "video"} if "video" in self.variant.INPUTS else {})
        self.inputs = {m: name for m, name in names.items() if m in self.widths}
        sizes = self._sizes(settings.attention_heads or self.variant.HEADS)
        self.fixed_length = "length" in sizes
        copies = 2 if self.variant.OUTPUTS == ("prediction",) else 1
        models = [self.variant(**sizes) for _ in range(copies)]
        self.models = nn.ModuleList(models)
        if models[0].width:
            self.readout = Readout(models[0].width, settings.hidden, settings.dropout)

    def forward(
        self, features: Mapping[str, Tensor], valid: Mapping[str, Tensor], rows: Tensor
    ) -> Tensor:
        """Features {stream: (B, T, d)} with valid {stream: (B, T)}, rows (B, T) to (B, T, 2).

        Raises:
            ValueError: The windows have another length than L; pad them and mask with `rows`.
        """
        fused = self._fused(features, valid, rows)["fused"]
        return self.readout(fused) if "fused" in self.variant.OUTPUTS else fused

    def fuse(self, X: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
        """X {modality: (B, T, d_m)} to `fused`: (B, T, 2), or what the read-out reads."""
        given = {name: X[m] for m, name in self.inputs.items()}
        if self.variant.NORM:
            given["rows"] = any_valid(valid)
        found = [model(**given)[name] for model in self.models for name in self.variant.OUTPUTS]
        fused = found[0] if "fused" in self.variant.OUTPUTS else torch.stack(found, dim=-1)
        return {"fused": fused.transpose(0, 1) if self.variant.TIME_FIRST else fused}

    def _sizes(self, heads: int) -> dict[str, Any]:
        """Give the sizes that the streams decide."""
        widths = {name: self.widths[m] for m, name in self.inputs.items()}
        if self.name.startswith("jca:"):
            return {"length": self.length, **widths}
        if self.name == "rjcma:code":
            return {"length": self.length, "widths": widths}
        if self.name == "concat:jmt":
            return {"joined": self.d}
        if self.name == "leader_follower:encoder":
            return {"dims": widths, "heads": heads}
        if self.name == "leader_follower:model":
            channels = {m: CHANNELS["video" if m == "video" else "logmel"] for m in widths}
            return {"dims": widths, "channels": channels, "heads": heads}
        if len(set(widths.values())) > 1:
            found = ", ".join(f"{name} {width}" for name, width in widths.items())
            raise ConfigError(
                f"head {self.name!r} joins rows of one width, found {found}; set `width`"
            )
        return {"dim": widths["visual"], "heads": heads}
