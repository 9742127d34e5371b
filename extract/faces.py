"""Face folders: crops numbered from 00001.jpg; a missing detection is a missing file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cache import MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CROP = re.compile(r"\d{5,}\.jpe?g", re.IGNORECASE)


def list_crops(folder: Path, rows: int) -> dict[int, str]:
    """List a track's face crops.

    Args:
        folder: The track's face folder.
        rows: Rows of the track; images numbered beyond them are left out.

    Returns:
        Row (from 0) to file name, in order; rows without a face are absent.

    Raises:
        MediaError: The folder is missing or holds no crop.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder.name}: has no face folder")
    numbered = {
        int(path.stem) - 1: path.name
        for path in sorted(folder.iterdir())
        if CROP.fullmatch(path.name)
    }
    crops = {row: numbered[row] for row in sorted(numbered) if 0 <= row < rows}
    if not crops:
        raise MediaError(f"{folder.name}: face folder holds no image numbered 00001 to {rows:05}")
    return crops


def read_crop(path: Path) -> NDArray[np.uint8] | None:
    """Read one face crop as (H, W, 3) uint8 RGB; None where the file is damaged."""
    from PIL import Image

    try:
        with Image.open(path, formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def crop_reader() -> str:
    """Name what decodes the crops, with its version."""
    import PIL
    from PIL import features

    return f"pillow {PIL.__version__} libjpeg {features.version('libjpeg_turbo')}"
