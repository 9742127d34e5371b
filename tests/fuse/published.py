"""Numbers that reference programs computed, where the folder that holds them is at hand."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


@cache
def published(name: str) -> dict[str, NDArray[Any]]:
    """Give all arrays of one file; skips the test where there is none."""
    folder = os.environ.get("CONCORD_FIXTURES")
    if not folder:
        pytest.skip("CONCORD_FIXTURES is not set: the folder of the reference numbers")
    with np.load(Path(folder) / "fusion" / f"{name}.npz") as stored:
        return dict(stored)
