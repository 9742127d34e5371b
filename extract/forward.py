"""Forward passes: a frozen network, made fast, over batches that always have one shape."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, symbolic_trace
from torch.fx.experimental.optimization import fuse

from ..cache import ConfigError
from .backbones import R3D18
from .i3d import I3D

if TYPE_CHECKING:
    from .presets import Preset

Precision = Literal["float32", "bfloat16"]

BATCHES = {"i3d": 4, "r3d18": 4, "resnet18": 32}
"""Inputs per forward pass, always: the last batch is padded, so that a resumed run computes each
row in the same shape as an undisturbed one and gets the same numbers."""
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""What a processor's flags say when it multiplies bfloat16; without, it is slower than float32."""

logger = logging.getLogger(__name__)


def bf16_supported(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 by itself, not by emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and not BF16_FLAGS.isdisjoint(cpuinfo.read_text("utf-8").split())


class Forward:
    """A frozen backbone as a function from uint8 batches to features.

    Batch norms are folded into convolutions, which changes features by rounding only; memory
    formats are chosen by measurement. In float32 a row's features do not depend on the others.

    Args:
        network: A backbone in evaluation mode; it is not changed.
        preset: How uint8 becomes what the network takes.
        batch: Rows of every pass.
        device: Where to compute.
        precision: `float32`, or `bfloat16` by autocast (4e-3 relative error).
        call: How the network computes features of its inputs, if not by its forward.

    Raises:
        ConfigError: The precision is unknown, or the device does not have it.
    """

    def __init__(
        self,
        network: nn.Module,
        preset: Preset,
        batch: int,
        device: torch.device,
        precision: Precision = "float32",
        call: Callable[[nn.Module, Tensor], Tensor] | None = None,
    ) -> None:
        _check(precision, device)
        self.batch = batch
        self.device = device
        self.precision: Precision = precision
        self._preset = preset
        self._format = memory_format(network, device)
        self._call = call
        self._network = _folded(network, whole=call is not None).to(device=device)
        if self._format != torch.contiguous_format:
            self._network.to(memory_format=self._format)  # pyright: ignore[reportCallIssue]
        self._staging = _Staging(device, batch)

    def __call__(self, images: Tensor, zeros: Tensor | None = None) -> Tensor:
        """Compute the features of up to `batch` pictures or clips.

        Args:
            images: (n, 3, H, W) or (n, 3, T, H, W) uint8 on any device; values of a floating
                type are taken as they are (spectrograms, say).
            zeros: (n, T) bool: frames that count as zero after normalisation.

        Returns:
            (n, dim) float32 in main memory.
        """
        return self.submit(images, zeros)()

    @torch.inference_mode()
    def submit(self, images: Tensor, zeros: Tensor | None = None) -> Callable[[], Tensor]:
        """Begin what calling does; the result, when called, waits for the features.

        A GPU computes meanwhile; prepare and submit the next batch before asking for this one.
        """
        count = len(images)
        assert 0 < count <= self.batch, f"{count} rows for a batch of {self.batch}"
        x = self._staging.fill(images, self._format)
        if not x.is_floating_point():
            x = self._preset.normalise(x)
        if zeros is not None:
            x[:count].masked_fill_(as_mask(zeros, x), 0)
        bf16 = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            features = self._call(self._network, x) if self._call else self._network(x)
        return lambda: features[:count].float().cpu()


def as_mask(zeros: Tensor, x: Tensor) -> Tensor:
    """(n, T) to (n, 1, T, 1, 1), or (n, 1, 1, 1) for pictures, on the batch's device."""
    frames = x.shape[2:3] if x.ndim == 5 else ()
    return zeros.to(x.device).view(len(zeros), 1, *frames, 1, 1)


def _check(precision: str, device: torch.device) -> None:
    if precision not in get_args(Precision):
        raise ConfigError(f"precision is {precision!r}; expected one of float32, bfloat16")
    if precision == "bfloat16" and not bf16_supported(device):
        raise ConfigError(
            f"precision bfloat16 on {device}: expected a processor with one of "
            f"{', '.join(sorted(BF16_FLAGS))} or a GPU that has it, found neither; set float32"
        )


def memory_format(network: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last for pictures, and for our clip networks on processors.

    Max pools of I3D are ten times faster with it there; GPUs have none for three axes.
    """
    if not any(tensor.ndim == 5 for tensor in network.parameters()):
        return torch.channels_last
    ours = isinstance(network, I3D | R3D18) and device.type == "cpu"
    return torch.channels_last_3d if ours else torch.contiguous_format


def _folded(network: nn.Module, *, whole: bool) -> nn.Module:
    """Give a copy with folded batch norms, or a plain one of a network that cannot be traced.

    Tracing keeps nothing of a network but its forward, so it does not do for the `whole` of it.
    """
    own: Callable[[], nn.Module] | None = getattr(network, "folded", None)
    if own is not None:
        return own()
    if whole:
        return copy.deepcopy(network)
    try:
        traced = symbolic_trace(network)
    except Exception as error:  # noqa: BLE001 - a user's forward may raise anything on proxies
        logger.info("batch norms stay unfolded: %s cannot be traced: %s", type(network), error)
        return copy.deepcopy(network)
    return copy.deepcopy(network) if _repeats(traced) else fuse(network)


def _repeats(traced: GraphModule) -> bool:
    """Whether a layer with weights is used twice, which folding would count twice."""
    targets = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
    weighted = [
        name for name in targets if any(True for _ in traced.get_submodule(name).parameters())
    ]
    return len(set(weighted)) < len(weighted)


class _Staging:
    """Batches on the device: two pinned buffers, one filled while the other is copied."""

    def __init__(self, device: torch.device, batch: int) -> None:
        self._device = device
        self._batch = batch
        self._pinned: list[tuple[Tensor, torch.cuda.Event]] = []

    def fill(self, images: Tensor, layout: torch.memory_format) -> Tensor:
        """(n, …) to (batch, …) on the device, zero beyond n."""
        shape = (self._batch, *images.shape[1:])
        if self._device.type == "cuda" and images.device.type == "cpu":
            return self._upload(images, shape).contiguous(memory_format=layout)
        x = torch.empty(shape, dtype=images.dtype, device=self._device, memory_format=layout)
        return _filled(x, images)

    def _upload(self, images: Tensor, shape: tuple[int, ...]) -> Tensor:
        buffer, copied = self._next(images, shape)
        # Until then the device may still be reading the batch before last.
        copied.synchronize()
        moved = _filled(buffer, images).to(self._device, non_blocking=True)
        copied.record(torch.cuda.current_stream(self._device))
        return moved

    def _next(self, images: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, torch.cuda.Event]:
        """Take the older buffer, or a new one where there are fewer than two or none that fits."""
        if len(self._pinned) == 2:
            oldest = self._pinned.pop(0)
            if oldest[0].shape == shape and oldest[0].dtype == images.dtype:
                self._pinned.append(oldest)
                return oldest
        new = torch.empty(shape, dtype=images.dtype, pin_memory=True), torch.cuda.Event()
        self._pinned.append(new)
        return new


def _filled(x: Tensor, images: Tensor) -> Tensor:
    x[: len(images)] = images
    x[len(images) :] = 0
    return x
