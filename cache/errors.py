"""Errors of the whole project: each says what, where, expected, found, and what to do next."""

from __future__ import annotations


class ConcordError(Exception):
    """Base of every error that a user can meet."""

    exit_code = 1


class ConfigError(ConcordError, ValueError):
    """A configuration or command-line value is wrong."""

    exit_code = 2


class DataError(ConcordError, ValueError):
    """A data set's folder, label file or name is not what it should be."""

    exit_code = 4


class MediaError(ConcordError, OSError):
    """A media file or face folder cannot be read; such sources go to quarantine."""

    exit_code = 4


class StoreError(ConcordError, OSError):
    """A store or shard is missing, damaged, or of an unknown version."""

    exit_code = 5


class NotInStoreError(ConcordError, LookupError):
    """A stream, manifest or track that was asked for is not in the store."""

    exit_code = 5

    def __str__(self) -> str:
        """Give the plain message (a LookupError would be quoted)."""
        return str(self.args[0]) if self.args else ""


class RemoteError(ConcordError, ConnectionError):
    """A remote cannot be reached, refuses, or does not answer as it should; it may later."""

    exit_code = 10


class BudgetError(ConcordError, RuntimeError):
    """More sources are in quarantine than the failure budget allows."""

    exit_code = 3


class TrainingError(ConcordError, ArithmeticError):
    """Training cannot go on: the loss is not finite, or there is nothing to learn from."""

    exit_code = 6


class ClusterError(ConcordError, ConnectionError):
    """A cluster has no worker to compute on, or its scheduler is gone."""

    exit_code = 9


class DamageFoundError(ConcordError):
    """Verifying a store found damage; all of it was listed."""

    exit_code = 7


class ChangedInputsError(ConcordError):
    """Inputs are no longer what a store's items were computed from; all of them were listed."""

    exit_code = 8


class UnfitDataError(ConcordError):
    """A check found what prevents a run on a data set; all of it was listed."""

    exit_code = 11
