"""Visual streams: one vector per picture of a track."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import torch
from av import library_versions
from torch import Tensor
from torchvision.transforms.v2 import functional as F  # noqa: N812

from ..cache import MediaError, NewItem
from .backbones import build_backbone, weights_digest
from .faces import list_crops, read_crop
from .rows import new_item, rows_from_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .dataset import Region
    from .decoder import FrameChunk
    from .settings import VisualSettings

VERSION = 1
BATCH = 32
"""Pictures per forward pass, always: the last batch is padded, so that a resumed run computes
each row in the same shape as an undisturbed one and gets the same numbers."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualRecipe:
    """Everything that determines a visual stream's numbers."""

    backbone: str
    weights: str
    """SHA-256 of the tensors."""
    reads: str
    reader: str
    resize: int
    crop: int
    dtype: str
    antialias: bool = True
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    precision: str = "float32"
    version: int = VERSION


def reader_name() -> str:
    """Name the reader with the version of the library that decodes underneath."""
    codec = ".".join(str(part) for part in library_versions["libavcodec"])
    return f"pyav {av.__version__} libavcodec {codec}"


class VisualStream:
    """A frozen backbone over pictures."""

    def __init__(self, name: str, settings: VisualSettings, device: torch.device) -> None:
        self.name = name
        self.reads = settings.reads
        self._settings = settings
        self._device = device
        network = build_backbone(settings.backbone, settings.weights)
        self.recipe = VisualRecipe(
            backbone=settings.backbone,
            weights=weights_digest(network),
            reads=settings.reads,
            reader=reader_name() if settings.reads == "video" else "torchvision decode_jpeg",
            resize=settings.resize,
            crop=settings.crop,
            dtype=settings.dtype,
        )
        # A quarter faster on a processor, and as exact.
        self._network = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)

    def begin(self, key: str, track: str, rows: int, region: Region) -> VisualItem:
        """Begin an item whose frames will come in order."""
        return VisualItem(self, key, track, rows, region)

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 on any device to (B, 3, crop, crop) uint8: resize, centre crop."""
        sized = F.resize(images, [self._settings.resize], antialias=True)
        return F.center_crop(sized, [self._settings.crop, self._settings.crop])

    @torch.inference_mode()
    def features(self, images: Tensor) -> NDArray[np.float32]:
        """(B ≤ 32, 3, crop, crop) uint8 to (B, dim)."""
        batch = torch.zeros(BATCH, *images.shape[1:], device=self._device)
        batch[: len(images)] = (images.to(self._device).float() / 255 - self._mean) / self._std
        batch = batch.contiguous(memory_format=torch.channels_last)
        return self._network(batch)[: len(images)].cpu().numpy()

    def from_crops(self, key: str, track: str, rows: int, folder: Path) -> NewItem:
        """Make an item from numbered face crops; rows without a readable face are invalid.

        Raises:
            MediaError: The folder is missing or holds no readable crop.
        """
        crops = list_crops(folder, rows)
        valid = np.zeros(rows, np.bool_)
        batches = [self.features(batch) for batch in _batches(self._read(folder, crops, valid))]
        if not batches:
            raise MediaError(f"{folder.name}: face folder holds no readable image")
        values = np.zeros((rows, batches[0].shape[1]), np.float32)
        values[valid] = np.concatenate(batches)
        # A face folder carries no clock.
        times = np.full(rows, np.nan)
        return new_item(key, track, values, valid, times, dtype=self.recipe.dtype)

    def _read(
        self, folder: Path, crops: dict[int, str], valid: NDArray[np.bool_]
    ) -> Iterator[Tensor]:
        for row, name in crops.items():
            image = read_crop(folder / name)
            if image is not None:
                valid[row] = True
                yield self.prepare(image[None])[0]


class VisualItem:
    """One track's rows in the making, fed with decoded frames."""

    def __init__(
        self, stream: VisualStream, key: str, track: str, rows: int, region: Region
    ) -> None:
        self.key = key
        self.track = track
        self._stream = stream
        self._rows = rows
        self._region: Region = region
        self._times: list[NDArray[np.float64]] = []
        self._waiting: list[Tensor] = []
        self._done: list[NDArray[np.float32]] = []
        self._seen = 0

    def add(self, chunk: FrameChunk) -> None:
        """Take the next frames; those beyond the track's rows are dropped."""
        images = chunk.images[: max(0, self._rows - self._seen)]
        self._seen += len(images)
        if not len(images):
            return
        self._times.append(chunk.times[: len(images)])
        picture = torch.from_numpy(_part(images, self._region)).permute(0, 3, 1, 2)
        self._waiting.extend(self._stream.prepare(picture))
        while len(self._waiting) >= BATCH:
            self._compute(BATCH)

    def _compute(self, count: int) -> None:
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._done.append(self._stream.features(torch.stack(batch)))

    def finish(self) -> NewItem:
        """Compute what is left and fit it to the track's rows; at least one frame has come."""
        if self._waiting:
            self._compute(len(self._waiting))
        features, times = np.concatenate(self._done), np.concatenate(self._times)
        values, valid, times, flags = rows_from_frames(features, times, self._rows)
        dtype = self._stream.recipe.dtype
        return new_item(self.key, self.track, values, valid, times, flags, dtype)


def _part(images: NDArray[Any], region: Region) -> NDArray[Any]:
    half = images.shape[2] // 2
    cut = {"whole": slice(None), "left": slice(0, half), "right": slice(half, None)}[region]
    return np.ascontiguousarray(images[:, :, cut])


def _batches(images: Iterator[Tensor]) -> Iterator[Tensor]:
    waiting: list[Tensor] = []
    for image in images:
        waiting.append(image)
        if len(waiting) == BATCH:
            yield torch.stack(waiting)
            waiting = []
    if waiting:
        yield torch.stack(waiting)
