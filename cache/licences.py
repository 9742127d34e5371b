"""Licences: what a data set's own agreement allows, as a project has written it down.

A small file in the project's folder, beside the names of remotes: who signed for a data set, which
edition, which remotes are covered, and until when. Without a record that covers it, a data set's
features go nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from .atomic import write_json
from .entries import check_name, check_version
from .errors import ConfigError, NotInStoreError
from .manifest import NAME
from .place import LocalPlace, parse_record

FILE = "concord.licences.json"
VERSION = 1
EVERYONE = "*"
"""Covers every remote: a data set that is public."""
_DIGITS = re.compile("[0-9a-f]{6,12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What one signed agreement covers."""

    dataset: str
    signed_by: str
    """Who signed, as the agreement names them."""
    covers: tuple[str, ...]
    """Remotes, by name or URL, and names of those who are given bundles; `*`: everyone."""
    expires: str = ""
    """Last day, `2027-12-31`; empty: it does not end."""
    edition: str = ""
    """`ABAW6`, or the first 6 digits or more of an edition's digest; empty: every edition."""
    note: str = ""
    """What the agreement asks of whoever receives features."""
    citation: str = ""
    """What is to be cited."""

    def check(self) -> None:
        """Check that the record says something.

        Raises:
            ConfigError: A name is missing or none, or the date is no date.
        """
        if not NAME.fullmatch(self.dataset):
            raise ConfigError(f"licence: expected a data set's name, found {self.dataset!r:.80}")
        texts = (self.signed_by, *self.covers, *filter(None, (self.note, self.citation)))
        for text in (*texts, *filter(None, (self.edition,))):
            check_name(text, f"licence of {self.dataset}")
        if not self.covers:
            raise ConfigError(f"licence of {self.dataset}: names nobody who is covered")
        if self.expires:
            _day(self.expires, self.dataset)

    def refusal(self, edition: str, recipients: Collection[str], today: date) -> str:
        """Say why an edition may not go to a recipient; nothing where it may.

        Args:
            edition: A manifest's edition.
            recipients: All names that the one recipient goes by.
            today: The day.
        """
        if not self._of_edition(edition):
            return f"the one signed by {self.signed_by} is of edition {self.edition}"
        if EVERYONE not in self.covers and not set(self.covers) & set(recipients):
            covered = ", ".join(self.covers)
            return f"the one signed by {self.signed_by} covers {covered}"
        if self.expires and today > _day(self.expires, self.dataset):
            return f"the one signed by {self.signed_by} ended on {self.expires}"
        return ""

    def _of_edition(self, edition: str) -> bool:
        release, _, found = edition.rpartition("-")
        if self.edition in ("", edition, release):
            return True
        return bool(_DIGITS.fullmatch(self.edition)) and found.startswith(self.edition)


def check_licensed(
    manifest: str, recipients: Collection[str], known: Iterable[Licence], today: date | None = None
) -> Licence:
    """Find the record that lets a data set's edition go to a recipient.

    Args:
        manifest: `dataset@edition`.
        recipients: All names that the recipient goes by, what the user typed first.
        known: The project's records.
        today: The day; by default the present one in UTC.

    Raises:
        ConfigError: There is none; says what the records of that data set lack.
    """
    dataset, _, edition = manifest.partition("@")
    today = today or datetime.now(UTC).date()
    reasons: list[str] = []
    for licence in known:
        if licence.dataset == dataset:
            why = licence.refusal(edition, recipients, today)
            if not why:
                return licence
            reasons.append(why)
    listed = "; ".join(reasons) or "there is no record of this data set"
    to = next(iter(recipients), "nobody")
    raise ConfigError(
        f"{manifest}: no licence record lets its features go to {to}: {listed}; read the agreement "
        f"that you signed, then record it: concord cache licence add {dataset} --signed-by NAME "
        f"--covers {to} --expires DATE"
    )


def licences(project: Path) -> tuple[Licence, ...]:
    """Give a project's records.

    Raises:
        ConfigError: The file holds something else.
        StoreError: The file is not JSON.
    """
    where = f"{project / FILE}"
    try:
        record = parse_record(LocalPlace(str(project)).read(FILE), where)
    except FileNotFoundError:
        return ()
    check_version(record, where, VERSION)
    listed = record.get("licences")
    if not isinstance(listed, list):
        raise ConfigError(f"{where}: expected `licences`, a list of records")
    return tuple(_parsed(each, where) for each in listed)


def _parsed(record: Any, where: str) -> Licence:
    names = {each.name for each in fields(Licence)}
    covers = record.get("covers") if isinstance(record, dict) else None
    if not isinstance(covers, list) or not record.keys() <= names:
        raise ConfigError(f"{where}: expected {', '.join(sorted(names))}, found {record!r:.200}")
    for name, value in record.items():
        for text in value if name == "covers" else [value]:
            if not isinstance(text, str):
                raise ConfigError(f"{where}: {name}: expected text, found {text!r:.80}")
    try:
        plain: dict[str, Any] = {**record, "covers": tuple(covers)}
        found = Licence(**plain)
    except TypeError as error:
        raise ConfigError(f"{where}: a record is not whole: {error}") from error
    found.check()
    return found


def add_licence(project: Path, licence: Licence) -> None:
    """Record a licence; one of the same data set, edition and signer is replaced.

    Raises:
        ConfigError: It says nothing that can be used.
    """
    licence.check()
    kept = [each for each in licences(project) if _same(each) != _same(licence)]
    _write(project, [*kept, licence])


def remove_licence(project: Path, dataset: str) -> tuple[Licence, ...]:
    """Forget a data set's records; gives them.

    Raises:
        NotInStoreError: There is none.
    """
    known = licences(project)
    gone = tuple(each for each in known if each.dataset == dataset)
    if not gone:
        listed = ", ".join(sorted({each.dataset for each in known})) or "none"
        raise NotInStoreError(
            f"{project / FILE}: no licence of {dataset!r:.80}; data sets there: {listed}"
        )
    _write(project, [each for each in known if each not in gone])
    return gone


def _same(licence: Licence) -> tuple[str, str, str]:
    return licence.dataset, licence.edition, licence.signed_by


def _write(project: Path, known: Iterable[Licence]) -> None:
    listed = [asdict(each) for each in sorted(known, key=_same)]
    write_json(project / FILE, {"version": VERSION, "licences": listed})


def _day(text: str, dataset: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"licence of {dataset}: expires: expected a day such as 2027-12-31, found {text!r:.40}"
        ) from None
