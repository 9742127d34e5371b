"""Names of remotes: a small file in the project's folder, to be kept with the project.

It holds names and URLs and nothing else. Credentials come from the places where a cloud's own
programs look for them: environment variables and the cloud's configuration files.
"""

from __future__ import annotations

import re
from pathlib import Path

from .atomic import write_json
from .drivers import check_url
from .entries import check_version
from .errors import ConfigError, NotInStoreError
from .place import LocalPlace, parse_record

FILE = "concord.remotes.json"
VERSION = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def remotes(project: Path) -> dict[str, str]:
    """Give a project's remotes: name to URL or folder.

    Raises:
        ConfigError: The file holds something else, or a URL with a secret in it.
        StoreError: The file is not JSON.
    """
    where = f"{project / FILE}"
    try:
        record = parse_record(LocalPlace(str(project)).read(FILE), where)
    except FileNotFoundError:
        return {}
    check_version(record, where, VERSION)
    found = record.get("remotes")
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: expected `remotes`, names and URLs")
    for name, url in found.items():
        if not (NAME.fullmatch(name) and isinstance(url, str) and url.isprintable() and url):
            raise ConfigError(f"{where}: expected names and URLs, found {name!r:.80}")
        check_url(url)
    return dict(sorted(found.items()))


def add_remote(project: Path, name: str, url: str) -> None:
    """Give a URL or folder a name in a project; the name may be new or have had another URL.

    Raises:
        ConfigError: It is no name, or the URL carries a user, a password or a query.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"remote {name!r:.80}: expected letters, digits, '_' and '-'")
    check_url(url)
    if not url or not url.isprintable():
        raise ConfigError(f"remote {name}: expected a URL or a folder, found {url!r:.80}")
    known = remotes(project)
    _write(project, {**known, name: url})


def remove_remote(project: Path, name: str) -> None:
    """Forget a name; what is at its URL stays.

    Raises:
        NotInStoreError: No remote has that name.
    """
    known = remotes(project)
    if name not in known:
        raise _unknown(project, name, known)
    _write(project, {key: url for key, url in known.items() if key != name})


def located(project: Path, text: str) -> str:
    """Give the URL or folder that a user means: a remote's name, a URL, or a folder.

    Raises:
        NotInStoreError: None of them.
        ConfigError: The URL carries a user, a password or a query.
    """
    known = remotes(project)
    if text in known:
        return known[text]
    if "://" in text:
        check_url(text)
        return text
    if "/" in text or Path(text).is_dir():
        return text
    raise _unknown(project, text, known)


def _write(project: Path, named: dict[str, str]) -> None:
    write_json(project / FILE, {"version": VERSION, "remotes": named})


def _unknown(project: Path, name: str, known: dict[str, str]) -> NotInStoreError:
    listed = ", ".join(known) or "none"
    return NotInStoreError(
        f"{project / FILE}: no remote {name!r:.80}; remotes here: {listed}; "
        "add one: concord cache remote add NAME URL"
    )
