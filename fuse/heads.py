"""Heads: from the rows of a window to valence and arousal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..cache import ConfigError
from .equations import jca

if TYPE_CHECKING:
    from .settings import ExperimentSettings

TARGETS = 2
"""Valence, then arousal."""


def zeroed(x: Tensor, valid: Tensor) -> Tensor:
    """Set rows without a value to zero: x (B, T, d), valid (B, T)."""
    return torch.where(valid[..., None], x, 0.0)


class Projection(nn.Module):
    """A linear layer per stream in front of a head; width 0 leaves the stream as it is."""

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
            out[stream] = zeroed(layer(zeroed(features[stream], present)), present)
        return out


class Readout(nn.Sequential):
    """Fully connected layers from the fused rows to valence and arousal."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, TARGETS)
        )


class Concat(nn.Module):
    """Feature concatenation and fully connected layers, row by row; any length, causal."""

    def __init__(
        self,
        dims: Mapping[str, int],
        length: int,  # noqa: ARG002 - any length will do
        settings: ExperimentSettings,
    ) -> None:
        super().__init__()
        self.project = Projection(dims, settings.width)
        self.readout = Readout(sum(self.project.dims.values()), settings.hidden, settings.dropout)

    def forward(
        self, features: Mapping[str, Tensor], valid: Mapping[str, Tensor], rows: Tensor
    ) -> Tensor:
        """Features {stream: (B, T, d)} with valid {stream: (B, T)}, rows (B, T) to (B, T, 2)."""
        x = self.project(features, valid, rows)
        return self.readout(torch.cat(list(x.values()), dim=-1))


class JointCrossAttention(nn.Module):
    """JCA as its paper defines it (`equations.jca`); windows of one fixed length, not causal.

    The streams of one modality are concatenated to that modality's X_m.
    """

    def __init__(self, dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> None:
        super().__init__()
        self.length = length
        self.project = Projection(dims, settings.width)
        self.modalities = _by_modality(dims)
        if len(self.modalities) < 2:
            raise ConfigError(
                f"head 'jca' joins at least two modalities, found {', '.join(dims)}; "
                "add a stream of another modality, or use 'concat'"
            )
        widths = {
            m: sum(self.project.dims[stream] for stream in streams)
            for m, streams in self.modalities.items()
        }
        d, k, L = sum(widths.values()), settings.k, length
        shapes: dict[str, tuple[int, int]] = {}
        for m in widths:
            shapes |= {
                f"W_j{m}": (L, L),
                f"W_{m}": (k, L),
                f"W_c{m}": (k, d),
                f"W_h{m}": (L, k),
            }
        self.W = nn.ParameterDict({name: _uniform(shape) for name, shape in shapes.items()})
        self.readout = Readout(d, settings.hidden, settings.dropout)

    def forward(
        self, features: Mapping[str, Tensor], valid: Mapping[str, Tensor], rows: Tensor
    ) -> Tensor:
        """Features {stream: (B, L, d)} with valid {stream: (B, L)}, rows (B, L) to (B, L, 2).

        Raises:
            ValueError: The windows have another length than L; pad them and mask with `rows`.
        """
        if rows.shape[-1] != self.length:
            raise ValueError(
                f"head 'jca' was built for windows of {self.length} rows, got {rows.shape[-1]}; "
                "pad short windows and mark the padding in `rows`"
            )
        x = self.project(features, valid, rows)
        X = {
            m: torch.cat([x[stream] for stream in streams], dim=-1)
            for m, streams in self.modalities.items()
        }
        attended = jca(X, dict(self.W.items()))
        return self.readout(torch.cat([attended[f"X_att{m}"] for m in X], dim=-1))


def _by_modality(streams: Mapping[str, int]) -> dict[str, list[str]]:
    """Group streams by modality, named by its first letter: a, v, t."""
    groups: dict[str, list[str]] = {}
    for stream in streams:
        groups.setdefault(stream[0], []).append(stream)
    return groups


def _uniform(shape: tuple[int, int]) -> nn.Parameter:
    """Draw a weight as torch draws its linear layers': U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = shape[1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """A head and what users need to know of it."""

    build: Callable[[Mapping[str, int], int, ExperimentSettings], nn.Module]
    variant: str
    paper: str
    length: str
    modalities: str


HEADS: dict[str, HeadInfo] = {
    "concat": HeadInfo(Concat, "paper", "feature concatenation", "any", "one or more"),
    "jca": HeadInfo(
        JointCrossAttention,
        "paper",
        "Praveen et al. 2022, arXiv 2203.14779",
        "fixed",
        "two or more",
    ),
}


def build_head(dims: Mapping[str, int], length: int, settings: ExperimentSettings) -> nn.Module:
    """Build the head of an experiment.

    Args:
        dims: Stream to feature width, in the order of the experiment's streams.
        length: Rows of a window.
        settings: Head name and its settings.

    Raises:
        ConfigError: Unknown head, or streams that it cannot join.
    """
    if settings.head not in HEADS:
        raise ConfigError(f"unknown head {settings.head!r}; known: {', '.join(HEADS)}")
    return HEADS[settings.head].build(dims, length, settings)
