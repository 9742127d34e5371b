"""Normalisation of features by the training rows' mean and spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..cache import DataError
from .trouble import not_finite

if TYPE_CHECKING:
    from .rows import Rows

BLOCK = 8_192


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Per stream, what is taken off a feature and what it is multiplied by; (dim,) each."""

    mean: dict[str, Tensor]
    scale: dict[str, Tensor]
    """1 / standard deviation (population), 1 for a constant dimension."""

    @classmethod
    def of(cls, rows: Rows, streams: Sequence[str], tracks: Sequence[int]) -> Scaling:
        """Measure over the rows of the training tracks that have a value.

        Args:
            rows: All rows.
            streams: Those that are measured.
            tracks: Places of the training tracks.

        Raises:
            DataError: A stream has no value in any training row, or one that is not finite.
        """
        numbers = rows.numbers(tracks)
        mean: dict[str, Tensor] = {}
        scale: dict[str, Tensor] = {}
        for stream in streams:
            ok = rows.valid[stream].cpu().numpy()[numbers]
            if not ok.any():
                raise DataError(f"stream {stream!r} has no value in any training row")
            mean[stream], scale[stream] = _moments(rows, stream, tracks)
        return cls(mean, scale)

    def __call__(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scale features {stream: (…, dim)} of any type to the default type."""
        return {
            stream: x.to(self.mean[stream].dtype, copy=True)
            .sub_(self.mean[stream])
            .mul_(self.scale[stream])
            for stream, x in features.items()
        }

    def tensors(self) -> dict[str, Tensor]:
        """Give all tensors by name, for a checkpoint."""
        return {
            f"{kind}/{stream}": x.cpu()
            for kind, of in (("mean", self.mean), ("scale", self.scale))
            for stream, x in of.items()
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], device: str = "cpu") -> Scaling:
        """Read what `tensors` gave."""
        found: dict[str, dict[str, Tensor]] = {"mean": {}, "scale": {}}
        for name, x in tensors.items():
            kind, _, stream = name.partition("/")
            if kind in found:
                found[kind][stream] = x.to(device)
        return cls(found["mean"], found["scale"])


def _moments(rows: Rows, stream: str, tracks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and 1 / spread of a stream, joined block by block (Chan, Golub, LeVeque, 1979)."""
    source, ok = rows.sources[stream], rows.valid[stream]
    mean = torch.zeros(source.dim, dtype=torch.float64, device=rows.device)
    square, count = torch.zeros_like(mean), 0
    for at in tracks:
        first, stop = rows.firsts[at], rows.firsts[at] + rows.tracks[at].rows
        for begin in range(first, stop, BLOCK):
            numbers = rows.numbers([at])[begin - first : begin - first + BLOCK]
            x = source.take(numbers)[ok[begin : begin + len(numbers)]]
            if not len(x):
                continue
            var, middle = torch.var_mean(x.float(), dim=0, correction=0)
            if not torch.isfinite(middle).all():
                raise DataError(f"stream {stream!r} holds {not_finite(rows, stream, numbers)}")
            away, total = middle.double() - mean, count + len(x)
            square += var.double() * len(x) + away.square() * (count * len(x) / total)
            mean += away * (len(x) / total)
            count = total
    spread = (square / count).sqrt()
    varies = spread > torch.finfo(torch.float32).eps * mean.abs()
    scale = torch.where(varies, 1 / spread, 1.0)
    kind = torch.get_default_dtype()
    return mean.to(kind), scale.to(kind)
