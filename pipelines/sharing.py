"""Rules of sharing: what may leave a store, and what must be said first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..cache import ConfigError
from ..extract.sensitivity import sensitivity

if TYPE_CHECKING:
    from ..cache import Stream


def check_sensitive(streams: Iterable[Stream], what: str, *, sensitive: bool) -> None:
    """Refuse streams that show people, unless that is meant.

    Args:
        streams: What is to leave a store.
        what: `export`, `push`: for the message.
        sensitive: It is meant.

    Raises:
        ConfigError: Some are `media`; names them.
    """
    if sensitive:
        return
    refused = [
        f"{s.name}@{s.digest[:8]}" for s in streams if sensitivity(s.name, s.recipe) == "media"
    ]
    if refused:
        raise ConfigError(
            f"{what}: {', '.join(refused)}: expected pooled vectors, found what shows people or is "
            "not known (labels, words, spectrograms, crops, a backbone of your own): choose "
            "other streams, or add --sensitive if your data's licence allows it"
        )
