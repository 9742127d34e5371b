"""Sizes as people write them: `20 GB`."""

from __future__ import annotations

import re

from ..cache import ConfigError

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B")
FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def bytes_of(text: str, where: str) -> int:
    """Give the bytes of `500 MB`, `20 GB` or `1.5 TB`.

    Args:
        text: A number and a unit: B, kB, MB, GB or TB, each a thousand times the one before.
        where: The key that it stands under.

    Raises:
        ConfigError: It is none.
    """
    found = SIZE.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"{where}: expected a size such as 500 MB or 20 GB, found {text!r}")
    return int(float(found[1]) * FACTORS[found[2]])
