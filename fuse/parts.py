"""What every head is made of: projections and encoders in front, fully connected layers behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .encoders import build_encoder
from .masking import any_valid, silenced, zeroed

if TYPE_CHECKING:
    from .settings import ExperimentSettings

TARGETS = 2
"""Valence, then arousal."""
MAPS = ("A_", "C_", "Z")
"""How the names of attention and correlation maps begin in `concord.fuse.equations`."""


class Projection(nn.Module):
    """A linear layer per stream; width 0 leaves the stream as it is."""

    def __init__(self, dims: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.streams = tuple(dims)
        self.layers = nn.ModuleList(
            nn.Linear(dim, width) if width else nn.Identity() for dim in dims.values()
        )
        self.dims = {stream: width or dim for stream, dim in dims.items()}

    def forward(
        self, features: Mapping[str, Tensor], valid: Mapping[str, Tensor], rows: Tensor
    ) -> dict[str, Tensor]:
        """(B, T, d) to (B, T, width) per stream; zero wherever there is no value, both sides."""
        out: dict[str, Tensor] = {}
        for stream, layer in zip(self.streams, self.layers, strict=True):
            present = valid[stream] & rows
            x = zeroed(features[stream], present)
            out[stream] = x if isinstance(layer, nn.Identity) else silenced(layer(x), present)
        return out


class Readout(nn.Sequential):
    """Fully connected layers from the fused rows to valence and arousal; hidden 0: one layer."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        if hidden:
            super().__init__(
                nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, TARGETS)
            )
        else:
            super().__init__(nn.Linear(dim, TARGETS))


class FusionHead(nn.Module, ABC):
    """A head as its paper defines it: streams in front, one formula, fully connected layers.

    The streams of one modality are concatenated to that modality's X_m.
    """

    fixed_length = False
    """Mixes along time with L x L matrices, so takes windows of L rows only."""

    def __init__(self, dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> None:
        super().__init__()
        self.length = length
        self.name = settings.head
        self.project = Projection(dims, settings.width)
        self.encoders = nn.ModuleList(
            build_encoder(settings.encoder_of(number), dim, settings)
            for number, dim in enumerate(self.project.dims.values())
        )
        self.modalities = by_modality(dims)
        self.widths = {
            m: sum(self.project.dims[stream] for stream in streams)
            for m, streams in self.modalities.items()
        }
        self.d = sum(self.widths.values())
        """Width of all streams together, in front of the formula."""

    @abstractmethod
    def fuse(self, X: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
        """Apply the formula.

        Args:
            X: Modality to rows (B, T, d_m), zero where there is no value.
            valid: Modality to (B, T).

        Returns:
            `fused` (B, T, …), what the fully connected layers read, and all maps.
        """

    readout: Readout

    def forward(
        self, features: Mapping[str, Tensor], valid: Mapping[str, Tensor], rows: Tensor
    ) -> Tensor:
        """Features {stream: (B, T, d)} with valid {stream: (B, T)}, rows (B, T) to (B, T, 2).

        Raises:
            ValueError: The windows have another length than L; pad them and mask with `rows`.
        """
        return self.readout(self._fused(features, valid, rows)["fused"])

    @torch.no_grad()
    def maps(
        self, features: Mapping[str, Tensor], valid: Mapping[str, Tensor], rows: Tensor
    ) -> dict[str, Tensor]:
        """Give the attention and correlation maps of windows, by their names in the equations."""
        found = self._fused(features, valid, rows)
        return {name: x for name, x in found.items() if name.startswith(MAPS)}

    def _fused(
        self, features: Mapping[str, Tensor], valid: Mapping[str, Tensor], rows: Tensor
    ) -> dict[str, Tensor]:
        if self.fixed_length and rows.shape[-1] != self.length:
            raise ValueError(
                f"head {self.name!r} was built for windows of {self.length} rows, "
                f"got {rows.shape[-1]}; pad short windows and mark the padding in `rows`"
            )
        x = self.project(features, valid, rows)
        present = {stream: valid[stream] & rows for stream in x}
        for stream, encoder in zip(x, self.encoders, strict=True):
            if not isinstance(encoder, nn.Identity):
                x[stream] = encoder(x[stream], present[stream])
        X = {
            m: torch.cat([x[stream] for stream in streams], dim=-1)
            for m, streams in self.modalities.items()
        }
        has = {
            m: any_valid({stream: present[stream] for stream in streams})
            for m, streams in self.modalities.items()
        }
        return self.fuse(X, has)


def by_modality(streams: Mapping[str, int]) -> dict[str, list[str]]:
    """Group streams by modality, named by its first letter: a, v, t."""
    groups: dict[str, list[str]] = {}
    for stream in streams:
        groups.setdefault(stream[0], []).append(stream)
    return groups
