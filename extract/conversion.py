"""Conversion: what decoders give becomes upright RGB images and mono sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

UPRIGHT = (1, 0, 0, 1)


def to_image(frame: VideoFrame) -> NDArray[np.uint8]:
    """Give a frame as (H, W, 3) RGB as it is to be displayed.

    Raises:
        ValueError: Its pixel format cannot be converted.
    """
    image = frame.to_ndarray(format="rgb24", threads=1)
    return displayed(image, display_matrix(frame))


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Read where the container wants pixels: (x, y) goes to (a x + c y, b x + d y).

    Returns:
        The signs of a, b, c, d; anything but quarter turns and mirrors counts as upright.
    """
    for side in _side_data(frame):
        if side.type.name == "DISPLAYMATRIX":
            values = np.frombuffer(memoryview(side), "<i4")[[0, 1, 3, 4]]
            a, b, c, d = (int(value) for value in np.sign(np.round(values / (1 << 16))))
            if abs(a * d - b * c) == 1 and abs(a) + abs(b) == 1:
                return a, b, c, d
    return UPRIGHT


def _side_data(frame: VideoFrame) -> list[Any]:
    return list(frame.side_data)


def displayed(image: NDArray[Any], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Turn and mirror an image by a display matrix."""
    a, b, c, d = matrix
    if a == 0:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: b + d, :: a + c])


def rotation(matrix: tuple[int, int, int, int]) -> int:
    """Degrees, clockwise, by which a display matrix turns; mirrors are left aside."""
    a, b, _, d = matrix
    return {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}[a if b or d > 0 else -1, b]


def to_mono(frame: AudioFrame) -> NDArray[np.float32]:
    """Give a frame's sound as (samples,), the mean of its channels; full scale is 1.

    Raises:
        ValueError: Its sample format is unknown.
    """
    values = frame.to_ndarray()
    channels = frame.layout.nb_channels
    lines = values if frame.format.is_planar else values.reshape(-1, channels).T
    if lines.dtype.kind in "iu":
        full = float(1 << 8 * lines.dtype.itemsize - 1)
        offset = full if lines.dtype.kind == "u" else 0.0
        lines = (lines.astype(np.float64) - offset) / full
    return lines.mean(axis=0, dtype=np.float64).astype(np.float32)
