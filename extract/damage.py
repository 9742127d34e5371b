"""Damage: the error at the end of a file of which only some could be given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..cache import MediaError


class DamagedError(MediaError):
    """A file is damaged or ends early; what could be read of it has been given before."""

    def __init__(self, message: str, given: int = 0, missing: Sequence[int] = ()) -> None:
        """Say what is damaged.

        Args:
            message: What, where, why.
            given: How many frames, or stretches of sound, were given.
            missing: Numbers of the frames that were not.
        """
        super().__init__(message)
        self.given = given
        self.missing = tuple(missing)


def damage(path: Path, missing: list[int], total: int, why: str) -> MediaError:
    """Word the error for a file of which frames are missing."""
    given = total - len(missing)
    if not given:
        return MediaError(f"{path.name}: none of its {total} frames can be decoded: {why}")
    intact = missing[0] if missing else total
    lost = f"; {len(missing)} of {total} cannot be decoded" if missing else ""
    message = f"{path.name}: damaged after {intact} frames: {why}{lost}"
    return DamagedError(message, given, missing)
