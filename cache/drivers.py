"""The drivers behind URLs: opened without secrets, tried again, and told of in our own words.

What a driver raises is told by its kind and code alone, never in its own words: those may quote a
signed address or a key.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .errors import ConcordError, ConfigError, RemoteError, StoreError

T = TypeVar("T")

TRIES = 6
"""How often something is tried before a remote is said not to answer: for 8 s and more."""
LONGEST_SECONDS = 30.0
"""After which nothing is tried again; some drivers try several times by themselves."""
PAUSE_SECONDS = 0.25
"""Before the second try; twice as long before each further one."""
EXTRAS = {"s3": "s3", "s3a": "s3", "http": "http", "https": "http"}
"""Scheme to the extra of this package that installs its driver."""
USERS = {"abfs", "abfss", "sftp", "ssh"}
"""Schemes in which a name before the host is no secret."""
_RAISED = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("azure.core.exceptions", "AzureError"),
    ("paramiko.ssh_exception", "SSHException"),
)
"""What drivers raise that is no OSError: module and class."""
_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenError"}
_CODE = re.compile("[A-Za-z0-9]{1,64}")


class RaceError(RemoteError):
    """Somebody else has written meanwhile what was to be replaced."""


def protocols(system: Any) -> set[str]:
    """Give the schemes that a file system goes by."""
    known = system.protocol
    return {known} if isinstance(known, str) else set(known)


def open_system(url: str) -> tuple[Any, str]:
    """Open the fsspec file system of a URL; gives it and the path in it.

    Raises:
        ConfigError: The URL carries a user, a password or a query.
        StoreError: fsspec knows no such scheme, or its driver is not installed.
    """
    check_url(url)
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        scheme = url.partition("://")[0]
        how = f"pip install 'concord[{EXTRAS[scheme]}]'" if scheme in EXTRAS else str(error)
        raise StoreError(f"{url}: the driver of {scheme}:// is not installed: {how}") from error
    except ValueError as error:
        raise StoreError(f"{url}: cannot be opened: {error}") from error


def check_url(url: str) -> None:
    """Refuse a URL with a secret in it, without repeating the secret.

    Raises:
        ConfigError: It carries a user, a password or a query.
    """
    for part in url.split("::"):
        try:
            split = urlsplit(part)
            host = split.hostname or ""
        except ValueError:
            raise ConfigError(
                "the URL of a store is malformed: expected scheme://host/path"
            ) from None
        user = split.username is not None and split.scheme not in USERS
        if user or split.password is not None or split.query:
            raise ConfigError(
                f"{split.scheme}://{host}…: a URL may not carry a user, a password or a query: "
                "credentials come from the environment or the cloud's own configuration"
            )


def attempt(act: Callable[[], T], where: str) -> T:
    """Do something with a remote, again after a pause where it fails in a way that may pass.

    Raises:
        FileNotFoundError: There is no such file.
        RaceError: A condition of writing does not hold any more.
        RemoteError: It refuses, or has failed every time; `errno` says how, where that is known.
    """
    failed: BaseException | None = None
    begun = time.monotonic()
    tries = 0
    while tries < TRIES and (not tries or time.monotonic() - begun < LONGEST_SECONDS):
        if tries:
            time.sleep(PAUSE_SECONDS * 2 ** (tries - 1))
        tries += 1
        try:
            return act()
        except ConcordError:
            raise
        except _raised() as error:
            problem = _permanent(error, where)
            if problem:
                raise problem from None
            failed = error
    raise RemoteError(
        f"{where}: {tries} tries failed, the last by {_told(failed)}; run again to go on"
    )


def _raised() -> tuple[type[BaseException], ...]:
    """Give what drivers raise when a remote fails."""
    found: list[type[BaseException]] = [OSError, EOFError]
    for module, name in _RAISED:
        known = getattr(sys.modules.get(module), name, None)
        if known is not None:
            found.append(known)
    return tuple(found)


def _permanent(error: BaseException, where: str) -> Exception | None:
    """Make the error of what trying again would not mend."""
    code = _code(error)
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)):
        return FileNotFoundError(where)
    if isinstance(error, PermissionError) or type(error).__name__ in _CREDENTIALS:
        return RemoteError(
            f"{where}: access refused ({_told(error)}); credentials come from the environment or "
            "the cloud's own configuration"
        )
    if isinstance(error, FileExistsError) or code in ("PreconditionFailed", "412", "409"):
        return RaceError(f"{where}: was written by somebody else meanwhile")
    if code == "ConditionalRequestConflict":
        return RaceError(f"{where}: is being written by somebody else")
    if isinstance(error, OSError) and error.errno == errno.ENOSYS:
        refused = RemoteError(f"{where}: the server cannot do this ({_told(error)})")
        refused.errno = errno.ENOSYS
        return refused
    return None


def _code(error: BaseException) -> str:
    """Give the server's code of an error, such as NoSuchBucket or 503; empty where it has none."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        code = code or getattr(each, "status", None)
        if code is not None and _CODE.fullmatch(str(code)):
            return str(code)
    return ""


def _told(error: BaseException | None) -> str:
    """Tell of a driver's error without its own words."""
    number = error.errno if isinstance(error, OSError) else None
    code = _code(error) if error else ""
    known = [code, os.strerror(number) if type(number) is int and number > 0 else ""]
    return ": ".join([type(error).__name__, *(text for text in known if text)])
