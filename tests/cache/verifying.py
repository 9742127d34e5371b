"""What tests of verifying share."""

from __future__ import annotations

from concord.cache import (
    FeatureStore,
)
from concord.cache.verify import verify


def found_in(written, **how):
    return verify(FeatureStore(written.path), **how)


def named(findings):
    """Key to the track and the rows of each item that findings name."""
    return {item.key: (item.track, item.rows) for found in findings for item in found.items}


def whole(items):
    return {item.key: (item.track, ((0, len(item.rows)),)) for item in items}
